"""Choose the int8 scales of one network."""

import argparse

from transducer2ncnn.base import errors
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.formats import param, scale_table, weights
from transducer2ncnn.quantization import pairing, quantize, statistics, thresholds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--network", required=True, nargs=2, metavar=("PARAM", "BIN"), help="fp32")
    parser.add_argument("--observed", nargs="*", default=[], help="saved histograms, all shards")
    parser.add_argument("--lstm", action="store_true", help="quantize LSTM layers too")
    parser.add_argument("--keep", nargs="*", default=[], help="layers not to quantize")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    graph = param.read(args.network[0])
    unknown = set(args.keep) - {layer.name for layer in graph.layers}
    if unknown:
        raise errors.UserError(
            f"precisions.int8.keep.{args.part}: {', '.join(sorted(unknown))} is not in "
            f"{args.network[0]}. Expected names of its layers, the second column there."
        )
    types = quantize.types_of(args.part, lstm=args.lstm)
    scales = quantize.weight_scales(graph, weights.read(graph, args.network[1]), types, args.keep)
    table = scale_table.ScaleTable(weights=scales)
    if args.observed:
        histograms = statistics.load(args.observed)[args.part]
        by_name = pairing.by_ncnn_name(graph, histograms, args.network[0])
        for name, histogram in by_name.items():
            if name in args.keep:
                continue
            found = thresholds.input_scale(histogram)
            table.inputs[name] = found.scale
            print(
                f"{name:<40} : max = {found.absmax:<15f} threshold = {found.threshold:<15f} "
                f"scale = {found.scale:<15f}"
            )
    scale_table.write(args.output, table)


if __name__ == "__main__":
    errors.run(main)
