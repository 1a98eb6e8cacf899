"""Time and memory of calibration and quantization at full size, on a random checkpoint.

    python -m benchmarks.int8 [--seconds 20 --recordings 4] [--deliver <folder>]

Prints seconds per second of audio and the peak memory of the calibration, as many processes at
once as there are shards, and the time of the search for scales and of the quantizer. With
--deliver, a folder for sherpa-ncnn in each recipe that ships is left there, for
benchmarks.sherpa_speed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import yaml

from benchmarks.full_size import FULL_SIZE, ROOT, measure, write_random_checkpoint, write_tokens
from transducer2ncnn.quantization.recipes import SHIPPED
from transducer2ncnn.speech.features import SAMPLE_RATE


def write_recordings(folder: Path, number: int, seconds: float) -> None:
    """Bursts of noise, which keep a random model's activations as busy as speech does."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(number):
        n = int(seconds / number * SAMPLE_RATE)
        level = np.repeat(rng.uniform(0, 0.3, n // 1600 + 1), 1600)[:n]
        soundfile.write(folder / f"{i}.wav", rng.standard_normal(n) * level, SAMPLE_RATE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of audio, in all")
    parser.add_argument("--recordings", type=int, default=4)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--deliver", type=Path, help="folder to leave the exported folders in")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_random_checkpoint(work / "pretrained.pt", FULL_SIZE)
        write_tokens(work / "tokens.txt", FULL_SIZE.vocab_size)
        write_recordings(work / "wavs", args.recordings, args.seconds)

        def snakemake(*targets: str) -> None:
            model = {"checkpoint": "pretrained.pt", "tokens": "tokens.txt"}
            # A random model is sure of nothing, so int8 may well find another best token.
            lenient = {"min_agreement": 0.0, "max_token_edits": 1000.0}
            lenient |= {"min_input_snr": 0.0, "require_speech": False}
            config = {
                "models": {"full": model | {"calibration_wavs": "wavs"}},
                "precisions": {
                    name: {} if recipe.is_plain else lenient for name, recipe in SHIPPED.items()
                },
                "calibration": {"shards": args.shards},
            }
            (work / "config.yaml").write_text(yaml.safe_dump(config))
            command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"]
            command += ["--directory", work, "--configfile", work / "config.yaml"]
            command += ["--cores", str(args.cores), *targets]
            done = subprocess.run(command, cwd=work, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(done.stdout + done.stderr)

        results = "results/full"
        snakemake(
            f"{results}/model.json",
            *(
                f"{results}/ncnn/fp32/{part}_jit_trace-pnnx.ncnn.bin"
                for part in ("encoder", "decoder", "joiner")
            ),
        )
        shards = [f"{results}/calibration/{i + 1}-of-{args.shards}.npz" for i in range(args.shards)]
        seconds, megabytes = measure(lambda: snakemake(*shards))
        print(
            f"calibration: {seconds:.1f} s for {args.seconds:.0f} s of audio, all included: "
            f"{seconds / args.seconds:.3f} s per second; peak memory {megabytes:.0f} MB"
        )
        for log in sorted(work.glob("logs/full/observe-*.log")):
            print(f"  {log.read_text().splitlines()[-1]}")
        tables = [
            f"{results}/ncnn/int8-table/{part}-scale-table.txt" for part in ("encoder", "joiner")
        ]
        seconds, _ = measure(lambda: snakemake(*tables))
        print(f"search for scales: {seconds:.1f} s")
        bins = [
            table.replace("-scale-table.txt", "_jit_trace-pnnx.ncnn.int8.bin") for table in tables
        ]
        seconds, _ = measure(lambda: snakemake(*bins))
        print(f"quantizer: {seconds:.1f} s")
        for file in bins:
            size = (work / file).stat().st_size
            print(f"{file}: {size:,} bytes, {size / 2**20:.1f} MiB")
        if args.deliver:
            snakemake(*(f"{results}/sherpa-ncnn/{name}" for name in SHIPPED))
            for name in SHIPPED:
                shutil.copytree(work / results / "sherpa-ncnn" / name, args.deliver / name)


if __name__ == "__main__":
    main()
