"""Trains the digits model: everything from a folder of recordings to ``pretrained.pt``.

    python models/digits/training/train.py --fsdd DIR --out DIR

Four phases. The first leaves out one speaker and shows how well the model does with him; the
second goes on from there with all speakers; the third with more synthesised strings as well; the
fourth, from the mean of these two, at a low learning rate. In ``--out``: speech/ (synthesised),
phase-1.pt to phase-3.pt, pretrained.pt, bpe.model, tokens.txt.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import data
import vocabulary
from evaluate import read_pieces, word_error_rate
from loss import transducer_loss
from make_wavs import strings
from model import (
    FEATURE_MEAN,
    FEATURE_STD,
    SIZES,
    folded,
    initial_states,
    load_checkpoint,
    new_model,
    save_checkpoint,
    unfolded,
)
from synthesize import synthesize
from test_set import connected_digits

from transducer2ncnn.families.lstm.graph import subsampled
from transducer2ncnn.families.modules import Transducer

HELD_OUT = "yweweler"
POOL = 12000  # utterances


@dataclass(frozen=True)
class Phase:
    """One stretch of training, from the mean of some earlier phases' weights on."""

    start: tuple[int, ...]  # those phases
    leave_out: list[str]  # speakers
    steps: int
    frames: int  # features in a batch, padding counted
    peak_lr: float
    horizon: int  # the step where the learning rate's cosine would reach zero
    new: float | None  # share of synthesised strings among new utterances; None: no new ones
    keep: bool  # whether the utterances of the phase before stay


PHASES = (
    Phase((), [HELD_OUT], 600, 12000, 1.5e-3, horizon=1500, new=0.18, keep=False),
    Phase((1,), [], 1500, 9000, 7e-4, horizon=1900, new=0.18, keep=False),
    Phase((2,), [], 1500, 9000, 4e-4, horizon=1500, new=0.4, keep=True),
    Phase((2, 3), [], 600, 9000, 1.5e-4, horizon=600, new=None, keep=True),
)
#: Steps of the first phase on single words, and then on utterances of up to three;
#: and the features in their batches.
WARM_UP, SHORT, SHORT_FRAMES = 250, 200, 6000


def add_dropout(model: Transducer) -> None:
    for layer in model.encoder.encoder.layers:
        layer.feed_forward[3] = nn.Dropout(0.1)
    model.encoder.encoder_embed.out_norm.register_forward_hook(
        lambda module, _, out: nn.functional.dropout(out, 0.1, module.training)
    )


def normalised(features: Tensor) -> Tensor:
    return (features - FEATURE_MEAN) / FEATURE_STD


def batch_loss(
    model: Transducer, x: Tensor, lengths: Tensor, digits: list[list[int]], tokens: Tensor
) -> Tensor:
    """Nats a word, or rather a word and a bit: utterances without words count too."""
    counts = torch.tensor([len(d) for d in digits])
    targets = torch.zeros(len(digits), int(counts.max()), dtype=torch.long)
    for row, d in zip(targets, digits, strict=True):
        row[: len(d)] = tokens[d]
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model.encoder(normalised(x), lengths.float(), *initial_states(len(x)))[0]
        before = nn.functional.pad(targets, (SIZES.context_size, 0))
        decoded = model.decoder(before)
        logits = model.joiner(encoded[:, :, None], decoded[:, None])
    return (
        transducer_loss(logits, targets, subsampled(lengths), counts).sum() / (counts + 0.5).sum()
    )


