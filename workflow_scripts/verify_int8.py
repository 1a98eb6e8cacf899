"""Compare a quantized precision of a model with its fp32 files on recordings."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors, files, isolated, reading
from transducer2ncnn.quantization import agreement
from transducer2ncnn.speech import audio
from workflow_scripts.arguments import add_ncnn_files, ncnn_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", required=True, help="its name, for messages")
    add_ncnn_files(parser)
    add_ncnn_files(parser, prefix="fp32-")
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument("--wavs", required=True, nargs="+")
    parser.add_argument("--min-agreement", required=True, type=float)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    description = reading.read_json(args.description)
    recordings = [audio.read(wav) for wav in args.wavs]
    try:
        found = isolated.call(
            agreement.compare,
            ncnn_files(args, prefix="fp32_"),
            ncnn_files(args),
            description,
            recordings,
        )
    except isolated.IsolatedError as e:
        raise errors.UserError(
            f"{args.encoder[0].parent}: ncnn cannot run these files: {e}"
        ) from None
    for part, difference in found["parts"].items():
        print(f"{part} alone: {difference}")
    share = found["all"]["same_best_token"]
    if share < args.min_agreement:
        raise errors.UserError(
            f"{args.precision} finds the best token that fp32 finds in {share:.1%} of "
            f"{found['frames']} frames; precisions.{args.precision}.min_agreement asks for "
            f"{args.min_agreement:.1%}. What each part costs by itself is above; more calibration "
            f"audio, or layers left out of quantization (precisions.{args.precision}.keep), may "
            "help."
        )
    files.write_json(args.output, {"min_agreement": args.min_agreement} | found)
    print(f"{args.precision} finds fp32's best token in {share:.1%} of {found['frames']} frames")


if __name__ == "__main__":
    errors.run(main)
