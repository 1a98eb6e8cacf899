"""How the workflow grows with models, recordings, hours and cores, on the model that ships.

    python -m benchmarks.scaling [--models 50] [--recordings 20000] [--seconds 60 600 3600]

Prints the time to plan a run of many models, and one whose model is calibrated on many recordings;
the time and peak memory of the calibration, and of the evaluation's decoding, by seconds of audio
and by number of shards at once; and what the merge of the calibration's shards costs. CPU time is
what another load on the machine leaves as it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import yaml

from benchmarks import measuring
from benchmarks.measuring import ROOT, measure
from transducer2ncnn.base.layout import PARTS, file_name
from transducer2ncnn.quantization import sharing, statistics
from transducer2ncnn.speech.features import SAMPLE_RATE

DIGITS = ROOT / "models" / "digits"
KINDS = ("param", "bin")
#: Seconds of an utterance.
UTTERANCE = 6.0
PRECISIONS = {
    "fp32": {"tolerance": 1e-4},
    "fp16": {"tolerance": 2e-2},
    "int8-table": {"shards": 2},
}


def report(what: str, run: Callable[[], None]) -> None:
    print(f"{what:<64} {measure(run)}", flush=True)


def snakemake(work: Path, models: dict[str, dict[str, str]], *arguments: str) -> None:
    stated = {"models": models, "precisions": PRECISIONS}
    (work / "config.yaml").write_text(yaml.safe_dump(stated))
    measuring.snakemake(work, *arguments)


def plan(work: Path, models: dict[str, dict[str, str]]) -> None:
    # The models of the project's own config.yaml are there as well.
    snakemake(work, models, "-n", *(f"results/{name}" for name in models))


def write_recordings(work: Path, seconds: float, length: float) -> Path:
    """The model's calibration recordings one after another, again and again, cut to ``length``.

    Returns:
        the table of them.
    """
    speech = np.concatenate(
        [soundfile.read(f, dtype="float32")[0] for f in sorted(DIGITS.glob("calibration_wavs/*"))]
    )
    n = int(length * SAMPLE_RATE)
    durations = {}
    for i in range(round(seconds / length)):
        # Shifted a little, so that no recording is there twice.
        samples = np.take(speech, np.arange(i * n, (i + 1) * n) + 997 * i, mode="wrap")
        wav = work / f"{length:.0f}-{i:06}.wav"
        soundfile.write(wav, samples, SAMPLE_RATE)
        durations[str(wav)] = length
    table = work / "recordings.tsv"
    measured = {wav: sharing.Measured(s, -20.0, "-") for wav, s in durations.items()}
    sharing.write_recordings(table, measured)
    return table


def run_shards(script: str, shards: int, *arguments: object) -> None:
    """All shards at once, a process each; ``{shard}`` in an argument is the shard's number."""
    processes = []
    for shard in range(1, shards + 1):
        command = [sys.executable, "-m", f"workflow_scripts.{script}"]
        command += [str(argument).format(shard=shard) for argument in arguments]
        command += ["--shard", str(shard), "--shards", str(shards)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(command, cwd=ROOT, **quiet))
    if any([process.wait() for process in processes]):
        sys.exit(f"{script} failed")


def checkpoint(work: Path) -> tuple[object, ...]:
    """What a script that loads the model is given."""
    described = work / "results/m0/model.json"
    return ("--checkpoint", DIGITS / "pretrained.pt", "--description", described)


def observe(work: Path, recordings: Path, shards: int) -> None:
    output = ("--output", work / f"{{shard}}-of-{shards}.npz")
    run_shards("observe", shards, *checkpoint(work), "--recordings", recordings, *output)


def write_manifest(work: Path, recordings: Path) -> Path:
    """An evaluation's checked manifest of the same recordings, whatever is said in them."""
    wavs = sharing.read_recordings(recordings)
    (work / "evaluation.tsv").write_text("wav\ttext\n" + "".join(f"{w}\tone\n" for w in wavs))
    checked = work / "evaluation.jsonl"
    run_script("check_recordings", "--manifest", work / "evaluation.tsv", "--output", checked)
    return checked