def warm_up(model: Transducer, pool: list[data.Utterance], tokens: Tensor) -> None:
    """Teaches the words one by one, without asking when they are said.

    The transducer's loss alone takes long to find out that the sound says which word comes.
    """
    single = [u for u in pool if len(u.digits) == 1]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98))
    source = data.batches(single, SHORT_FRAMES, np.random.default_rng(0))
    nothing = torch.zeros(1, SIZES.context_size, dtype=torch.long)
    model.train()
    recent: list[float] = []
    for step in range(1, WARM_UP + 1):
        x, lengths, digits = next(source)
        with torch.autocast("cpu", torch.bfloat16):
            encoded = model.encoder(normalised(x), lengths.float(), *initial_states(len(x)))[0]
            logits = model.joiner(encoded, model.decoder(nothing)).float()
        padding = torch.arange(logits.shape[1]) >= subsampled(lengths)[:, None]
        scores = logits[:, :, tokens].masked_fill(padding[..., None], -1e4).logsumexp(dim=1)
        loss = nn.functional.cross_entropy(scores, torch.tensor(digits)[:, 0])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        recent.append(loss.item())
        if step % 50 == 0:
            print(f"warm-up step {step} loss {np.mean(recent):.4f}", flush=True)
            recent = []


def train(
    model: Transducer,
    pool: list[data.Utterance],
    tokens: Tensor,
    phase: Phase,
    short_steps: int,
    seed: int,
    report: Callable[[dict[str, Tensor]], str],
) -> None:
    """Trains in place; hands ``report`` the moving average of the weights."""
    torch.manual_seed(seed)
    average = deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    rng = np.random.default_rng(seed)
    short = data.batches([u for u in pool if len(u.digits) <= 3], SHORT_FRAMES, rng)
    full = data.batches(pool, phase.frames, rng)
    model.train()
    start, recent = time.monotonic(), []
    for step in range(1, phase.steps + 1):
        progress = step / phase.horizon
        warm = min(1.0, step / 150)
        for group in optimizer.param_groups:
            group["lr"] = phase.peak_lr * warm * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        batch = next(short if step <= short_steps else full)
        loss = batch_loss(model, *batch, tokens)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        decay = min(0.995, step / (step + 10))
        for key, tensor in model.state_dict().items():
            average[key].lerp_(tensor, 1 - decay)
        recent.append(loss.item())
        if step % 50 == 0:
            minutes = (time.monotonic() - start) / 60
            print(f"step {step} loss {np.mean(recent):.4f} after {minutes:.1f} min", flush=True)
            recent = []
        if step % 300 == 0 or step == phase.steps:
            print(report(average), flush=True)


def mean_weights(checkpoints: list[Path]) -> dict[str, Tensor]:
    states = [unfolded(load_checkpoint(path).state_dict()) for path in checkpoints]
    return {key: sum(state[key] for state in states) / len(states) for key in states[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fsdd", type=Path, required=True, help="the recordings")
    parser.add_argument("--out", type=Path, required=True, help="folder to fill")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", message="LSTM with projections")
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    tokens = torch.tensor(vocabulary.make(out))
    pieces = read_pieces(out / "tokens.txt")
    unheard = list(connected_digits(args.fsdd, count=60, speaker=HELD_OUT))
    synthesize(out / "speech", avoid=strings())

    torch.manual_seed(0)
    model = new_model()
    add_dropout(model)
    pool: list[data.Utterance] = []
    for number, phase in enumerate(PHASES, 1):
        path = out / ("pretrained.pt" if number == len(PHASES) else f"phase-{number}.pt")
        print(f"phase {number}", flush=True)
        if not phase.keep:
            pool = []
        if phase.new is not None:
            speech = data.load_speech(args.fsdd, out / "speech", phase.leave_out)
            pool += data.make_pool(speech, POOL, number, phase.new)
        if phase.start:
            model.load_state_dict(mean_weights([out / f"phase-{i}.pt" for i in phase.start]))

        def report(average: dict[str, Tensor], path: Path = path, phase: Phase = phase) -> str:
            part = path.with_suffix(".part")
            save_checkpoint(folded(average), part)
            if HELD_OUT not in phase.leave_out:
                return f"saved {part}"
            rate, *_ = word_error_rate(load_checkpoint(part), pieces, unheard)
            return f"WER {rate:.2f} % on {HELD_OUT}, unheard"

        if number == 1:
            warm_up(model, pool, tokens)
        train(model, pool, tokens, phase, SHORT if number == 1 else 0, number, report)
        os.replace(path.with_suffix(".part"), path)


if __name__ == "__main__":
    main()
