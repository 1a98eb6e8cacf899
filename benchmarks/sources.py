"""A full-size model from a training folder and from a Hub, the whole way in one run.

    python -m benchmarks.sources

Writes random training checkpoints with the sizes of icefall's LibriSpeech LSTM transducer, each
with the model, its running average and an optimizer's state, and serves the model's tensors from a
Hub on the loopback. Prints the time and the peak memory of averaging the checkpoints, and of the
run that exports both models, download and verification included.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from functools import partial
from pathlib import Path

import torch
import yaml

from benchmarks.measuring import measure, snakemake
from benchmarks.random_models import random_state, write_model
from tests.hub_server import HubServer, environment


def write_exp_dir(folder: Path, number: int) -> None:
    """epoch-1.pt and on; they hold the same, which takes as long to average."""
    folder.mkdir()
    state = random_state("lstm")
    moments = {i: {"m": t.clone(), "v": t.clone()} for i, t in enumerate(state.values())}
    training = {"optimizer": {"state": moments}, "batch_idx_train": 1000, "average_period": 100}
    first = folder / "epoch-1.pt"
    average = {name: tensor.clone() for name, tensor in state.items()}
    torch.save({"model": state, "model_avg": average, **training}, first)
    for epoch in range(2, number + 1):
        shutil.copyfile(first, folder / f"epoch-{epoch}.pt")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", type=int, default=16, help="to average")
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_exp_dir(work / "exp", args.checkpoints)
        write_model(work)
        server = HubServer()
        names = ("pretrained.pt", "tokens.txt")
        server.commit("owner/full", {name: (work / name).read_bytes() for name in names})
        models = {
            "trained": {
                "source": "exp_dir",
                "exp_dir": "exp",
                "epoch": args.checkpoints,
                "avg": args.checkpoints,
                "tokens": "tokens.txt",
            },
            "hub": {
                "source": "huggingface",
                "repo_id": "owner/full",
                "checkpoint": "pretrained.pt",
                "tokens": "tokens.txt",
            },
        }
        (work / "config.yaml").write_text(yaml.safe_dump({"models": models}))

        variables = environment(server, work / "home")
        size = (work / "exp" / "epoch-1.pt").stat().st_size
        print(f"{args.checkpoints} training checkpoints of {size / 1e6:.0f} MB")
        averaged = "results/trained/averaged.pt"
        for what, target in (("averaging alone", averaged), ("both models", "all")):
            (work / averaged).unlink(missing_ok=True)
            run = partial(snakemake, work, target, cores=args.cores, environment=variables)
            print(f"{what}: {measure(run)}")
        for file in sorted(work.glob("results/*/sherpa-ncnn/*/encoder*.bin")):
            print(f"{file.relative_to(work)}: {file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
