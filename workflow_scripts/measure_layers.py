"""Describe each quantized layer: its scales, and the error that quantization brings to its
output."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors, files, isolated, reading
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.formats import param, scale_table, weights
from transducer2ncnn.quantization import layerwise, pairing, statistics
from transducer2ncnn.speech import audio
from workflow_scripts.arguments import add_ncnn_files, ncnn_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_ncnn_files(parser, prefix="fp32-")
    for part in PARTS:
        parser.add_argument(
            f"--{part}",
            nargs="+",
            default=[],
            type=Path,
            metavar="FILE",
            help="param and bin of the quantized part, and its scale table if it has one",
        )
    parser.add_argument("--observed", nargs="*", default=[], help="saved histograms, all shards")
    parser.add_argument("--reference", required=True, help="reference.npz")
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument("--wavs", required=True, nargs="+")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    quantized = {part: getattr(args, part) for part in PARTS if getattr(args, part)}
    observed = statistics.load(args.observed)
    description = reading.read_json(args.description)
    recordings = [audio.read(wav) for wav in args.wavs]
    try:
        found = isolated.call(
            layerwise.errors,
            ncnn_files(args, prefix="fp32_"),
            {part: (files[0], files[1]) for part, files in quantized.items()},
            description,
            recordings,
        )
    except isolated.IsolatedError as e:
        raise errors.UserError(
            f"ncnn cannot run {', '.join(quantized)} as quantized: {e}"
        ) from None

    measured = found.pop("layers")
    layers = []
    for part, (graph_file, bin_, *tables) in quantized.items():
        graph, fp32_file = param.read(graph_file), getattr(args, f"fp32_{part}")[0]
        # A layer may be of another type once it is quantized; its name stays.
        fp32_graph = param.read(fp32_file)
        table = scale_table.read(tables[0]) if tables else scale_table.ScaleTable()
        names = layerwise.pytorch_names(args.reference, part, fp32_graph)
        histograms = (
            pairing.by_ncnn_name(fp32_graph, observed[part], fp32_file) if part in observed else {}
        )
        for quantized_layer in layerwise.quantized(fp32_graph, graph, weights.read(graph, bin_)):
            name = quantized_layer.layer.name
            histogram = histograms[name] if name in table.inputs else None
            layers.append(
                layerwise.figures(part, quantized_layer, names[name], table, histogram)
                | measured[part][name]
            )
    files.write_json(args.output, found | {"layers": layers})
    for part in quantized:
        ratios = [
            (layer["alone"]["snr_db"], layer["name"])
            for layer in layers
            if layer["part"] == part and layer["alone"]["snr_db"] is not None
        ]
        if ratios:
            snr, name = min(ratios)
            print(f"{part}: most is lost in {name}, {snr:.1f} dB above what quantization adds")


if __name__ == "__main__":
    errors.run(main)
