"""The end of a run, which Snakemake's last timer must not put off."""

from __future__ import annotations

import threading

# In this order: neither can be loaded before the other otherwise.
import snakemake.api  # noqa: F401
from snakemake.scheduling.job_scheduler import JobScheduler

from transducer2ncnn.workflow import timers


def test_snakemakes_timers_are_cancelled_and_no_others() -> None:
    before = set(threading.enumerate())
    scheduler = object.__new__(JobScheduler)
    scheduler._open_jobs = threading.Semaphore(0)
    scheduler._schedule_reevalutation(60)
    (snakemakes,) = set(threading.enumerate()) - before
    own = threading.Timer(60, print)
    own.start()
    try:
        timers.cancel()
        snakemakes.join(10)
        assert not snakemakes.is_alive()
        assert own.is_alive()
    finally:
        own.cancel()
