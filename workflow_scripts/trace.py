"""Trace one part of a model to TorchScript."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors, reading
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.export import torchscript
from transducer2ncnn.families import model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    description = reading.read_json(args.description)
    network = model.load_described(args.checkpoint, description, parts=[args.part])
    torchscript.trace(network, args.part, args.output)
    print(f"traced the {args.part}, which computes what the model does at every length checked")


if __name__ == "__main__":
    errors.run(main)
