"""Snakemake's timers, which a run that has ended would wait for."""

from __future__ import annotations

import threading


def cancel() -> None:
    """Let the process end at once.

    After each look at the jobs that are ready, Snakemake's scheduler sets a timer of a second, to
    look again. The last one would keep a finished run from ending for so long.
    """
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer) and thread.function.__module__.startswith(
            "snakemake."
        ):
            thread.cancel()