def decode(work: Path, system: str, manifest: Path, shards: int) -> None:
    files = {
        part: [work / f"results/m0/ncnn/fp32/{file_name(part, 'fp32', kind)}" for kind in KINDS]
        for part in PARTS
    }
    model = {
        "pytorch": checkpoint(work),
        "sherpa_ncnn": (
            *(x for part in PARTS for x in (f"--{part}", *files[part])),
            *("--description", work / "results/m0/model.json"),
        ),
    }
    output = ("--output", work / f"{{shard}}-of-{shards}.jsonl")
    with tempfile.TemporaryDirectory() as cache:
        how = ("--decoding", "greedy_search", "--tokens", DIGITS / "tokens.txt")
        how += ("--cache", cache, "--code", "")
        script = f"decode_{system}"
        run_shards(script, shards, *model[system], *how, "--manifest", manifest, *output)


def run_script(script: str, *arguments: object) -> None:
    command = [sys.executable, "-m", f"workflow_scripts.{script}", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--recordings", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0, 600.0, 3600.0])
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = {"tokens": str(DIGITS / "tokens.txt"), "test_wavs": str(DIGITS / "test_wavs")}
        model |= {"calibration_wavs": str(DIGITS / "calibration_wavs")}
        models = {}
        for i in range(args.models):
            shutil.copy(DIGITS / "pretrained.pt", work / f"{i}.pt")
            models[f"m{i}"] = model | {"checkpoint": f"{i}.pt"}
        one = {"m0": models["m0"]}
        report("planning one model", lambda: plan(work, one))
        report(f"planning {args.models} models", lambda: plan(work, models))

        (work / "many").mkdir()
        shutil.copy(DIGITS / "calibration_wavs" / "0.wav", work / "many" / "000000.wav")
        for i in range(1, args.recordings):
            os.link(work / "many" / "000000.wav", work / "many" / f"{i:06}.wav")
        many = {"m0": models["m0"] | {"calibration_wavs": "many"}}
        report(f"planning one model, {args.recordings} recordings", lambda: plan(work, many))
        names = "".join(f"{f}\n" for f in sorted((work / "many").iterdir()))
        (work / "many.txt").write_text(names)
        files = ("--recordings", work / "many.txt", "--output", work / "many.tsv")
        report(
            f"measuring {args.recordings} recordings",
            lambda: run_script("measure_recordings", *files),
        )

        verified = "results/m0/verification/fp32.json"
        snakemake(work, one, verified, "results/m0/tokens.txt")
        runs = [(seconds, UTTERANCE, shards) for seconds in args.seconds for shards in (1, 2)]
        for seconds, length, shards in [*runs, *((s, s, 1) for s in args.seconds[:2])]:
            recordings = write_recordings(work, seconds, length)
            what = f"calibration, {seconds:.0f} s in {round(seconds / length)} recordings"
            report(
                f"{what}, {shards} at once",
                lambda recordings=recordings, shards=shards: observe(work, recordings, shards),
            )

        for system in ("sherpa_ncnn", "pytorch"):
            for seconds, length, shards in runs:
                manifest = write_manifest(work, write_recordings(work, seconds, length))
                report(
                    f"decoding by {system}, {seconds:.0f} s, {shards} at once",
                    lambda system=system, manifest=manifest, shards=shards: decode(
                        work, system, manifest, shards
                    ),
                )

        shard = work / "1-of-2.npz"
        print(f"{'a shard of histograms':<64} {shard.stat().st_size / 1e6:8.1f} MB")
        for shards in (2, 100):
            start = time.perf_counter()
            statistics.load([shard] * shards)
            print(f"{f'merging {shards} shards':<64} {time.perf_counter() - start:8.1f} s")


if __name__ == "__main__":
    main()
