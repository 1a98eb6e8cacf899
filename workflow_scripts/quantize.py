"""Quantize one network by a scale table."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors
from transducer2ncnn.formats import param, scale_table, weights
from transducer2ncnn.quantization import apply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", required=True, nargs=2, metavar=("PARAM", "BIN"), type=Path)
    parser.add_argument("--table", required=True, type=Path)
    parser.add_argument("--rest", required=True, choices=("fp16", "fp32"))
    parser.add_argument("--output", required=True, nargs=2, metavar=("PARAM", "BIN"), type=Path)
    args = parser.parse_args()

    graph = param.read(args.network[0])
    try:
        quantized_graph, quantized = apply.by_table(
            graph, weights.read(graph, args.network[1]), scale_table.read(args.table), args.rest
        )
    except errors.UserError as e:
        raise errors.UserError(f"{args.table} and {args.network[0]}: {e}") from None
    weights.write(args.output[1], quantized)
    param.write(args.output[0], quantized_graph)
    before, after = (Path(f).stat().st_size for f in (args.network[1], args.output[1]))
    print(f"{args.output[1]}: {after / 2**20:.1f} MiB, of {before / 2**20:.1f} in fp32")


if __name__ == "__main__":
    errors.run(main)
