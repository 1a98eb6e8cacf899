"""How fast the real sherpa-ncnn runs exported folders, and how much memory that takes.

    python -m benchmarks.sherpa_speed <folder that sherpa-ncnn runs> … [--threads 1 2]
        [--description <model.json of the model that all of them are of>]

As the workflow measures it (transducer2ncnn/evaluation/speed.py), on noise: what is in the audio
hardly changes how long sherpa-ncnn takes. Each round runs every folder once, at each number of
threads. Given are medians over the rounds, with the range of the real-time factor. CPU is the
processors' time per second of audio, of all threads together, which another load on the machine
changes less; beside it stands the ratio to that of the folder called fp32, and of that called fp16,
where they are among the folders: the median over the rounds.

With the description it is also shown where the time goes. sherpa-ncnn does not tell, so plain ncnn
runs the same files, with sherpa-ncnn's options and segment by segment, in the same rounds. Measured
there, in CPU seconds per second of audio, are the features, and the decoder and joiner with the
search, which is Python and so takes rather more than sherpa-ncnn's; the encoder's share is what
these two leave of sherpa-ncnn's own time. (Plain ncnn's encoder would be too slow: its states go to
numpy and back, and it keeps every blob.)
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base import errors, isolated, reading
from transducer2ncnn.base.layout import delivered_files
from transducer2ncnn.engines import recognizer, search
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.engines.search import GREEDY
from transducer2ncnn.evaluation import speed
from transducer2ncnn.families import registry
from transducer2ncnn.families.contract import MIN_TAIL_SECONDS
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats.param import Param
from transducer2ncnn.formats.sherpa import META_DATA_TYPE
from transducer2ncnn.speech.features import SAMPLE_RATE, silence

#: Folders that the others are compared with, by name.
COMPARED_WITH = ("fp32", "fp16")
#: What is measured by plain ncnn.
MEASURED = ("features", "decoder, joiner, search")

Found = dict[str, float]


def run(folder: str, samples: np.ndarray, threads: int, tail: float) -> Found:
    """One measurement, of this process, which is to be one of its own: as ``speed.run``'s, and
    seconds of the processors' time per second of audio, loading left out."""
    held = speed.peak_memory()
    start = time.perf_counter()
    loaded = recognizer.load(folder, threads, GREEDY)
    load_seconds = time.perf_counter() - start
    samples = np.concatenate([samples, silence(tail)])
    size = int(speed.CHUNK * SAMPLE_RATE)
    live = speed.Live(loaded)
    before = time.process_time()
    for first in range(0, len(samples), size):
        live.accept(samples[first : first + size])
    return {
        "cpu": (time.process_time() - before) / live.arrived,
        "real_time_factor": live.computing / live.arrived,
        "peak_memory_mb": speed.peak_memory() - held,
        "load_seconds": load_seconds,
    }


