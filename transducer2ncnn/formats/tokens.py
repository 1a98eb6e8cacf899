"""tokens.txt: the vocabulary as sherpa-ncnn reads it, ``<symbol> <id>`` a line.

sherpa-ncnn takes a symbol and a number in turn, by white space. A symbol that is white space, or
holds some, would shift all that follows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.files import write_text

#: Opens a word in a sentencepiece symbol.
WORD_START = "▁"

#: A symbol, which may itself hold a blank, and its id.
LINE = re.compile(r"(.+)[ \t]([0-9]{1,9})\s*")

#: What sherpa-ncnn takes for white space. Other such characters are symbols like any other.
WHITE_SPACE = " \t\n\v\f\r"

#: What recipes call the blank, which must have id 0.
BLANKS = ("<blk>", "<blank>", "<eps>")

#: The first symbols of a sentencepiece model that an icefall recipe trained.
BPE_FIRST = ("<blk>", "<sos/eos>", "<unk>")

#: Symbols behind the vocabulary in a lang folder's tokens.txt. They disambiguate a lexicon, which
#: a transducer doesn't use.
DISAMBIGUATION = re.compile(r"#\d+")


def read(path: str | Path, vocab_size: int) -> list[str]:
    """Symbols by id; disambiguation symbols behind the vocabulary are left out.

    A blank that opens a symbol is read as ``WORD_START``, which sherpa-ncnn prints as a blank.

    Raises:
        UserError: the file is missing, a line is malformed, a symbol holds white space, an id or a
            symbol is there twice, the ids are not exactly 0 … vocab_size − 1, or id 0 is not the
            blank.
    """
    try:
        # A byte order mark is left out, as sherpa-ncnn takes it; no symbol opens with one. Not
        # splitlines, which also splits at characters that a symbol may hold.
        lines = Path(path).read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read as tokens.txt ({e}).") from None
    symbols: dict[int, str] = {}
    ids: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        found = LINE.fullmatch(line)
        if not found:
            hint = ""
            if re.fullmatch(r"\s*\d+\s*", line):
                hint = f" If the symbol is a blank, write {WORD_START} for it."
            raise UserError(
                f"{path}, line {number}: expected '<symbol> <id>', found {shown(line)!r}.{hint}"
            )
        try:
            symbol, id_ = _readable(found[1]), int(found[2])
        except ValueError:
            raise UserError(
                f"{path}, line {number}: the symbol {shown(found[1])!r} holds white space, where "
                f"sherpa-ncnn would end it. Expected a symbol without; {WORD_START} as the first "
                "character stands for a blank."
            ) from None
        if id_ in symbols:
            raise UserError(
                f"{path}, line {number}: id {id_} is given to {shown(symbol)!r} and, before, to "
                f"{shown(symbols[id_])!r}."
            )
        if symbol in ids:
            raise UserError(
                f"{path}, line {number}: {shown(symbol)!r} is given id {id_} and, before, id "
                f"{ids[symbol]}."
            )
        if id_ >= vocab_size and DISAMBIGUATION.fullmatch(symbol):
            continue
        symbols[id_] = symbol
        ids[symbol] = id_
    if len(symbols) != vocab_size or max(symbols, default=-1) >= vocab_size:
        raise UserError(
            f"{path}: holds {len(symbols)} tokens with ids up to {max(symbols, default=-1)}; the "
            f"checkpoint's vocabulary has {vocab_size}, ids 0 to {vocab_size - 1} without a gap. "
            "Is it this model's tokens.txt?"
        )
    if symbols[0] not in BLANKS:
        raise UserError(
            f"{path}: id 0 is {shown(symbols[0])!r}. Expected the blank, one of "
            f"{', '.join(BLANKS)}, which a transducer emits where nothing is said."
        )
    return [symbols[i] for i in range(vocab_size)]


def _readable(symbol: str) -> str:
    """A symbol as sherpa-ncnn can read it; ValueError if there is none that it prints the same."""
    # Between a symbol and its id there may be more white space than one character.
    stripped = symbol.rstrip(WHITE_SPACE) or symbol[0]
    if stripped[0] in WHITE_SPACE:
        stripped = WORD_START + stripped[1:]
    if any(character in WHITE_SPACE for character in stripped):
        raise ValueError(symbol)
    return stripped


def from_bpe_model(path: str | Path, vocab_size: int) -> list[str]:
    """Symbols by id, out of the sentencepiece model that the recipe trained.

    Raises:
        UserError: the file is missing or no sentencepiece model, or not of this vocabulary.
    """
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(Path(path).read_bytes())
        symbols = [model.IdToPiece(i) for i in range(len(model))]
    except (OSError, RuntimeError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read as a sentencepiece model ({e}).") from None
    if len(symbols) != vocab_size:
        raise UserError(
            f"{path}: has {len(symbols)} pieces; the checkpoint's vocabulary has {vocab_size}. Is "
            "it this model's bpe.model?"
        )
    if tuple(symbols[: len(BPE_FIRST)]) != BPE_FIRST:
        raise UserError(
            f"{path}: begins with {shown(', '.join(symbols[: len(BPE_FIRST)]))!r}. Expected "
            f"{', '.join(BPE_FIRST)}, as icefall trains its models. Give the model's tokens.txt "
            "instead."
        )
    ids = {symbol: id_ for id_, symbol in reversed(list(enumerate(symbols)))}
    for id_, symbol in enumerate(symbols):
        spaced = not symbol or any(character in WHITE_SPACE for character in symbol)
        if spaced or ids[symbol] != id_:
            raise UserError(
                f"{path}: piece {id_} is {shown(symbol)!r}, which tokens.txt cannot hold, or holds "
                "already. Is the file damaged?"
            )
    return symbols


def check_agreement(
    symbols: Sequence[str], bpe_symbols: Sequence[str], path: str | Path, bpe_path: str | Path
) -> None:
    """Raise UserError where a tokens.txt and a sentencepiece model differ, both of one size."""
    for id_, (symbol, piece) in enumerate(zip(symbols, bpe_symbols, strict=True)):
        if symbol != piece:
            raise UserError(
                f"id {id_} is {shown(symbol)!r} in {path} and {shown(piece)!r} in {bpe_path}. "
                "They must agree: one of them is another model's."
            )


def write(path: str | Path, symbols: Sequence[str]) -> None:
    write_text(path, "".join(f"{symbol} {i}\n" for i, symbol in enumerate(symbols)))


def to_text(ids: Sequence[int], symbols: Sequence[str]) -> str:
    """The text as sherpa-ncnn prints it."""
    return "".join(printed(symbols[i]) for i in ids).strip()


def printed(symbol: str) -> str:
    """What sherpa-ncnn prints for a symbol: ``WORD_START`` is a blank where it comes first."""
    return f" {symbol[1:]}" if symbol.startswith(WORD_START) else symbol
