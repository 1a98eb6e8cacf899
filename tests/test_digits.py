"""The model that ships: its files, and what sherpa-ncnn recognises with it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import jiwer
import numpy as np
import pytest
import sentencepiece
import soundfile
import soxr
import torch
from conftest import ROOT, stored

from transducer2ncnn.base import layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines import recognizer
from transducer2ncnn.evaluation import transcription
from transducer2ncnn.export import delivery
from transducer2ncnn.families import model
from transducer2ncnn.formats import checkpoint, tokens
from transducer2ncnn.quantization.recipes import SHIPPED
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
    description = model.inspect(DIGITS / "pretrained.pt", "lstm")[1]
    files = layout.ncnn_files(digits / precision)
    delivery.deliver(files, description, DIGITS / "tokens.txt", tmp_path / "sherpa")

    with open(DIGITS / "test_wavs" / "transcripts.tsv", encoding="utf-8") as f:
        said = {row["wav"]: row["text"] for row in csv.DictReader(f, delimiter="\t")}
    assert len(said) == 12
    assert {word for text in said.values() for word in text.split()} == set(WORDS)
    recordings = {wav: audio.read(DIGITS / "test_wavs" / wav) for wav in said}
    heard = transcription.sherpa_texts(tmp_path / "sherpa", recordings, threads=1, tail_seconds=0.5)
    assert jiwer.wer(list(said.values()), heard) <= 0.03


def transcribed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The script of a delivered folder, run as a user runs it: from anywhere, with no project."""
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd="/", env=variables, capture_output=True, text=True)


def test_a_delivered_folder_runs_itself_on_any_recording(digits: Path, tmp_path: Path) -> None:
    """Of quantized files too, which have other names, and of audio of other kinds."""
    recipe = SHIPPED["int8"]
    files = stored(layout.ncnn_files(digits / "fp32"), recipe, tmp_path / "int8")
    files["decoder"] = layout.ncnn_files(digits / "fp16")["decoder"]
    description = model.inspect(DIGITS / "pretrained.pt", "lstm")[1]
    folder = tmp_path / "sherpa ncnn"
    delivery.deliver(files, description, DIGITS / "tokens.txt", folder)
    script = folder / "transcribe.py"

    wav = DIGITS / "test_wavs" / "1.wav"
    samples, rate = soundfile.read(wav)
    assert rate == 16000
    slow = soxr.resample(samples, 16000, 8000)
    telephone = tmp_path / "telephone.flac"
    soundfile.write(telephone, np.stack([slow, slow], axis=1), 8000)
    done = transcribed(script, wav, telephone)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{wav}: EIGHT TWO SIX", f"{telephone}: EIGHT TWO SIX"]

    for arguments, message in (
        ([wav, "gone.wav"], "error: there is no recording gone.wav\n"),
        ([DIGITS / "tokens.txt"], f"error: {DIGITS / 'tokens.txt'} cannot be read as audio: "),
        ([], "Transcribe recordings with the model in this folder"),
    ):
        done = transcribed(script, *arguments)
        assert done.returncode == 1 and message in done.stderr
        assert "Traceback" not in done.stderr and not done.stdout

    lines = (folder / "tokens.txt").read_text().splitlines(keepends=True)
    (folder / "tokens.txt").write_text("".join(lines[:3]))
    done = transcribed(script, wav)
    assert done.returncode == 1 and "tokens.txt lacks a token of the model" in done.stderr
    with pytest.raises(UserError, match="tokens.txt beside the model lacks a token"):
        recognizer.decode(recognizer.load(folder, threads=1), samples.astype(np.float32), 0.5)
