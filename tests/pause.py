"""Stopping a rule's command just before its output gets its name, to do something to it there.

A folder's ``sitecustomize`` is run by every Python that has the folder on its path: the rules'
commands are held without a change to the project, which its digests of code would notice. They
take ``BALLAST`` bytes of memory, if it is set. What submits jobs asks for their state every second,
where it would wait ten seconds longer each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

HOOK = """\
import fnmatch, os, sys, time

rename = os.replace

def replace(source, target, **options):
    held = os.environ["HELD"]
    if fnmatch.fnmatch(target, os.environ["HOLD"]) and os.path.exists(held):
        with open(os.environ["PIDS"], "a") as file:
            file.write(f"{os.getpid()}\\n")
        while os.path.exists(held):
            time.sleep(0.05)
    rename(source, target, **options)

os.replace = replace

if any(word.startswith("workflow_scripts.") for word in sys.orig_argv[:3]):
    ballast = b"x" * int(os.environ.get("BALLAST", 0))

if "snakemake" in sys.orig_argv:
    import asyncio

    sleep = asyncio.sleep
    asyncio.sleep = lambda delay, *result: sleep(min(delay, 1), *result)
"""
#: Seconds to wait for something that must happen.
PATIENCE = 300


def wait_for(happened: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)


class Pause:
    """Commands are held where they would give a file that matches ``pattern`` its name."""

    def __init__(self, folder: Path, pattern: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(HOOK)
        self._held, self._pids = folder / "held", folder / "pids"
        self._held.touch()
        self._pids.touch()
        self.variables = {"PYTHONPATH": str(folder), "HOLD": pattern}
        self.variables |= {"HELD": str(self._held), "PIDS": str(self._pids)}

    def pids(self) -> list[int]:
        return [int(line) for line in self._pids.read_text().split()]

    def wait(self, times: int = 1) -> int:
        """Wait until a command is held, for the n-th time; its process's id."""
        wait_for(lambda: len(self.pids()) >= times, "a command to get to where it is held")
        return self.pids()[times - 1]

    def release(self) -> None:
        """Let what is held go on, and hold nothing any more."""
        self._held.unlink(missing_ok=True)
