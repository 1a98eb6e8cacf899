"""Read a checkpoint's sizes, settle its settings and count its parameters."""

import argparse
import json

from transducer2ncnn.base import errors, files
from transducer2ncnn.engines import pytorch
from transducer2ncnn.families import model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--family", required=True)
    parser.add_argument("--sizes", type=json.loads, default={}, help="sizes that it must have")
    parser.add_argument(
        "--settings", type=json.loads, default={}, help="settings that the configuration states"
    )
    parser.add_argument(
        "--origins", type=json.loads, default={}, help="where settings of these were found"
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    if args.sizes:
        model.check_stated(args.checkpoint, args.family, args.sizes)
    network, description = model.inspect(args.checkpoint, args.family, args.settings, args.origins)
    for name, value in description["sizes"].items():
        print(f"{name}: {value}")
    for name, value in description["settings"].items():
        print(f"{name}: {value}, from {description['settings_from'][name]}")
    # What the layers of the ncnn files are called in PyTorch, for who names them so.
    executed = pytorch.executed(network)
    modules = {part: [f"{kind} {name}" for kind, name in of] for part, of in executed.items()}
    files.write_json(args.output, description | {"modules": modules})
    counts = ", ".join(f"{part} {count:,}" for part, count in description["parameters"].items())
    # One line: it is what a run shows of this.
    print(" ".join([f"{args.checkpoint}: parameters {counts}.", *description["remarks"]]))


if __name__ == "__main__":
    errors.run(main)
