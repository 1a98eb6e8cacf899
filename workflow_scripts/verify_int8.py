"""Compare a quantized precision of a model with its fp32 files on recordings."""

import argparse
import json
from pathlib import Path

from transducer2ncnn.base import errors, files, reading
from transducer2ncnn.formats import param
from transducer2ncnn.quantization import calibrated, gate, levels, pairing, sharing, statistics
from transducer2ncnn.quantization.recipes import Part, read_found
from transducer2ncnn.speech import audio
from workflow_scripts.arguments import add_ncnn_files, ncnn_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", required=True, help="its name, for messages")
    add_ncnn_files(parser)
    add_ncnn_files(parser, prefix="fp32-")
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument("--wavs", required=True, nargs="+")
    parser.add_argument("--calibration", help="the calibration recordings, as measured")
    parser.add_argument("--observed", nargs="*", default=[], help="saved histograms, all shards")
    parser.add_argument(
        "--recipe",
        nargs=2,
        action="append",
        default=[],
        metavar=("PART", "JSON"),
        help="of a part that is quantized",
    )
    parser.add_argument("--found", help="what a search found, in place of recipes")
    parser.add_argument(
        "--limits", required=True, type=json.loads, help="JSON: those of quantization.gate.Limits"
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    description = reading.read_json(args.description)
    recordings = {wav: audio.read(wav) for wav in args.wavs}
    warnings = []
    if args.calibration:
        measured = sharing.read_recordings(args.calibration)
        warnings += [*levels.silent(measured), *levels.far(measured, recordings.values())]
        # Now, so that they are there whatever comes next.
        for warning in warnings:
            print(f"warning: {warning}", flush=True)
    fp32 = ncnn_files(args, prefix="fp32_")
    observed = statistics.load(args.observed)
    formats, scales = {}, {}
    recipes = {part: Part.from_json(recipe) for part, recipe in args.recipe}
    for part, how in (read_found(args.found) if args.found else recipes).items():
        file = fp32[part][0]
        graph = param.read(file)
        modules = pairing.modules(graph, description, part)
        formats[part] = how.assign(((layer.name, layer.type) for layer in graph.layers), modules)
        if how.calibrated:
            inputs = calibrated.inputs(graph, how, observed[part], file, modules)
            scales[part] = {name: found.scale for name, found in inputs.items()}
    examined = gate.examine(
        fp32, ncnn_files(args), description, recordings, args.precision, formats, scales
    )
    for part, figures in examined.figures["parts"].items():
        print(f"{part} alone: {figures}")
    print(f"all together: {examined.figures['all']}")
    said = gate.check(examined, gate.Limits(**args.limits), args.precision)
    files.write_json(
        args.output,
        {
            "limits": args.limits,
            "proves_nothing": examined.proves_nothing,
            "warnings": warnings,
        }
        | examined.figures,
    )
    print(said)


if __name__ == "__main__":
    errors.run(main)
