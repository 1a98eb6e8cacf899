"""Choose the int8 scales of one network."""

import argparse

from transducer2ncnn.base import errors, reading
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.formats import param, scale_table, weights
from transducer2ncnn.quantization import calibrated, pairing, quantize, statistics
from transducer2ncnn.quantization.recipes import Part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", required=True, help="its name, for messages")
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--network", required=True, nargs=2, metavar=("PARAM", "BIN"), help="fp32")
    parser.add_argument("--description", required=True, help="model.json")
    parser.add_argument("--recipe", required=True, type=Part.from_json, help="the part's, as JSON")
    parser.add_argument("--observed", nargs="*", default=[], help="saved histograms, all shards")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    graph, part = param.read(args.network[0]), args.recipe
    try:
        modules = pairing.modules(graph, reading.read_json(args.description), args.part)
        tabled = calibrated.tabled(graph, part, modules)
    except errors.UserError as e:
        raise errors.UserError(
            f"precisions.{args.precision}, the {args.part} in {args.network[0]}: {e}"
        ) from None
    others = [layer.name for layer in graph.layers if layer.name not in tabled]
    table = scale_table.ScaleTable(
        quantize.weight_scales(
            graph,
            weights.read(graph, args.network[1]),
            types=set(quantize.QUANTIZED),
            keep=others,
            spare_headroom=part.table.spare_headroom,
        )
    )
    if part.calibrated:
        histograms = statistics.load(args.observed)[args.part]
        inputs = calibrated.inputs(graph, part, histograms, args.network[0], modules)
        for name, found in inputs.items():
            table.inputs[name] = found.scale
            print(
                f"{name:<40} : max = {found.absmax:<15f} threshold = {found.threshold:<15f} "
                f"scale = {found.scale:<15f}"
            )
    scale_table.write(args.output, table)


if __name__ == "__main__":
    errors.run(main)
