"""Time and memory of a whole export at full size, from checkpoint to both sherpa-ncnn folders.

    python -m benchmarks.full_size

Makes a random checkpoint with the sizes of icefall's LibriSpeech LSTM transducer, exports it in a
folder of its own, verification included, runs the workflow again with nothing to do, and prints
seconds, the peak memory of all processes together, and the sizes of the encoders.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from transducer2ncnn.families.contract import Settings
from transducer2ncnn.families.lstm import LstmArchitecture, LstmSizes
from transducer2ncnn.families.lstm.graph import build

ROOT = Path(__file__).resolve().parent.parent

FULL_SIZE = LstmSizes(
    feature_dim=80,
    num_encoder_layers=12,
    encoder_dim=512,
    rnn_hidden_size=1024,
    dim_feedforward=2048,
    decoder_dim=512,
    joiner_dim=512,
    vocab_size=500,
    context_size=2,
)

CONFIG = """\
models:
  full:
    checkpoint: pretrained.pt
    tokens: tokens.txt
"""


def random_state(sizes: LstmSizes) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors with random weights, every one of them scaled."""
    torch.manual_seed(0)
    state = {}
    for name, tensor in build(LstmArchitecture(sizes, Settings())).state_dict().items():
        if name.endswith("eps"):
            state[name] = tensor
            continue
        scale = torch.empty(()).uniform_(-0.5, 0.5)
        embedding = name.endswith("embedding.weight")
        state[name] = tensor / scale.exp()
        state[name.replace("weight", "scale") if embedding else name + "_scale"] = scale
    return state


def write_random_checkpoint(path: Path, sizes: LstmSizes) -> None:
    """An icefall checkpoint as they are published."""
    torch.save({"model": random_state(sizes)}, path)


def write_tokens(path: Path, vocab_size: int) -> None:
    symbols = ["<blk>", "<sos/eos>", "<unk>", *(f"▁T{i}" for i in range(3, vocab_size))]
    lines = [f"{symbol} {i}\n" for i, symbol in enumerate(symbols)]
    path.write_text("".join(lines), encoding="utf-8")


def measure(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds that ``run`` takes, and the peak memory of its child processes together in MB.

    Memory is the proportional set size: a page that processes share is counted once.
    """
    peak, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.1):
            peak = max(peak, sum(map(_memory, psutil.Process().children(recursive=True))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        run()
    finally:
        seconds = time.perf_counter() - start
        stop.set()
        watcher.join()
    return seconds, peak / 1e6


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:  # it ended meanwhile
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_random_checkpoint(work / "pretrained.pt", FULL_SIZE)
        write_tokens(work / "tokens.txt", FULL_SIZE.vocab_size)
        (work / "config.yaml").write_text(CONFIG)
        command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"]
        command += ["--directory", work, "--configfile", work / "config.yaml"]
        command += ["--cores", str(args.cores)]

        def snakemake() -> None:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(done.stdout + done.stderr)

        for what in ("everything", "nothing to do"):
            seconds, megabytes = measure(snakemake)
            print(f"{what}: {seconds:.1f} s, peak memory {megabytes:.0f} MB")
        for file in sorted(work.glob("results/full/sherpa-ncnn/*/*.bin")):
            print(f"{file.relative_to(work)}: {file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
