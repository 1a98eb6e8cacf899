"""Compare a model's ncnn files with PyTorch; fail where they part."""

import argparse

from transducer2ncnn.base import errors, files, isolated, reading
from transducer2ncnn.families.registry import described
from transducer2ncnn.verification import parity
from workflow_scripts.arguments import add_ncnn_files, ncnn_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--description", required=True, help="model.json")
    add_ncnn_files(parser)
    parser.add_argument("--stored", required=True, choices=("fp16", "fp32"))
    parser.add_argument("--tolerance", required=True, type=float)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    architecture = described(reading.read_json(args.description))
    folder = args.encoder[0].parent
    try:
        # ncnn can crash on files that are wrong enough.
        found = isolated.call(
            parity.compare,
            args.reference,
            architecture,
            ncnn_files(args),
            args.stored,
            args.tolerance,
        )
    except isolated.IsolatedError as e:
        raise errors.UserError(f"{folder}: ncnn cannot run these files: {e}") from None
    errors_ = ", ".join(f"{part} {x['max_error']:.1e}" for part, x in found.items())
    proven = sum(x["weights_proven"] for x in found.values())
    print(f"{folder}: {proven:,} weights are the checkpoint's, to the last bit")
    print(f"{folder}: largest errors {errors_}; tolerance {args.tolerance:g}")
    files.write_json(args.output, {"tolerance": args.tolerance, "parts": found})


if __name__ == "__main__":
    errors.run(main)
