"""Compute PyTorch's side of the verification."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors, reading
from transducer2ncnn.families import model
from transducer2ncnn.verification import reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument("--lengths", required=True, type=int, nargs="+")
    parser.add_argument("--segments", required=True, type=int)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    description = reading.read_json(args.description)
    network = model.load_described(args.checkpoint, description)
    arrays = reference.make(network, args.lengths, args.segments)
    reference.save(args.output, arrays)
    print(f"{len(arrays)} arrays, {sum(a.nbytes for a in arrays.values()) / 1e6:.1f} MB")


if __name__ == "__main__":
    errors.run(main)
