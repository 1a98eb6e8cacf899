"""Fetch an emulator of ARM processors, with sherpa-ncnn and ncnn for them, into a folder."""

import argparse

from transducer2ncnn.base import errors
from transducer2ncnn.verification import emulator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, help="the folder")
    args = parser.parse_args()
    emulator.install(args.output)


if __name__ == "__main__":
    errors.run(main)
