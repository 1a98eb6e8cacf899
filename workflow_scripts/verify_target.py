"""Run a model's delivered precisions on an emulated ARM processor; fail where it computes wrong."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors, files, reading
from transducer2ncnn.base.layout import delivered_files
from transducer2ncnn.speech import audio
from transducer2ncnn.verification import target
from transducer2ncnn.verification.emulator import Emulator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emulator", required=True, help="the folder that it is installed in")
    parser.add_argument("--cpu", required=True, help="QEMU's name of the processor")
    parser.add_argument("--reference", required=True, type=Path, help="reference.npz")
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument(
        "--precision",
        required=True,
        nargs="+",
        action="append",
        metavar="NAME FOLDER FILE",
        help="a precision, its folder for sherpa-ncnn, and its files for plain ncnn",
    )
    parser.add_argument("--quantized", nargs="*", default=[], help="which of these are quantized")
    parser.add_argument("--tolerance", required=True, type=float)
    parser.add_argument("--wavs", nargs="*", default=[])
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    folders = {name: Path(folder) for name, folder, *_ in args.precision}
    plain = {name: plain_files(Path(folder), given) for name, folder, *given in args.precision}
    emulator = Emulator(args.emulator, args.cpu)
    description = reading.read_json(args.description)
    recordings = [(wav, audio.read(wav)) for wav in args.wavs]
    found = target.verify(
        emulator,
        args.reference,
        description,
        folders,
        plain,
        recordings,
        args.tolerance,
        args.quantized,
    )
    for name, x in found["precisions"].items():
        errors_ = ", ".join(f"{part} {error:.1e}" for part, error in x["errors"].items())
        print(
            f"{name}: errors {errors_}; {x['same_texts']} of {found['recordings']} texts as on x86"
        )
    warnings = list(target.warnings(found, args.cpu))
    for warning in warnings:
        print(f"warning: {warning}", flush=True)
    target.check(found, args.cpu)
    files.write_json(args.output, {"cpu": args.cpu, "warnings": warnings} | found)
    same = {x["same_texts"] for x in found["precisions"].values()}
    print(
        f"{args.cpu}: {found['segments']} segments and {found['seconds']:.1f} s of recordings; "
        f"texts as on x86: {min(same)} of {found['recordings']}"
    )


def plain_files(folder: Path, given: list[str]) -> dict[str, tuple[Path, Path]]:
    """The files for plain ncnn by part; those that sherpa-ncnn runs are called the same."""
    by_name = {Path(path).name: Path(path) for path in given}
    return {
        part: (by_name[param.name], by_name[bin_.name])
        for part, (param, bin_) in delivered_files(folder).items()
    }


if __name__ == "__main__":
    errors.run(main)
