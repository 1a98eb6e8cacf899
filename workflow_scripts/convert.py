"""Convert one traced network to ncnn."""

import argparse

from transducer2ncnn.base import errors
from transducer2ncnn.export import convert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traced", required=True)
    parser.add_argument("--output", required=True, nargs=2, metavar=("PARAM", "BIN"))
    args = parser.parse_args()

    print(convert.convert(args.traced, *args.output))


if __name__ == "__main__":
    errors.run(main)
