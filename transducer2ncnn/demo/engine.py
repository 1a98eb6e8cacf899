"""sherpa-ncnn with one delivered folder, in a process of its own, fed piece by piece.

It ends its process on a bad model, and several precisions are to compute at the same time.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines import recognizer
from transducer2ncnn.evaluation.speed import Live

#: Seconds that a process which was ended is waited for.
PATIENCE = 2.0


@dataclass(frozen=True)
class Heard:
    """What was recognised so far, and what it took.

    Attributes:
        seconds: of audio; the silence behind it counts.
        real_time_factor: seconds of computing for each of them.
        first_token: seconds from the start to the first token, had it been spoken live.
    """

    text: str
    seconds: float
    real_time_factor: float
    first_token: float | None


class Engine:
    """One recording, recognised by one precision. To be used as a context; every call blocks."""

    def __init__(self, folder: Path, tail_seconds: float, rate: int) -> None:
        """
        Args:
            folder: delivered for sherpa-ncnn.
            tail_seconds: silence to put behind the recording.
            rate: of the samples; sherpa-ncnn resamples them.
        """
        # Not forked: the process that serves the page has threads.
        context = multiprocessing.get_context("spawn")
        self._folder = folder
        self._here, there = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(there, str(folder), tail_seconds, rate), daemon=True
        )
        self._process.start()
        there.close()  # so that its end is noticed here

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join(PATIENCE)
        self._here.close()

    def loaded(self) -> float:
        """Wait for the model; the seconds that loading it took."""
        return self._reply()

    def accept(self, samples: np.ndarray) -> Heard:
        """(n,) float32 samples, the next ones of the recording."""
        self._send(samples)
        return self._reply()

    def finish(self) -> Heard:
        """There are no more."""
        self._send(None)
        return self._reply()

    def _send(self, samples: np.ndarray | None) -> None:
        with contextlib.suppress(OSError):  # its end shows in the reply
            self._here.send(samples)

    def _reply(self) -> Any:
        """
        Raises:
            UserError: sherpa-ncnn refused the model or crashed.
        """
        try:
            return self._here.recv()
        except (EOFError, OSError):
            self._process.join(PATIENCE)
            raise UserError(
                f"sherpa-ncnn cannot run {self._folder}: its process ended with status "
                f"{self._process.exitcode}. What it printed last is in the terminal."
            ) from None


def _serve(connection: Connection, folder: str, tail_seconds: float, rate: int) -> None:
    # Whoever interrupts the page in the terminal means the page, which ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start = time.perf_counter()
    loaded = recognizer.load(folder, threads=1)
    live = Live(loaded, rate)
    # If the page's process is gone, nobody wants to know.
    with contextlib.suppress(EOFError, OSError):
        connection.send(time.perf_counter() - start)
        while (samples := connection.recv()) is not None:
            live.accept(samples)
            connection.send(_heard(loaded, live))
        live.accept(np.zeros(int(tail_seconds * rate), dtype=np.float32))
        loaded.input_finished()
        connection.send(_heard(loaded, live))


def _heard(loaded: Any, live: Live) -> Heard:
    factor = live.computing / live.arrived if live.arrived else 0.0
    return Heard(loaded.text.strip(), live.arrived, factor, live.latency)
