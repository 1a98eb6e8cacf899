"""Say what was made and where: the delivered files, and how far they are from PyTorch."""

import argparse
from pathlib import Path

from transducer2ncnn import errors, summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, type=Path)
    args = parser.parse_args()
    print("\n".join(summary.lines(args.results)))


if __name__ == "__main__":
    errors.run(main)
