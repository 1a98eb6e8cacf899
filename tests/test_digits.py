"""The model that ships: its files, and what sherpa-ncnn recognises with it."""

from __future__ import annotations

import csv
from pathlib import Path

import jiwer
import pytest
import sentencepiece
import torch
from conftest import ROOT

from transducer2ncnn.base import layout
from transducer2ncnn.evaluation import transcription
from transducer2ncnn.export import delivery
from transducer2ncnn.families import model
from transducer2ncnn.formats import checkpoint, tokens
from transducer2ncnn.speech import audio

DIGITS = ROOT / "models" / "digits"
WORDS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()  # noqa: SIM905


def test_it_is_an_icefall_checkpoint_of_at_most_eight_megabytes() -> None:
    path = DIGITS / "pretrained.pt"
    assert path.stat().st_size <= 8_000_000
    stored = checkpoint.load_state_dict(path)
    used = checkpoint.inference_tensors(stored)
    scales = [tensor for name, tensor in stored.items() if name not in used]
    # Everything but the norms' epsilons has a scale that does something.
    assert len(scales) == sum(not name.endswith("eps") for name in used)
    assert all(abs(float(scale)) > 1e-3 for scale in scales)
    assert all(torch.isfinite(tensor).all() for tensor in stored.values())


def test_its_tokens_are_its_bpe_models() -> None:
    processor = sentencepiece.SentencePieceProcessor(str(DIGITS / "bpe.model"))
    size = processor.get_piece_size()
    symbols = tokens.read(DIGITS / "tokens.txt", size)
    assert symbols == [processor.id_to_piece(i) for i in range(size)]
    assert symbols[:3] == ["<blk>", "<sos/eos>", "<unk>"]
    assert tokens.to_text(processor.encode(" ".join(WORDS)), symbols) == " ".join(WORDS)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_sherpa_ncnn_hears_the_shipped_wavs(precision: str, digits: Path, tmp_path: Path) -> None:
    description = model.describe(DIGITS / "pretrained.pt", "lstm")
    files = layout.ncnn_files(digits / precision)
    delivery.deliver(files, description, DIGITS / "tokens.txt", tmp_path / "sherpa")

    with open(DIGITS / "test_wavs" / "transcripts.tsv", encoding="utf-8") as f:
        said = {row["wav"]: row["text"] for row in csv.DictReader(f, delimiter="\t")}
    assert len(said) == 12
    assert {word for text in said.values() for word in text.split()} == set(WORDS)
    recordings = {wav: audio.read(DIGITS / "test_wavs" / wav) for wav in said}
    heard = transcription.sherpa_texts(tmp_path / "sherpa", recordings, threads=1, tail_seconds=0.5)
    assert jiwer.wer(list(said.values()), heard) <= 0.03
