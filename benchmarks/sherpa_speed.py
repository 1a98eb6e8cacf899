"""How fast the real sherpa-ncnn runs exported folders, and how much memory that takes.

    python -m benchmarks.sherpa_speed <folder that sherpa-ncnn runs> …

As the workflow measures it (transducer2ncnn/evaluation/speed.py), on noise: what is in the audio
hardly changes how long sherpa-ncnn takes. Given are the median and the range over the rounds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from transducer2ncnn.evaluation import speed
from transducer2ncnn.families.contract import MIN_TAIL_SECONDS
from transducer2ncnn.speech.features import SAMPLE_RATE


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
    folders = {str(folder): folder for folder in args.folders}
    samples = [noise.astype(np.float32)]
    found = speed.measure(folders, samples, args.rounds, args.threads, args.tail)
    print(f"{'folder':<40} {'load (s)':>9} {'real-time factor':>22} {'peak memory (MB)':>17}")
    for folder, figures in found.items():
        factor, memory = figures["real_time_factor"], figures["peak_memory_mb"]
        spread = f"{factor['median']:.3f} ({factor['min']:.3f}–{factor['max']:.3f})"
        load = figures["load_seconds"]["median"]
        print(f"{folder:<40} {load:>9.2f} {spread:>22} {memory['max']:>17.0f}")


if __name__ == "__main__":
    main()
