"""tokens.txt: read as sherpa-ncnn reads it, or made of a sentencepiece model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece
from conftest import GOLDEN, ROOT

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats import tokens

DIGITS = ROOT / "models" / "digits"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tokens.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_golden_tokens_are_read() -> None:
    symbols = tokens.read(GOLDEN / "checkpoint-projection" / "tokens.txt", 32)
    assert symbols[:4] == ["<blk>", "<sos/eos>", "<unk>", "▁A"] and symbols[31] == "C"


def test_any_order_and_odd_symbols_are_read(tmp_path: Path) -> None:
    # A blank, an ideographic space and a line separator are symbols like any other.
    path = write(tmp_path, "b 2\n<blk> 0\n\u3000 3\n\u2028 4\na\t1\n")
    assert tokens.read(path, 5) == ["<blk>", "a", "b", "\u3000", "\u2028"]


@pytest.mark.parametrize(
    "text",
    ["\ufeff<blk> 0\na 1\n", "<blk> 0\r\na 1\r\n", "<blk> 0\na 1\n\n\n", "<blk>  0\na\t 1"],
    ids=["byte order mark", "CRLF", "empty last lines", "columns"],
)
def test_what_sherpa_ncnn_takes_is_taken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(text.encode())
    assert tokens.read(path, 2) == ["<blk>", "a"]


@pytest.mark.parametrize("line", ["  1", "\t 1", "▁ 1"])
def test_a_blank_is_written_so_that_sherpa_ncnn_can_read_it(tmp_path: Path, line: str) -> None:
    symbols = tokens.read(write(tmp_path, f"<blk> 0\n{line}\n a 2\n"), 3)
    assert symbols == ["<blk>", "▁", "▁a"]
    tokens.write(tmp_path / "made.txt", symbols)
    # As sherpa-ncnn reads it: a symbol and a number in turn, by white space.
    words = (tmp_path / "made.txt").read_text().split()
    assert words == ["<blk>", "0", "▁", "1", "▁a", "2"]
    assert tokens.to_text([2, 1, 2], symbols) == "a  a"


def test_disambiguation_symbols_behind_the_vocabulary_are_left_out(tmp_path: Path) -> None:
    assert tokens.read(write(tmp_path, "<blk> 0\n#1 1\n#0 2\n#2 3\n"), 2) == ["<blk>", "#1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<blk> 0\na\n", r"line 2: expected '<symbol> <id>', found 'a'"),
        ("<blk> 0\na -1\n", r"line 2: expected"),
        ("<blk> 0\n\na 1\n", r"line 2: expected"),
        ("<blk> 0\na 1\nb 1\n", r"line 3: id 1 is given to 'b' and, before, to 'a'"),
        ("<blk> 0\na 1\na 2\n", r"line 3: 'a' is given id 2 and, before, id 1"),
        ("<blk> 0\na 2\n", r"holds 2 tokens with ids up to 2; the checkpoint's vocabulary has 3"),
        ("<blk> 0\na 1\nb 2\nc 3\n", r"holds 4 tokens"),
        ("a 0\n<blk> 1\nb 2\n", r"id 0 is 'a'. Expected the blank"),
        ("", r"line 1: expected"),
        ("<blk> 0\n 1\nb 2\n", r"line 2: expected .*If the symbol is a blank, write ▁"),
        ("<blk> 0\na b 1\nc 2\n", r"line 2: the symbol 'a b' holds white space"),
        ("<blk> 0\n▁a 1\n a 2\n", r"line 3: '▁a' is given id 2 and, before, id 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tokens.read(write(tmp_path, text), 3)


def test_a_sentencepiece_model_gives_the_tokens_it_was_trained_for() -> None:
    symbols = tokens.from_bpe_model(DIGITS / "bpe.model", 29)
    assert symbols == tokens.read(DIGITS / "tokens.txt", 29)


def test_what_is_wrong_with_a_sentencepiece_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 29 pieces; the checkpoint's vocabulary has 500"):
        tokens.from_bpe_model(DIGITS / "bpe.model", 500)
    (tmp_path / "not.model").write_bytes(b"\x00not a model")
    for path in (tmp_path / "not.model", tmp_path / "missing.model"):
        with pytest.raises(UserError, match="cannot be read as a sentencepiece model"):
            tokens.from_bpe_model(path, 29)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one two three four five"] * 9),
        model_prefix=str(tmp_path / "plain"),
        vocab_size=16,
        minloglevel=9,
    )
    with pytest.raises(UserError, match="begins with '<unk>, <s>, </s>'. Expected <blk>"):
        tokens.from_bpe_model(tmp_path / "plain.model", 16)


def run(tmp_path: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    (tmp_path / "model.json").write_text('{"sizes": {"vocab_size": 29}}')
    command = [sys.executable, "-m", "workflow_scripts.make_tokens", *arguments]
    command += ["--description", tmp_path / "model.json", "--output", tmp_path / "made.txt"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_script_makes_the_same_of_either_or_both(tmp_path: Path) -> None:
    bpe, txt = ("--bpe_model", DIGITS / "bpe.model"), ("--tokens", DIGITS / "tokens.txt")
    for given in (bpe, txt, (*bpe, *txt)):
        assert run(tmp_path, *given).returncode == 0
        assert (tmp_path / "made.txt").read_bytes() == (DIGITS / "tokens.txt").read_bytes()


def test_the_two_must_agree(tmp_path: Path) -> None:
    other = write(tmp_path, (DIGITS / "tokens.txt").read_text().replace("▁SIX 6", "▁SEX 6"))
    done = run(tmp_path, "--bpe_model", DIGITS / "bpe.model", "--tokens", other)
    assert done.returncode == 1
    assert "error: id 6 is '▁SEX' in" in done.stderr and "'▁SIX' in" in done.stderr
    assert not (tmp_path / "made.txt").exists()


def test_tokens_to_text() -> None:
    symbols = ["<blk>", "▁NI", "NE", "▁TWO"]
    assert tokens.to_text([1, 2, 3], symbols) == "NINE TWO"
    # sherpa-ncnn makes a blank of the first character only.
    assert tokens.to_text([1, 2], ["<blk>", "▁▁", "A▁B"]) == "▁A▁B"
