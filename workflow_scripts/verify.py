"""Compare a model's ncnn files with PyTorch; fail where they part."""

import argparse

from transducer2ncnn.base import errors, files, isolated, reading
from transducer2ncnn.families.registry import described
from transducer2ncnn.verification import as_run
from workflow_scripts.arguments import add_ncnn_files, ncnn_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--description", required=True, help="model.json")
    add_ncnn_files(parser)
    parser.add_argument("--stored", required=True, choices=("fp16", "fp32"))
    parser.add_argument("--tolerance", required=True, type=float)
    parser.add_argument(
        "--tolerance-as-run", required=True, type=float, help="the same at ncnn's own options"
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    architecture = described(reading.read_json(args.description))
    folder = args.encoder[0].parent
    try:
        # ncnn can crash on files that are wrong enough.
        found = isolated.call(
            as_run.verify,
            args.reference,
            architecture,
            ncnn_files(args),
            args.stored,
            args.tolerance,
            args.tolerance_as_run,
        )
    except isolated.IsolatedError as e:
        raise errors.UserError(f"{folder}: ncnn cannot run these files: {e}") from None
    parts, own = found["parts"], found["as_run"]
    proven = sum(x["weights_proven"] for x in parts.values())
    print(f"{folder}: {proven:,} weights are the checkpoint's, to the last bit")
    print(
        f"{folder}: largest errors {_listed({p: x['max_error'] for p, x in parts.items()})}; "
        f"tolerance {args.tolerance:g}; at ncnn's own options {_listed(own['errors'])}; tolerance "
        f"{own['tolerance']:g}"
    )
    files.write_json(args.output, found)


def _listed(errors_: dict[str, float]) -> str:
    return ", ".join(f"{part} {error:.1e}" for part, error in errors_.items())


if __name__ == "__main__":
    errors.run(main)
