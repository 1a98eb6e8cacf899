"""Write docs/configuration.md."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors
from transducer2ncnn.workflow import configuration_reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()

    args.output.write_text(configuration_reference.text(), encoding="utf-8")


if __name__ == "__main__":
    errors.run(main)
