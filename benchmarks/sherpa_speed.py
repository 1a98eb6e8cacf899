"""How fast the real sherpa-ncnn runs exported folders, and how much memory that takes.

    python -m benchmarks.sherpa_speed <folder that sherpa-ncnn runs> …

Every round runs every folder once, in a process of its own, so that a noisy machine treats all
alike; given are the median and the range over the rounds. The audio is noise: how long sherpa-ncnn
takes hardly hangs on what it hears.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path

import numpy as np

from transducer2ncnn import isolated, transcription
from transducer2ncnn.features import SAMPLE_RATE


def run(folder: str, seconds: float, threads: int) -> tuple[float, float, float]:
    """Seconds to load, seconds to decode per second of audio, and peak memory in MB."""
    start = time.perf_counter()
    recognizer = transcription.load_recognizer(folder, threads)
    loaded = time.perf_counter()
    samples = np.random.default_rng(0).standard_normal(int(seconds * SAMPLE_RATE)) * 0.1
    transcription.decode(recognizer, samples.astype(np.float32))
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return loaded - start, (done - loaded) / seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    # As the workflow's own calls would find it: __main__ cannot be imported by another process.
    from benchmarks import sherpa_speed

    figures: dict[Path, list[tuple[float, float, float]]] = {f: [] for f in args.folders}
    for _ in range(args.rounds):
        for folder in args.folders:
            found = isolated.call(sherpa_speed.run, str(folder), args.seconds, args.threads)
            figures[folder].append(found)
    print(f"{'folder':<40} {'load (s)':>9} {'real-time factor':>22} {'peak memory (MB)':>17}")
    for folder, rounds in figures.items():
        load, factor, peak = zip(*rounds, strict=True)
        spread = f"{statistics.median(factor):.3f} ({min(factor):.3f}–{max(factor):.3f})"
        print(f"{folder!s:<40} {statistics.median(load):>9.2f} {spread:>22} {max(peak):>17.0f}")


if __name__ == "__main__":
    main()
