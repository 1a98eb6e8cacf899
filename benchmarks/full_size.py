"""Time, memory and sizes of a whole export at full size, from checkpoint to sherpa-ncnn folders.

    python -m benchmarks.full_size [--family zipformer] [--precisions fp32 fp16 int8]
        [--deliver <folder>]

Makes a checkpoint with random weights (benchmarks.random_models), exports it in a folder of its
own, verification included, runs the workflow again with nothing to do, and prints what each took
(benchmarks.measuring) and the sizes of the files. Precisions that are compared with fp32 on
recordings get made-up ones, and gates that a random model can pass. With --deliver, the folders for
sherpa-ncnn are left there, for benchmarks.sherpa_speed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks import random_models
from benchmarks.measuring import measure, snakemake
from benchmarks.random_models import PARAMETERS
from transducer2ncnn.base import isolated
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.quantization.recipes import SHIPPED

RESULTS = "results/full"
#: A random model is sure of nothing, so int8 may well find another best token; and what it finds is
#: no speech.
LENIENT: dict[str, Any] = {
    "min_agreement": 0.0,
    "max_token_edits": 1000.0,
    "min_input_snr": 0.0,
    "require_speech": False,
}


def write_config(work: Path, family: str, precisions: list[str], **more: Any) -> None:
    """config.yaml for one model in the precisions, and the recordings that they need.

    Args:
        more: other sections.
    """
    quantized = [name for name in precisions if not SHIPPED[name].is_plain]
    wavs = {"calibration_wavs": "wavs"} if quantized else {}
    config = {
        "models": {"full": random_models.stated(family, **wavs)},
        "precisions": {name: LENIENT if name in quantized else {} for name in precisions},
        **more,
    }
    (work / "config.yaml").write_text(yaml.safe_dump(config))


def deliver(work: Path, folder: Path) -> None:
    """Leave the exported folders for sherpa-ncnn in ``folder``, in place of what is there, and the
    model's description beside them."""
    for made in sorted((work / RESULTS / "sherpa-ncnn").iterdir()):
        shutil.rmtree(folder / made.name, ignore_errors=True)
        shutil.copytree(made, folder / made.name)
    shutil.copy(work / RESULTS / "model.json", folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=random_models.FULL_SIZE, default="lstm")
    parser.add_argument("--precisions", nargs="+", choices=SHIPPED, default=["fp32", "fp16"])
    parser.add_argument("--recordings", type=int, default=2, help="where they are needed")
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio, in all")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--deliver", type=Path, help="folder to leave the exported folders in")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        # In a process of its own: those that are measured would begin with this one's memory.
        isolated.call(random_models.write_model, work, args.family)
        random_models.write_recordings(work / "wavs", args.recordings, args.seconds)
        write_config(work, args.family, args.precisions)
        for what in ("everything", "nothing to do"):
            print(f"{what}: {measure(lambda: snakemake(work, cores=args.cores))}", flush=True)
        counted = json.loads((work / RESULTS / "model.json").read_text())["parameters"]
        found = tuple(counted[part] for part in PARTS)
        print("parameters: " + " / ".join(f"{number:,}" for number in found))
        if found != PARAMETERS[args.family]:
            sys.exit(f"expected {PARAMETERS[args.family]}: not the published model's sizes")
        for name in args.precisions:
            for file in sorted((work / RESULTS / "sherpa-ncnn" / name).glob("*.bin")):
                print(f"{name}/{file.name}: {file.stat().st_size:,} bytes")
        if args.deliver:
            deliver(work, args.deliver)


if __name__ == "__main__":
    main()
