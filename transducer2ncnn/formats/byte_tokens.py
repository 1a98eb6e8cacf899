"""Tokens that stand for bytes, which sherpa-ncnn prints as they are, and what they spell.

- Byte fallback: sentencepiece's ``<0xE9>`` stands for one byte, and other symbols for themselves.
- Byte-level BPE: every character of a symbol stands for a byte, by a table of 256 characters:
  icefall's, or that of GPT-2's tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from transducer2ncnn.formats.tokens import WORD_START

#: A byte in byte fallback.
FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")
#: A symbol that stands for no text.
SPECIAL = re.compile(r"<[^<>]+>|\[[^\[\]]+\]")


def _icefall() -> dict[str, int]:
    """icefall's table: printable ASCII is itself, the rest takes letters of Latin Extended."""
    ranges = ((256, 288), (32, 127), (288, 306), (308, 319), (321, 329), (330, 383), (384, 423))
    return {chr(code): byte for byte, code in enumerate(c for r in ranges for c in range(*r))}


def _gpt2() -> dict[str, int]:
    """GPT-2's table: a printable character of Latin-1 is itself, the rest follows from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(rest)}


@dataclass(frozen=True)
class ByteTokens:
    """How a vocabulary spells bytes."""

    name: str
    #: Bytes by character; empty for byte fallback.
    table: Mapping[str, int]
    #: A symbol that shows what is meant.
    example: str

    def text(self, symbols: Iterable[str]) -> str:
        """What symbols spell; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self._spelled, symbols)).decode("utf-8", "replace").strip()

    def _spelled(self, symbol: str) -> bytes:
        if byte := FALLBACK.fullmatch(symbol):
            return bytes([int(byte[1], 16)])
        if not self.table or SPECIAL.fullmatch(symbol):
            blank = symbol.startswith(WORD_START)
            return (f" {symbol[1:]}" if blank else symbol).encode()
        characters = (
            b" " if c == WORD_START else bytes([self.table[c]]) if c in self.table else c.encode()
            for c in symbol
        )
        return b"".join(characters)


def find(symbols: Sequence[str]) -> ByteTokens | None:
    """How a vocabulary spells bytes; None if it does not."""
    if found := [symbol for symbol in symbols if FALLBACK.fullmatch(symbol)]:
        return ByteTokens("byte fallback", {}, found[0])
    for table, several in ((_icefall(), SEVERAL), (_gpt2(), len(symbols))):
        if example := _example(symbols, table, several):
            return ByteTokens("byte-level BPE", table, example)
    return None


def _example(symbols: Sequence[str], table: Mapping[str, int], several: int) -> str | None:
    """A symbol that shows that a table is meant, if all symbols spell bytes of UTF-8 by it.

    In a language whose letters are in the table, such as Latvian, some symbol has a letter where
    UTF-8 has no such byte.

    Args:
        several: how many symbols of one letter tell the same where none spells a character: so
            many that begin characters of three bytes.
    """
    whole: list[str] = []
    beginnings: dict[bytes, str] = {}
    spaced = any(WORD_START in symbol for symbol in symbols)
    for symbol in symbols:
        if SPECIAL.fullmatch(symbol):
            continue
        letters = symbol.replace(WORD_START, "")
        if not all(letter in table for letter in letters):
            return None
        spelled = bytes(table[letter] for letter in letters)
        if not _PART_OF_UTF8.fullmatch(spelled):
            return None
        # GPT-2's blank, which no other vocabulary opens words with.
        blank = not spaced and len(letters) > 1 and spelled[:1] == b" " != letters[:1].encode()
        if _CHARACTER.search(spelled) or blank:
            whole.append(symbol)
        if _BEGINNING.fullmatch(spelled):
            beginnings[spelled] = symbol
    if len(beginnings) >= several:
        whole += beginnings.values()
    return whole[0] if whole else None


#: Of icefall's table: letters that no alphabet has so many of. GPT-2's has é, è and ê.
SEVERAL = 3
_BEGINNING = re.compile(rb"[\xe0-\xef]")
_CHARACTER = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
#: The end of a character, whole ones, and the beginning of one. Control characters stand alone.
_PART_OF_UTF8 = re.compile(
    rb"[\x80-\xbf]{0,3}"
    rb"(?:[\x20-\x7e]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})*"
    rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})?"
    rb"|[\x00-\xff]"
)
