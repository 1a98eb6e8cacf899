"""Describe each quantized layer: its scales, and the error that int8 brings to its output."""

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
            nargs=3,
            default=[],
            type=Path,
            metavar=("PARAM", "BIN", "TABLE"),
            help="the part in int8, and its scale table; left out if it is not quantized",
        )
    parser.add_argument("--observed", nargs="*", default=[], help="saved histograms, all shards")
    parser.add_argument("--reference", required=True, help="reference.npz")
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument("--wavs", required=True, nargs="+")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    int8 = {part: getattr(args, part) for part in PARTS if getattr(args, part)}
    observed = statistics.load(args.observed)
    description = reading.read_json(args.description)
    recordings = [audio.read(wav) for wav in args.wavs]
    try:
        found = isolated.call(
            layerwise.errors,
            ncnn_files(args, prefix="fp32_"),
            {part: (graph, bin_) for part, (graph, bin_, _) in int8.items()},
            description,
            recordings,
        )
    except isolated.IsolatedError as e:
        raise errors.UserError(f"ncnn cannot run {', '.join(int8)} in int8: {e}") from None

    measured = found.pop("layers")
    layers = []
    for part, (graph_file, bin_, table_file) in int8.items():
        graph, table = param.read(graph_file), scale_table.read(table_file)
        names = layerwise.pytorch_names(args.reference, part, graph)
        histograms = (
            pairing.by_ncnn_name(graph, observed[part], graph_file) if part in observed else {}
        )
        for layer, _ in layerwise.quantized(graph, weights.read(graph, bin_)):
            histogram = histograms.get(layer.name)
            layers.append(
                layerwise.figures(part, layer, names[layer.name], table, histogram)
                | measured[part][layer.name]
            )
    files.write_json(args.output, found | {"layers": layers})
    for part in int8:
        ratios = [
            (layer["alone"]["snr_db"], layer["name"])
            for layer in layers
            if layer["part"] == part and layer["alone"]["snr_db"] is not None
        ]
        if ratios:
            snr, name = min(ratios)
            print(f"{part}: most is lost in {name}, {snr:.1f} dB above what int8 adds")


if __name__ == "__main__":
    errors.run(main)
