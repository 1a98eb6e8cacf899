"""Greedy search with PyTorch, and the word error rate of a checkpoint.

python models/zipformer-digits/training/measure.py models/zipformer-digits --fsdd DIR
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "digits" / "training"))

import network
from synthesize import SAMPLE_RATE, read_wav
from test_set import connected_digits
from whole_utterance import WholeUtterance

from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.speech.features import fbank


@torch.no_grad()
def greedy_search(model: Transducer, features: torch.Tensor) -> list[int]:
    """The tokens of one utterance, (T, 80): at most one a frame, of whole segments only, as in
    sherpa-ncnn."""
    a = model.architecture
    number = (len(features) - a.segment - 1) // a.hop + 1
    encoded = WholeUtterance(model.encoder)(features[None, : (number - 1) * a.hop + a.segment])[0]
    context = a.sizes.context_size
    tokens = [0] * context
    decoded = model.decoder(torch.tensor([tokens[-context:]]))[0, 0]
    for frame in encoded:
        token = int(model.joiner(frame, decoded).argmax())
        if token not in (0, 2):
            tokens.append(token)
            decoded = model.decoder(torch.tensor([tokens[-context:]]))[0, 0]
    return tokens[context:]


def word_error_rate(
    model: Transducer,
    pieces: list[str],
    utterances: Iterable[tuple[str, np.ndarray, str]],
    show: bool = False,
) -> tuple[float, int, int]:
    """(percent, errors, words); silence goes after every utterance."""
    wrong = words = 0
    silence = int(model.architecture.tail_seconds * SAMPLE_RATE)
    for name, samples, text in utterances:
        padded = np.pad(samples, (0, silence))
        tokens = greedy_search(model, torch.from_numpy(fbank(padded)))
        hypothesis = "".join(pieces[t] for t in tokens).replace("▁", " ").split()
        count = Levenshtein.distance(text.split(), hypothesis)
        if show and count:
            print(f"{name}\n  said:  {text}\n  heard: {' '.join(hypothesis)}")
        wrong, words = wrong + count, words + len(text.split())
    return 100 * wrong / words, wrong, words


def read_wavs(folder: Path) -> Iterable[tuple[str, np.ndarray, str]]:
    for line in (folder / "transcripts.tsv").read_text().splitlines()[1:]:
        name, text = line.split("\t")
        yield name, read_wav(folder / name)[0], text


def read_pieces(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of pretrained.pt and tokens.txt")
    parser.add_argument("--fsdd", type=Path, help="evaluate on connected digits made from here")
    parser.add_argument("--wavs", type=Path, help="evaluate on a folder with transcripts.tsv")
    args = parser.parse_args()
    if (args.fsdd is None) == (args.wavs is None):
        parser.error("either --fsdd or --wavs")
    utterances = read_wavs(args.wavs) if args.wavs else connected_digits(args.fsdd)
    model = network.load_checkpoint(args.model / "pretrained.pt")
    rate, wrong, words = word_error_rate(
        model, read_pieces(args.model / "tokens.txt"), utterances, show=True
    )
    print(f"WER {rate:.2f} % ({wrong} errors in {words} words)")
