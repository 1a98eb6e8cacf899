"""How fast the real sherpa-ncnn runs exported folders, and how much memory that takes.

    python -m benchmarks.sherpa_speed <folder that sherpa-ncnn runs> …

As the workflow measures it (transducer2ncnn/evaluation/speed.py), on noise: what is in the audio
hardly changes how long sherpa-ncnn takes. Given are the median and the range over the rounds, and
the median of the processors' time, of all threads together, which another load on the machine
changes less. Each round runs every folder once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from transducer2ncnn.base import isolated
from transducer2ncnn.engines import recognizer
from transducer2ncnn.engines.search import GREEDY
from transducer2ncnn.evaluation import speed
from transducer2ncnn.families.contract import MIN_TAIL_SECONDS
from transducer2ncnn.speech.features import SAMPLE_RATE


def run(folder: str, samples: np.ndarray, threads: int, tail: float) -> dict[str, float]:
    """One measurement, of this process: the workflow's figures, and seconds of the processors' time
    per second of audio, loading left out. To be called in a process of its own."""
    start = time.process_time()
    figures = speed.run(folder, [samples], threads, tail, GREEDY)
    middle = time.process_time()
    recognizer.load(folder, threads, GREEDY)
    used = middle - start - (time.process_time() - middle)
    seconds = len(samples) / SAMPLE_RATE + tail
    found = {k: figures[k] for k in ("real_time_factor", "peak_memory_mb", "load_seconds")}
    return {k: v for k, v in found.items() if v is not None} | {"cpu": used / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio")
    parser.add_argument("--tail", type=float, default=MIN_TAIL_SECONDS, help="seconds of silence")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    noise = np.random.default_rng(0).standard_normal(int(args.seconds * SAMPLE_RATE)) * 0.1
    # Of the module by its name: the processes import it.
    from benchmarks import sherpa_speed

    samples = noise.astype(np.float32)
    measured: dict[Path, list[dict[str, float]]] = {folder: [] for folder in args.folders}
    for _ in range(args.rounds):
        for folder, rounds in measured.items():
            rounds.append(
                isolated.call(sherpa_speed.run, str(folder), samples, args.threads, args.tail)
            )
    print(f"{'folder':<40} {'load (s)':>9} {'real-time factor':>22} {'CPU':>7} {'memory (MB)':>12}")
    for folder, rounds in measured.items():
        by_figure = {key: [found[key] for found in rounds] for key in rounds[0]}
        factors = by_figure["real_time_factor"]
        spread = f"{statistics.median(factors):.3f} ({min(factors):.3f}–{max(factors):.3f})"
        load, cpu = (statistics.median(by_figure[key]) for key in ("load_seconds", "cpu"))
        memory = max(by_figure["peak_memory_mb"])
        print(f"{folder!s:<40} {load:>9.2f} {spread:>22} {cpu:>7.3f} {memory:>12.0f}")


if __name__ == "__main__":
    main()
