"""How long people wait: this checkout beside another revision, in turns.

    python -m benchmarks.speed [--against <revision>] [--rounds 3] [<case> ...]

Cases:

- export: digits, all that config.yaml asks for; and nothing: the same again, nothing to do
- full: full size (benchmarks.full_size), from the checkpoint to all of fp32 and fp16
- calibration-8, calibration-3, calibration-1: full size, from recordings (40 s in 8 files, 20 s in
  3, 60 s in one) to the scale tables of int8-table; the fp32 networks are there
- models, recordings: a dry run of 50 models, and of one with 20,000 calibration recordings

Every round runs each case of both revisions, one after the other, so that a noisy machine treats
both alike. Printed are the medians of what each took (benchmarks.measuring). The revision is
checked out beside this one; both run in the same environment.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from benchmarks import measuring, random_models
from benchmarks.measuring import ROOT, Figures, measure
from benchmarks.random_models import write_recordings
from transducer2ncnn.base import isolated
from transducer2ncnn.base.layout import PARTS, file_name

DIGITS = ROOT / "models" / "digits"
CASES = (
    "export",
    "nothing",
    "full",
    "calibration-8",
    "calibration-3",
    "calibration-1",
    "models",
    "recordings",
)
#: Seconds of audio by number of recordings.
CALIBRATED = {8: 40.0, 3: 20.0, 1: 60.0}
MODELS, RECORDINGS = 50, 20_000


class Checkout:
    """A revision of the project, and folders to run it in."""

    def __init__(self, project: Path, work: Path, inputs: Path, cores: int) -> None:
        self._project, self._work, self._inputs, self._cores = project, work, inputs, cores
        work.mkdir()

    def run(self, case: str) -> Figures:
        """Prepare a case, and measure it."""
        kind, _, number = case.partition("-")
        work, targets = getattr(self, f"_{kind}")(*([int(number)] if number else []))
        return measure(lambda: self._snakemake(work, *targets))

    def _snakemake(self, work: Path, *arguments: str) -> None:
        measuring.snakemake(work, *arguments, cores=self._cores, project=self._project)

    def _new(self, name: str) -> Path:
        folder = self._work / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        return folder

    def _export(self) -> tuple[Path, list[str]]:
        work = self._new("digits")
        shutil.copytree(DIGITS.parent, work / "models")
        shutil.copy(self._project / "config.yaml", work)
        return work, []

    def _nothing(self) -> tuple[Path, list[str]]:
        work = self._work / "digits"
        if not work.is_dir():
            work, targets = self._export()
            self._snakemake(work, *targets)
        return work, []

    def _full_config(self, work: Path, more: dict[str, str], precisions: list[str]) -> None:
        for name in ("pretrained.pt", "tokens.txt"):
            (work / name).symlink_to(self._inputs / name)
        model = {"checkpoint": "pretrained.pt", "tokens": "tokens.txt"} | more
        stated = {"models": {"full": model}, "precisions": {name: {} for name in precisions}}
        (work / "config.yaml").write_text(yaml.safe_dump(stated))

    def _full(self) -> tuple[Path, list[str]]:
        work = self._new("full")
        self._full_config(work, {}, ["fp32", "fp16"])
        return work, []

    def _calibration(self, number: int) -> tuple[Path, list[str]]:
        work = self._work / f"calibration-{number}"
        folder = "results/full/ncnn"
        tables = [f"{folder}/int8-table/{part}-scale-table.txt" for part in ("encoder", "joiner")]
        if not work.is_dir():
            work.mkdir()
            write_recordings(work / "wavs", number, CALIBRATED[number])
            self._full_config(work, {"calibration_wavs": "wavs"}, ["fp32", "int8-table"])
            networks = [f"{folder}/fp32/{file_name(part, 'fp32', 'bin')}" for part in PARTS]
            self._snakemake(work, *networks)
        shutil.rmtree(work / "results/full/calibration", ignore_errors=True)
        for table in tables:
            (work / table).unlink(missing_ok=True)
        return work, tables

    def _planned(self, name: str, models: int, more: dict[str, str]) -> tuple[Path, list[str]]:
        work = self._work / name
        work.mkdir(exist_ok=True)
        model = {"checkpoint": str(DIGITS / "pretrained.pt"), "tokens": str(DIGITS / "tokens.txt")}
        model |= {"test_wavs": str(DIGITS / "test_wavs"), **more}
        stated = {"models": {f"m{i}": model for i in range(models)}}
        stated["precisions"] = {name: {} for name in ("fp32", "fp16", "int8-table")}
        (work / "config.yaml").write_text(yaml.safe_dump(stated))
        return work, ["-n"]

    def _models(self) -> tuple[Path, list[str]]:
        wavs = str(DIGITS / "calibration_wavs")
        return self._planned("models", MODELS, {"calibration_wavs": wavs})

    def _recordings(self) -> tuple[Path, list[str]]:
        wavs = self._inputs / "many"
        if not wavs.is_dir():
            wavs.mkdir()
            one = next(iter(DIGITS.glob("calibration_wavs/*.wav")))
            for i in range(RECORDINGS):
                (wavs / f"{i:05}.wav").symlink_to(one)
        return self._planned("recordings", 1, {"calibration_wavs": str(wavs)})


@contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[Path]:
    """A folder with the project as it is in a revision."""
    git = ["git", "-C", ROOT]
    look_up = [*git, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    if subprocess.run(look_up, stdout=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"--against: this repository has no revision {revision!r}")
    subprocess.run([*git, "worktree", "add", "--quiet", "--detach", folder, revision], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", folder], check=True)


def compare(checkouts: dict[str, Checkout], cases: list[str], rounds: int) -> None:
    found: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    for _ in range(rounds):
        for case in cases:
            for name, checkout in checkouts.items():
                found[case, name].append(checkout.run(case))
    print(f"medians of {rounds} rounds")
    for (case, name), rows in found.items():
        medians = Figures(*(statistics.median(column) for column in zip(*rows, strict=True)))
        print(f"{case:<14} {name:<12} {medians}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="case")
    parser.add_argument("--against", metavar="REVISION", help="of git, to run in turns with this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        full = folder / "inputs"
        full.mkdir()
        isolated.call(random_models.write_model, full)
        this = Checkout(ROOT, folder / "this", full, args.cores)
        cases = args.cases or list(CASES)
        if args.against is None:
            compare({"this": this}, cases, args.rounds)
            return
        with checked_out(args.against, folder / "project") as project:
            other = Checkout(project, folder / "other", full, args.cores)
            compare({args.against[:12]: other, "this": this}, cases, args.rounds)


if __name__ == "__main__":
    main()
