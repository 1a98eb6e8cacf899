"""How fast the real sherpa-ncnn runs a model, how soon it says something, and in what memory.

Every round runs every model once, so that a noisy machine treats all alike, and each run is a
process of its own. Audio comes in as from a microphone, CHUNK seconds at a time, though without
waiting for it:

- real-time factor: seconds of computing per second of audio, the silence behind it included;
- first-token latency: seconds from the start of a recording to its first token, had it been spoken
  live. That is the audio that had to arrive for it, silence before the first word included, and
  the computing that was not done by then; of all recordings, the median;
- first token heard: the audio alone;
- peak memory: what loading and running the model added to the process's, so that Python is left
  out, which a device does not have;
- load: seconds from the files to a recogniser that is ready.
"""

from __future__ import annotations

import platform
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base import isolated
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines import recognizer
from transducer2ncnn.engines.search import GREEDY, Decoding
from transducer2ncnn.speech.features import SAMPLE_RATE, silence

#: Seconds of audio that are handed over at once.
CHUNK = 0.1
#: Seconds of audio that a round takes at most, less where one recording is longer.
SECONDS = 60.0

#: What is measured, in the order that it is given in.
FIGURES = (
    "real_time_factor",
    "first_token_latency",
    "first_token_heard",
    "peak_memory_mb",
    "load_seconds",
)


def measure(
    folders: dict[str, Path],
    recordings: list[np.ndarray],
    rounds: int,
    threads: int,
    tail_seconds: float,
    decoding: Decoding = GREEDY,
) -> dict[str, dict[str, Any]]:
    """Median, min and max over the rounds of each figure, for each folder.

    Args:
        folders: made for sherpa-ncnn, by name.
        recordings: (n,) float32 samples at 16 kHz each.
        threads: that sherpa-ncnn computes with.
        tail_seconds: silence to put behind each, as the model's architecture has it.

    Returns:
        By name and by figure. A latency is None where not one recording gave a token.

    Raises:
        UserError: sherpa-ncnn refused a model or crashed.
    """
    measured: dict[str, list[dict[str, float | None]]] = {name: [] for name in folders}
    for _ in range(rounds):
        for name, folder in folders.items():
            try:
                found = isolated.call(run, str(folder), recordings, threads, tail_seconds, decoding)
            except isolated.IsolatedError as e:
                raise UserError(f"sherpa-ncnn cannot run {name}: {e}") from None
            measured[name].append(found)
    return {
        name: {figure: _spread([found[figure] for found in rounds_]) for figure in FIGURES}
        for name, rounds_ in measured.items()
    }


def run(
    folder: str,
    recordings: list[np.ndarray],
    threads: int,
    tail_seconds: float,
    decoding: Decoding,
) -> dict[str, float | None]:
    """One measurement, of this process: to be called in one of its own."""
    before = peak_memory()
    start = time.perf_counter()
    loaded = recognizer.load(folder, threads, decoding)
    load_seconds = time.perf_counter() - start
    streamed = [_stream(loaded, samples, tail_seconds) for samples in recordings]
    computing, audio = (sum(column) for column in list(zip(*streamed, strict=True))[:2])
    latencies = [latency for *_, latency in streamed if latency is not None]
    heard = [heard for _, _, heard, _ in streamed if heard is not None]
    return {
        "real_time_factor": computing / audio,
        "first_token_latency": statistics.median(latencies) if latencies else None,
        "first_token_heard": statistics.median(heard) if heard else None,
        "peak_memory_mb": peak_memory() - before,
        "load_seconds": load_seconds,
    }


def _stream(
    loaded: Any, samples: np.ndarray, tail_seconds: float
) -> tuple[float, float, float | None, float | None]:
    """Seconds of computing and of audio; audio arrived and seconds gone by at the first token."""
    samples = np.concatenate([samples, silence(tail_seconds)])
    size = int(CHUNK * SAMPLE_RATE)
    live = Live(loaded)
    for first in range(0, len(samples), size):
        live.accept(samples[first : first + size])
    return live.computing, live.arrived, live.heard, live.latency


class Live:
    """A recording that comes in as from a microphone, and what sherpa-ncnn takes for it.

    Attributes:
        arrived: seconds of audio so far.
        computing: seconds of computing on them.
        heard: seconds of audio that had arrived at the first token, or None.
        latency: seconds gone by at the first token, had it been spoken live, or None.
    """

    def __init__(self, loaded: Any, rate: int = SAMPLE_RATE) -> None:
        """Start a new recording at ``rate``, which sherpa-ncnn resamples if it is not its own."""
        recognizer.start(loaded)
        self._loaded, self._rate, self._samples = loaded, rate, 0
        self.computing = self._clock = 0.0
        self.heard: float | None = None
        self.latency: float | None = None

    @property
    def arrived(self) -> float:
        return self._samples / self._rate

    def accept(self, chunk: np.ndarray) -> None:
        """(n,) float32 samples, the next ones."""
        self._samples += len(chunk)
        start = time.perf_counter()
        self._loaded.accept_waveform(self._rate, chunk)
        took = time.perf_counter() - start
        self.computing += took
        # A chunk waits for its samples, and for the computing on those before it.
        self._clock = max(self._clock, self.arrived) + took
        if self.latency is None and self._loaded.tokens:
            self.heard, self.latency = self.arrived, self._clock


def peak_memory() -> float:
    """The most memory that this process ever held, in MB."""
    try:
        # Not getrusage's, which on Linux starts at what the parent process held.
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:  # macOS, which counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def some(durations: list[float]) -> int:
    """How many of the first recordings make up a round: one at least."""
    total = np.cumsum(durations)
    return max(1, int((total <= SECONDS).sum()))


def cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _spread(values: list[float | None]) -> dict[str, float] | None:
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return None
    return {"median": statistics.median(found), "min": min(found), "max": max(found)}
