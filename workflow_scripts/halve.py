"""Store one network's weights in half precision."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors
from transducer2ncnn.export import halve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", required=True, nargs=2, metavar=("PARAM", "BIN"), type=Path)
    parser.add_argument("--output", required=True, nargs=2, metavar=("PARAM", "BIN"), type=Path)
    args = parser.parse_args()

    halve.halve(args.network, *args.output)
    before, after = (Path(f).stat().st_size for f in (args.network[1], args.output[1]))
    print(f"{args.output[1]}: {after / 2**20:.1f} MiB, of {before / 2**20:.1f} in fp32")


if __name__ == "__main__":
    errors.run(main)