class _Timed:
    """A transducer whose encoder's time is counted."""

    def __init__(self, transducer: NcnnTransducer) -> None:
        self._transducer = transducer
        self.architecture = transducer.architecture
        self.decode, self.join = transducer.decode, transducer.join
        self.encoder = 0.0

    def encode(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        start = time.process_time()
        found = self._transducer.encode(inputs)
        self.encoder += time.process_time() - start
        return found


def shares(folder: str, samples: np.ndarray, threads: int, description: dict[str, Any]) -> Found:
    """CPU seconds per second of audio of each that is MEASURED by plain ncnn; to be called in a
    process of its own."""
    architecture = registry.described(description)
    files = delivered_files(folder)
    graph = param_file.read(files["encoder"][0])
    # A layer of sherpa-ncnn's own, which computes nothing.
    layers = tuple(layer for layer in graph.layers if layer.type != META_DATA_TYPE)
    with tempfile.TemporaryDirectory() as temporary:
        encoder = Path(temporary, "encoder.param")
        param_file.write(encoder, Param(layers, graph.num_blobs))
        pairs = files | {"encoder": (encoder, files["encoder"][1])}
        timed = _Timed(NcnnTransducer(pairs, architecture, threads, sherpa_options=True))
    start = time.process_time()
    segments = list(search.segments(timed, samples))
    features = time.process_time() - start
    start = time.process_time()
    search.decode(timed, samples)
    rest = time.process_time() - start - features - timed.encoder
    # As many seconds as sherpa-ncnn's are divided by, though the last segment may end before.
    seconds = len(samples) / SAMPLE_RATE + architecture.tail_seconds
    assert segments, "the audio is shorter than a segment"
    return {share: used / seconds for share, used in zip(MEASURED, (features, rest), strict=True)}


def table(measured: dict[tuple[int, Path], list[Found]]) -> list[str]:
    """Lines of figures for each number of threads and folder."""
    compared = "".join(f"{'of ' + name:>9}" for name in COMPARED_WITH)
    lines = [
        f"{'threads':<8}{'folder':<40}{'load (s)':>9}{'real-time factor':>22}{'CPU':>8}{compared}"
        f"{'memory (MB)':>13}"
    ]
    for (threads, folder), rounds in measured.items():
        by_figure = {key: [found[key] for found in rounds] for key in rounds[0]}
        factors = by_figure["real_time_factor"]
        spread = f"{statistics.median(factors):.3f} ({min(factors):.3f}–{max(factors):.3f})"
        load, cpu, memory = (
            statistics.median(by_figure[key]) for key in ("load_seconds", "cpu", "peak_memory_mb")
        )
        ratios = ""
        for name in COMPARED_WITH:
            others = [
                rows for (n, other), rows in measured.items() if (n, other.name) == (threads, name)
            ]
            found = [
                own["cpu"] / other["cpu"]
                for own, other in zip(rounds, others[0] if others else [], strict=False)
            ]
            ratios += f"{statistics.median(found):>9.3f}" if found else f"{'–':>9}"
        lines.append(
            f"{threads:<8}{folder!s:<40}{load:>9.2f}{spread:>22}{cpu:>8.3f}{ratios}{memory:>13.0f}"
        )
    return lines


def shares_table(measured: dict[tuple[int, Path], list[Found]]) -> list[str]:
    columns = "".join(f"{share:>25}" for share in (*MEASURED, "encoder"))
    lines = [f"{'threads':<8}{'folder':<40}{columns}"]
    for (threads, folder), rounds in measured.items():
        used = statistics.median(found["cpu"] for found in rounds)
        shares = [statistics.median(found[share] for found in rounds) for share in MEASURED]
        cells = [f"{x:.4f} ({x / used:.1%})" for x in (*shares, used - sum(shares))]
        lines.append(f"{threads:<8}{folder!s:<40}" + "".join(f"{cell:>25}" for cell in cells))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--description", type=Path, help="model.json: shows where the time goes")
    args = parser.parse_args()

    noise = np.random.default_rng(0).standard_normal(int(args.seconds * SAMPLE_RATE)) * 0.1
    samples = noise.astype(np.float32)
    description = reading.read_json(args.description) if args.description else None
    tail = registry.described(description).tail_seconds if description else MIN_TAIL_SECONDS
    # Of the module by its name: the processes import it.
    from benchmarks import sherpa_speed

    measured: dict[tuple[int, Path], list[Found]] = {
        (threads, folder): [] for threads in args.threads for folder in args.folders
    }
    for _ in range(args.rounds):
        for (threads, folder), rounds in measured.items():
            found = isolated.call(sherpa_speed.run, str(folder), samples, threads, tail)
            if description:
                found |= isolated.call(
                    sherpa_speed.shares, str(folder), samples, threads, description
                )
            rounds.append(found)
    print("\n".join(table(measured)))
    if description:
        print("where sherpa-ncnn's CPU seconds per second of audio go")
        print("\n".join(shares_table(measured)))


if __name__ == "__main__":
    errors.run(main)
