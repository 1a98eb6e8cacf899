"""Trains the zipformer-digits model: from a folder of recordings to ``pretrained.pt``.

    python models/zipformer-digits/training/train.py --fsdd DIR --out DIR

The speech is that of models/digits, whose scripts make it. The learning rate follows the clock,
so that the training is finished after ``--minutes`` on whatever machine. In ``--out``: speech/
(synthesised), pool.pickle (utterances), training.pt (from which a training that was killed goes
on), pretrained.pt, bpe.model, tokens.txt.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "digits" / "training"))

import data
import network
import pool
import vocabulary
from loss import transducer_loss
from make_wavs import strings
from synthesize import synthesize
from whole_utterance import WholeUtterance

from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.families.zipformer import PAD_LENGTH

#: Steps on single words, and then on utterances of up to three.
SINGLE, SHORT = 150, 150
#: The learning rate falls with the root of the steps from ``DECAY_FROM`` on, whatever the clock
#: says: at 1.5e-3 throughout, long trainings diverged after some 600 steps.
PEAK_LR, WARM_UP, DECAY_FROM = 1e-3, 150, 1000
#: What the connectionist loss of a layer of its own weighs beside the transducer's. Early on it
#: finds out that the sound says which word comes.
CTC_WEIGHT = 0.3
#: And what the excess of attention scores weighs. Nothing else bounds them: they grew to 6,500,
#: where softmax turns over between two keys for a rounding.
EXCESS_WEIGHT = 1e-3
DECAY = 0.998
#: Seconds between two savings.
SAVE_EVERY = 120

#: (N, T, 80) features, (N,) lengths, the digits.
Batch = tuple[Tensor, Tensor, list[list[int]]]


class Batches(IterableDataset[Batch]):
    """``data.batches`` without end, other ones in every worker."""

    def __init__(self, utterances: list[data.Utterance], frames: int, seed: int) -> None:
        self.utterances, self.frames, self.seed = utterances, frames, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        rng = np.random.default_rng([1, self.seed, worker.id if worker else 0])
        return data.batches(self.utterances, self.frames, rng)


def stages(
    utterances: list[data.Utterance], frames: int, workers: int, step: int
) -> Iterator[Batch]:
    """Batches from ``step`` on: of single words, then of up to three, then of all."""
    longest = max(len(u.digits) for u in utterances)
    for words, end in (1, SINGLE), (3, SINGLE + SHORT), (longest, math.inf):
        if step < end:
            chosen = [u for u in utterances if len(u.digits) <= words]
            loader = DataLoader(Batches(chosen, frames, step), batch_size=None, num_workers=workers)
            for batch in loader:
                yield batch
                step += 1
                if step >= end:
                    break


class Training(nn.Module):
    """What is trained: the model, and a layer for the second loss."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.model = model
        self.ctc = nn.Linear(network.SIZES.encoder_dim, network.SIZES.vocab_size)
        offset = -network.FEATURE_MEAN / network.FEATURE_STD
        self.whole = WholeUtterance(model.encoder, offset, dropout=0.1)

    def loss(self, x: Tensor, lengths: Tensor, digits: list[list[int]], tokens: Tensor) -> Tensor:
        """Nats a word, or rather a word and a bit: utterances without words count too."""
        hop = network.SETTINGS.decode_chunk_len
        number = -(-(x.shape[1] - PAD_LENGTH) // hop)
        x = nn.functional.pad(
            x, (0, 0, 0, number * hop + PAD_LENGTH - x.shape[1]), value=data.FLOOR
        )
        # Frames of every chunk that the utterance reaches into.
        frames = -(-(lengths - PAD_LENGTH) // hop) * (hop // 4)
        most = max(1, *(len(d) for d in digits))
        targets = torch.zeros(len(digits), most, dtype=torch.long)
        for row, d in zip(targets, digits, strict=True):
            row[: len(d)] = tokens[d]
        counts = torch.tensor([len(d) for d in digits])
        targets, counts = targets.to(x.device), counts.to(x.device)
        with torch.autocast(x.device.type, torch.bfloat16):
            encoded = self.whole(network.normalised(x))
            before = nn.functional.pad(targets, (network.SIZES.context_size, 0))
            decoded = self.model.decoder(before)
            logits = self.model.joiner(encoded[:, :, None], decoded[:, None])
            ctc = self.ctc(encoded)
        words = (counts + 0.5).sum()
        transducer = transducer_loss(logits, targets, frames, counts).sum() / words
        log_probs = ctc.float().log_softmax(dim=2).transpose(0, 1)
        connectionist = nn.functional.ctc_loss(
            log_probs, targets, frames, counts, reduction="sum", zero_infinity=True
        )
        return transducer + CTC_WEIGHT * connectionist / words + EXCESS_WEIGHT * self.whole.excess


def learning_rate(step: int, progress: float) -> float:
    by_step = min(1.0, step / WARM_UP, (DECAY_FROM / step) ** 0.5)
    return PEAK_LR * by_step * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))


def train(args: argparse.Namespace, tokens: Tensor) -> None:
    torch.manual_seed(0)
    training = Training(network.new_model()).to(args.device)
    parameters = [p for p in training.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    step, before = 0, 0.0
    state = args.out / "training.pt"
    if state.exists():
        saved = torch.load(state, map_location=args.device, weights_only=True)
        training.load_state_dict(saved["training"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step, before = saved["average"], saved["step"], saved["seconds"]
    batches = stages(pool.load(args.fsdd, args.out), args.frames, args.workers, step)

    def save() -> None:
        current = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p, a in zip(parameters, average, strict=True):
                p.copy_(a)
            network.save_checkpoint(training.model.state_dict(), args.out / "pretrained.pt")
            for p, c in zip(parameters, current, strict=True):
                p.copy_(c)
        content = {
            "training": training.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average,
            "step": step,
            "seconds": seconds,
        }
        network.save(content, state)

    training.train()
    start, recent = time.monotonic(), []
    saved_at = seconds = before
    while seconds < 60 * args.minutes:
        step += 1
        rate = learning_rate(step, seconds / (60 * args.minutes))
        for group in optimizer.param_groups:
            group["lr"] = rate
        features, lengths, digits = next(batches)
        x, lengths = features.to(args.device), lengths.to(args.device)
        loss = training.loss(x, lengths, digits, tokens)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 2.0)
        optimizer.step()
        decay = min(DECAY, step / (step + 10))
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
        seconds = before + time.monotonic() - start
        recent.append(loss.detach())
        if step % 50 == 0:
            mean = torch.stack(recent).mean().item()
            print(f"step {step} loss {mean:.4f} after {seconds / 60:.1f} min", flush=True)
            recent = []
        if seconds - saved_at > SAVE_EVERY:
            save()
            saved_at = seconds
    save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fsdd", type=Path, required=True, help="the recordings")
    parser.add_argument("--out", type=Path, required=True, help="folder to fill")
    parser.add_argument("--minutes", type=float, default=120, help="of training, without the data")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--frames", type=int, default=6000, help="features in a batch, at most")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tokens = torch.tensor(vocabulary.make(args.out))
    synthesize(args.out / "speech", avoid=strings())
    train(args, tokens)


if __name__ == "__main__":
    main()
