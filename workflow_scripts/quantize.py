"""Quantize one network by a recipe."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors, reading
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param, scale_table, weights
from transducer2ncnn.quantization import apply, pairing
from transducer2ncnn.quantization.recipes import Part, read_found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", required=True, help="its name, for messages")
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--network", required=True, nargs=2, metavar=("PARAM", "BIN"), type=Path)
    parser.add_argument("--table", type=Path, help="its scales, if the recipe takes a table")
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--recipe", type=Part.from_json, help="the part's, as JSON")
    how.add_argument("--found", type=Path, help="what a search found, with the part's recipe in it")
    parser.add_argument("--output", required=True, nargs=2, metavar=("PARAM", "BIN"), type=Path)
    args = parser.parse_args()

    graph = param.read(args.network[0])
    part = read_found(args.found)[args.part] if args.found else args.recipe
    table = scale_table.read(args.table) if args.table else None
    description = reading.read_json(args.description)
    architecture = described(description)
    try:
        modules = pairing.modules(graph, description, args.part)
        formats = part.assign(((layer.name, layer.type) for layer in graph.layers), modules)
        if args.part == "encoder":
            apply.check_frames(formats, architecture.frames_per_segment)
        quantized_graph, quantized = apply.apply(
            graph, weights.read(graph, args.network[1]), formats, part.rest, table
        )
    except errors.UserError as e:
        files = " and ".join(str(f) for f in (args.table, args.network[0]) if f)
        raise errors.UserError(
            f"precisions.{args.precision}, the {args.part}, of {files}: {e}"
        ) from None
    weights.write(args.output[1], quantized)
    param.write(args.output[0], quantized_graph)
    before, after = (Path(f).stat().st_size for f in (args.network[1], args.output[1]))
    print(f"{args.output[1]}: {after / 2**20:.1f} MiB, of {before / 2**20:.1f} in fp32")


if __name__ == "__main__":
    errors.run(main)
