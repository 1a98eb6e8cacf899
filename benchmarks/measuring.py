"""What a run takes: seconds, processor time and memory of all processes that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parent.parent
#: Seconds from one look at the processes' memory to the next.
INTERVAL = 0.2


class Figures(NamedTuple):
    """What a run took.

    Attributes:
        seconds: on the clock.
        cpu: seconds of the processors' time, of all processes. Another load on the machine
            changes them little.
        largest: the most memory that one process held, in MB: the largest of the kernel's own
            high-water marks of resident memory (VmHWM). Read five times a second, they miss only
            what a process takes in its last 0.2 s.
        together: the most that all processes held at one time, in MB: the sum of their
            proportional set sizes, in which a page that processes share is counted once. What
            comes and goes within 0.2 s is missed.
    """

    seconds: float
    cpu: float
    largest: float
    together: float

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} s, {self.cpu:.1f} CPU s; "
            f"largest process {self.largest:.0f} MB, all together {self.together:.0f} MB"
        )


def measure(run: Callable[[], object]) -> Figures:
    """Measure ``run``, which starts processes and waits for them. This process is left out."""
    largest, together, stop = 0.0, 0.0, threading.Event()

    def watch() -> None:
        nonlocal largest, together
        while not stop.wait(INTERVAL):
            processes = psutil.Process().children(recursive=True)
            largest = max([largest, *map(_high_water, processes)])
            together = max(together, sum(map(_share, processes)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    before, start = os.times(), time.perf_counter()
    try:
        run()
    finally:
        seconds, after = time.perf_counter() - start, os.times()
        stop.set()
        watcher.join()
    cpu = sum(after[2:4]) - sum(before[2:4])  # of children that were waited for
    return Figures(seconds, cpu, largest, together)


def snakemake(
    work: Path,
    *arguments: str | Path,
    cores: int = 2,
    project: Path = ROOT,
    environment: dict[str, str] | None = None,
) -> None:
    """Run the workflow in a folder that has a config.yaml; where it fails, so does the benchmark.

    Args:
        arguments: targets and options of Snakemake's.
        project: the checkout whose workflow it is.
        environment: variables to add to this process's.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", project / "Snakefile"]
    command += ["--workflow-profile", project / "profiles" / "default"]
    command += ["--directory", work, "--configfile", work / "config.yaml"]
    done = subprocess.run(
        [*command, "--cores", str(cores), *arguments],
        cwd=work,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)


def _high_water(process: psutil.Process) -> float:
    """The most resident memory that a process has held, in MB; that of now where no one counts."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):  # it ended meanwhile, or this is not Linux
        try:
            return process.memory_info().rss / 1e6
        except psutil.Error:
            return 0.0


def _share(process: psutil.Process) -> float:
    try:
        return process.memory_full_info().pss / 1e6
    except psutil.Error:
        return 0.0
