"""What a text is compared by: words, characters, or both where a script writes no spaces.

Before that, a text is normalised: white space and the composition of characters never count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["word", "character", "mixed"]


@dataclass(frozen=True)
class Names:
    #: What there are so many of.
    plural: str
    #: An error rate by it, and its abbreviation.
    rate: str
    short: str


NAMES: dict[Unit, Names] = {
    "word": Names("words", "word error rate", "WER"),
    "character": Names("characters", "character error rate", "CER"),
    "mixed": Names("characters and words", "mixed error rate", "MER"),
}

#: Characters of scripts that put no space between words, or in which characters are what is
#: counted: Han, Kana, Bopomofo, Yi and Hangul; Thai, Lao, Tibetan, Burmese and Khmer.
UNSPACED = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u3041-\u3096"
    "\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48f\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc"
    "\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
    "\u0e01-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u0f40-\u0fbc\u1000-\u109f\ua9e0-\ua9fe\uaa60-\uaa7f"
    "\u1780-\u17d3"
)
_UNSPACED = re.compile(f"[{UNSPACED}]")
_MIXED = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")

#: What stands for an apostrophe.
APOSTROPHES = "'’ʼ＇"


@dataclass(frozen=True)
class Normalisation:
    """What makes no difference between two texts."""

    #: Upper and lower case.
    case: bool = True
    #: Punctuation, but for an apostrophe inside a word.
    punctuation: bool = False
    #: Full-width and half-width forms of the same character.
    full_width: bool = True

    def apply(self, text: str) -> str:
        # macOS decomposes characters that a model's tokens have in one piece.
        text = unicodedata.normalize("NFC", text)
        if self.full_width:
            text = "".join(_usual_width(character) for character in text)
            text = unicodedata.normalize("NFC", text)  # of half-width Kana and its marks
        if self.case:
            text = text.casefold()
        if self.punctuation:
            text = re.sub(rf"(?<=\w)[{APOSTROPHES}](?=\w)", "'", text)
            text = "".join(
                character if character == "'" or not _is_punctuation(character) else " "
                for character in text
            )
            text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
        return " ".join(text.split())


#: What makes no difference unless the configuration says otherwise.
USUAL = Normalisation()


def find(texts: Iterable[str]) -> Unit:
    """The unit that a language's script asks for.

    It is mixed where a text has a character of a script without spaces: that character, or a word
    of another script. Texts without are the same in words.
    """
    return "mixed" if any(_UNSPACED.search(text) for text in texts) else "word"


def split(text: str, unit: Unit) -> list[str]:
    """What a normalised text is compared by."""
    if unit == "word":
        return text.split()
    if unit == "character":
        return [character for character in text if not character.isspace()]
    return _MIXED.findall(text)


def join(pieces: Sequence[str]) -> str:
    """Words and characters as a text: no space stands between two characters without."""
    text = ""
    for piece in pieces:
        if text and not (_UNSPACED.match(text[-1]) and _UNSPACED.match(piece)):
            text += " "
        text += piece
    return text


def _usual_width(character: str) -> str:
    wide = unicodedata.decomposition(character).startswith(("<wide>", "<narrow>"))
    return unicodedata.normalize("NFKC", character) if wide else character


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")
