"""Read a checkpoint's sizes and count its parameters."""

import argparse
import json

from transducer2ncnn.base import errors, files
from transducer2ncnn.families import model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--family", required=True)
    parser.add_argument("--sizes", type=json.loads, default={}, help="sizes that it must have")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    if args.sizes:
        model.check_stated(args.checkpoint, args.family, args.sizes)
    description = model.describe(args.checkpoint, args.family)
    for name, value in description["sizes"].items():
        print(f"{name}: {value}")
    files.write_json(args.output, description)
    counts = ", ".join(f"{part} {count:,}" for part, count in description["parameters"].items())
    print(f"{args.checkpoint}: parameters {counts}")


if __name__ == "__main__":
    errors.run(main)
