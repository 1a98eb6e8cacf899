"""Trains the zipformer-digits model: from a folder of recordings to ``pretrained.pt``.

    python models/zipformer-digits/training/train.py --fsdd DIR --out DIR

The speech is that of models/digits, whose scripts make it. The learning rate follows the clock,
so that the training is finished after ``--minutes`` on whatever machine. In ``--out``: speech/
(synthesised), pool-*.pickle (utterances), training.pt (where a training that was killed goes on
from), pretrained.pt, bpe.model, tokens.txt.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "digits" / "training"))

import data
import network
import pool
import vocabulary
from loss import transducer_loss
from make_wavs import strings
from measure import read_pieces, word_error_rate
from synthesize import synthesize
from test_set import connected_digits
from whole_utterance import WholeUtterance

from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.families.zipformer import PAD_LENGTH

#: Steps on single words, and then on utterances of up to three; features in a batch.
SINGLE, SHORT = 150, 150
FRAMES, SHORT_FRAMES = 6000, 4000
PEAK_LR, WARM_UP = 1.5e-3, 150
#: What the connectionist loss of a layer of its own weighs beside the transducer's. Early on it
#: finds out that the sound says which word comes.
CTC_WEIGHT = 0.3
DECAY = 0.998
#: Seconds between two savings, and between two measurements on left-out takes.
SAVE_EVERY, MEASURE_EVERY = 300, 1200


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
        counts = torch.tensor([len(d) for d in digits])
        targets = torch.zeros(len(digits), max(1, int(counts.max())), dtype=torch.long)
        for row, d in zip(targets, digits, strict=True):
            row[: len(d)] = tokens[d]
        with torch.autocast("cpu", torch.bfloat16):
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
        return transducer + CTC_WEIGHT * connectionist / words


def learning_rate(step: int, progress: float) -> float:
    return PEAK_LR * min(1.0, step / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))


def train(args: argparse.Namespace, tokens: Tensor) -> None:
    torch.manual_seed(0)
    training = Training(network.new_model())
    parameters = [p for p in training.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    step, before = 0, 0.0
    state = args.out / "training.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)
        training.load_state_dict(saved["training"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step, before = saved["average"], saved["step"], saved["seconds"]
    pieces = read_pieces(args.out / "tokens.txt")
    left_out = list(connected_digits(args.fsdd))
    rng = np.random.default_rng([1, step])
    utterances, parts = pool.read(args.out, 0), 1
    by_length = [
        data.batches([u for u in utterances if len(u.digits) == 1], SHORT_FRAMES, rng),
        data.batches([u for u in utterances if len(u.digits) <= 3], SHORT_FRAMES, rng),
        # It looks at the list again for each epoch: that grows below.
        data.batches(utterances, FRAMES, rng),
    ]

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
    saved_at = measured_at = seconds = before
    while seconds < 60 * args.minutes:
        step += 1
        rate = learning_rate(step, seconds / (60 * args.minutes))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = next(by_length[(step > SINGLE) + (step > SINGLE + SHORT)])
        loss = training.loss(*batch, tokens)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 2.0)
        optimizer.step()
        decay = min(DECAY, step / (step + 10))
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
        seconds = before + time.monotonic() - start
        recent.append(loss.item())
        if step % 50 == 0:
            print(
                f"step {step} loss {np.mean(recent):.4f} after {seconds / 60:.1f} min", flush=True
            )
            recent = []
        if step % 50 == 0 and parts < pool.PARTS:
            more = pool.read(args.out, parts)
            utterances += more
            parts += bool(more)
        if seconds - saved_at > SAVE_EVERY:
            save()
            saved_at = seconds
        if seconds - measured_at > MEASURE_EVERY:
            save()
            model = network.load_checkpoint(args.out / "pretrained.pt")
            rate, *_ = word_error_rate(model, pieces, left_out)
            print(f"WER {rate:.2f} % on left-out takes", flush=True)
            measured_at = seconds
    save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fsdd", type=Path, required=True, help="the recordings")
    parser.add_argument("--out", type=Path, required=True, help="folder to fill")
    parser.add_argument("--minutes", type=float, default=120, help="of training, without the data")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    tokens = torch.tensor(vocabulary.make(args.out))
    synthesize(args.out / "speech", avoid=strings())
    command = [sys.executable, pool.__file__, "--fsdd", args.fsdd, "--out", args.out]
    with subprocess.Popen(command) as making:
        while not pool.path(args.out, 0).exists():
            if making.poll():
                raise SystemExit("no utterances were made; the reason is above")
            time.sleep(1)
        train(args, tokens)


if __name__ == "__main__":
    main()
