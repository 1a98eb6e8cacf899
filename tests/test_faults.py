"""What goes wrong in the middle of a run, for real, and what the next run makes of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, mounted
from pause import Pause
from workflow import Config, Workflow

from transducer2ncnn.base.files import replacing

ENCODER = "results/projection/ncnn/fp32/encoder_jit_trace-pnnx.ncnn"
#: What is asked for: a short chain of rules, and two ends.
TARGETS = (f"{ENCODER}.param", "results/projection/tokens.txt")


class Faulty(Workflow):
    """One small model, of which a part is made."""

    def config(self) -> Config:
        config = super().config()
        del config["models"]["no-projection"]
        return config

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen]:
        """A run in the background, which does not outlive the block, nor does what it starts."""
        arguments = arguments or ("--cores", "2")
        with open(self.work / "run.log", "a+", encoding="utf-8") as log:
            output = {"stdout": log, "stderr": log, "start_new_session": True}
            process = self.start(self.config(), *arguments, "--", *TARGETS, **output)
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def log(self) -> str:
        return (self.work / "run.log").read_text()

    def times(self) -> dict[str, int]:
        """When each file was made, by path."""
        results = self.work / "results"
        files = (f for f in results.rglob("*") if f.is_file() and ".partial-" not in str(f))
        return {str(f.relative_to(results)): f.stat().st_mtime_ns for f in files}

    def partial(self) -> list[Path]:
        return list((self.work / "results").rglob(".partial-*"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Faulty:
    """A run that nothing happens to."""
    workflow = Faulty(tmp_path_factory.mktemp("finished"))
    workflow.run(workflow.config(), *TARGETS)
    return workflow


def unfinished(finished: Faulty, folder: Path) -> Faulty:
    """The same, but for its last file."""
    workflow = Faulty(folder)
    shutil.rmtree(workflow.work)
    shutil.copytree(finished.work, workflow.work)
    for kind in ("param", "bin"):
        (workflow.work / f"{ENCODER}.{kind}").unlink()
    return workflow


def check_whole(workflow: Faulty, finished: Faulty, before: dict[str, int]) -> None:
    """Everything is as it would be without the fault, and what was there ``before`` still is."""
    assert workflow.files() == finished.files()
    assert "projection/torchscript/encoder_jit_trace-pnnx.pt" in before
    after = workflow.times()
    assert {name: after[name] for name in before} == before
    assert not workflow.partial()
    assert workflow.planned(workflow.config(), *TARGETS) == set()


def check_completes(workflow: Faulty, finished: Faulty) -> None:
    """The next run makes what is missing and leaves alone what was made."""
    before = workflow.times()
    workflow.run(workflow.config(), *TARGETS)
    check_whole(workflow, finished, before)


@pytest.fixture
def held(finished: Faulty, tmp_path: Path) -> Iterator[tuple[Faulty, Pause]]:
    """A workflow whose encoder's weights are held half-way."""
    workflow = unfinished(finished, tmp_path)
    pause = Pause(tmp_path / "pause", f"*/{Path(ENCODER).name}.bin")
    workflow.variables = pause.variables
    yield workflow, pause
    pause.release()


def test_a_killed_job(held: tuple[Faulty, Pause], finished: Faulty) -> None:
    workflow, pause = held
    with workflow.running() as run:
        os.kill(pause.wait(), signal.SIGKILL)
        assert run.wait() != 0
    assert "Error in rule convert" in workflow.log()
    assert not (workflow.work / f"{ENCODER}.bin").exists()
    pause.release()
    check_completes(workflow, finished)


def test_snakemake_is_killed(held: tuple[Faulty, Pause], finished: Faulty) -> None:
    workflow, pause = held
    with workflow.running() as run:
        command = psutil.Process(pause.wait())
        run.kill()
        run.wait()
        # Its lock stays, and the next run says so. What it had started goes on.
        again = workflow.snakemake(workflow.config(), "--cores", "2", *TARGETS)
        assert again.returncode != 0 and "--unlock" in again.stdout + again.stderr
        assert command.is_running()
    pause.release()
    workflow.run(workflow.config(), "--unlock")
    assert workflow.partial()
    check_completes(workflow, finished)


def test_a_second_run_is_refused(held: tuple[Faulty, Pause], finished: Faulty) -> None:
    workflow, pause = held
    with workflow.running() as run:
        pause.wait()
        second = workflow.snakemake(workflow.config(), "--cores", "2", *TARGETS)
        assert second.returncode != 0
        assert "Directory cannot be locked" in second.stdout + second.stderr
        pause.release()
        assert run.wait() == 0, workflow.log()
    check_completes(workflow, finished)


def test_two_runs_start_at_once(finished: Faulty, tmp_path: Path) -> None:
    workflow = unfinished(finished, tmp_path)
    with workflow.running() as one, workflow.running() as other:
        done = {one.wait(), other.wait()}
    # Each may have found no lock. What they make is the same, and nothing of it is half-written.
    assert 0 in done, workflow.log()
    check_completes(workflow, finished)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small-disk", megabytes=40) as disk:
        yield disk


def test_a_full_disk(small_disk: Path, finished: Faulty) -> None:
    workflow = unfinished(finished, small_disk)
    size = len(finished.files()[f"{ENCODER.removeprefix('results/')}.bin"])
    filler = small_disk / "filler"
    # There is room for what Snakemake writes down, and for most of what pnnx makes.
    filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - size + 100_000))
    done = workflow.snakemake(workflow.config(), "--cores", "1", *TARGETS)
    assert done.returncode != 0
    assert "Error in rule convert" in done.stdout + done.stderr
    filler.unlink()
    check_completes(workflow, finished)


def test_a_script_says_that_the_disk_is_full() -> None:
    write = "lambda: open('/dev/full', 'w').write('x' * 100_000)"
    script = f"from transducer2ncnn.base import errors; errors.run({write})"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: what was to be written: the disk is full. Make room")


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    script = (
        "import sys; from transducer2ncnn.base.files import replacing\n"
        "with replacing(sys.argv[1]) as partial:\n"
        "    partial.write_text('half'); print(flush=True); input()\n"
    )
    command = [sys.executable, "-c", script, tmp_path / "file"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as killed, subprocess.Popen(command, **pipes) as alive:
        assert killed.stdout.readline() and alive.stdout.readline()
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.glob(".partial-*"))) == 2
        with replacing(tmp_path / "other") as partial:
            partial.write_text("whole")
        assert len(list(tmp_path.glob(".partial-*"))) == 1
        alive.communicate("\n")
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {"file": "half", "other": "whole"}
