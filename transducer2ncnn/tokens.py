"""tokens.txt: the vocabulary as sherpa-ncnn reads it, ``<symbol> <id>`` a line."""

from __future__ import annotations

from pathlib import Path

from transducer2ncnn.errors import UserError

#: Opens a word in a sentencepiece symbol.
WORD_START = "▁"


def read(path: str | Path, vocab_size: int) -> list[str]:
    """Symbols by id.

    Raises:
        UserError: the file is missing, a line is malformed, or the ids are not exactly
            0 … vocab_size − 1.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read as tokens.txt ({e}).") from None
    symbols: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        # From the right: a symbol may itself hold a blank.
        symbol, _, id_ = line.strip().rpartition(" ")
        if not symbol or not id_.isdecimal():
            raise UserError(f"{path}, line {number}: expected '<symbol> <id>', found {line!r}.")
        if int(id_) in symbols:
            raise UserError(
                f"{path}, line {number}: id {id_} is given to {symbol!r} and, before, to "
                f"{symbols[int(id_)]!r}."
            )
        symbols[int(id_)] = symbol
    if symbols.keys() != set(range(vocab_size)):
        raise UserError(
            f"{path}: holds {len(symbols)} tokens with ids up to {max(symbols, default=-1)}; the "
            f"checkpoint's vocabulary has {vocab_size}, ids 0 to {vocab_size - 1} without a gap. "
            "Is it this model's tokens.txt?"
        )
    return [symbols[i] for i in range(vocab_size)]


def to_text(ids: list[int], symbols: list[str]) -> str:
    return "".join(symbols[i] for i in ids).replace(WORD_START, " ").strip()
