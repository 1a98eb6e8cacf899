"""What of a vocabulary sherpa-ncnn does not print as a user expects."""

from __future__ import annotations

from collections.abc import Sequence

from transducer2ncnn.base.errors import shown
from transducer2ncnn.formats import byte_tokens
from transducer2ncnn.formats.sherpa import BLANK, NEVER_EMITTED


def lost(symbols: Sequence[str]) -> dict[int, str]:
    """The symbols that stand for text and that sherpa-ncnn never emits, by id.

    Its search leaves out token 2 whatever it is, for it takes it for ``<unk>``.
    """
    return {
        id_: symbols[id_]
        for id_ in NEVER_EMITTED
        if id_ != BLANK and id_ < len(symbols) and _is_text(symbols[id_])
    }


def never_emitted(symbols: Sequence[str]) -> tuple[int, ...]:
    """The ids that the reference leaves out: those of sherpa-ncnn's that stand for no text."""
    return tuple(id_ for id_ in NEVER_EMITTED if id_ not in lost(symbols))


def warnings(symbols: Sequence[str]) -> list[str]:
    """What whoever delivers a model of these symbols should know, a sentence each."""
    found = [
        f"token {id_} is {shown(symbol)!r}, and sherpa-ncnn never emits that id, for it takes it "
        "for <unk>. The text that it stands for is missing from whatever sherpa-ncnn recognises. "
        "Train with a vocabulary that has <unk> at 2, as icefall's recipes do."
        for id_, symbol in lost(symbols).items()
    ]
    if spelled := byte_tokens.find(symbols):
        found.append(
            f"its tokens spell bytes ({spelled.name}, such as {shown(spelled.example)!r}), which "
            "sherpa-ncnn prints as they are. An application has to decode them; an evaluation's "
            "figures are of the decoded text."
        )
    return found


def _is_text(symbol: str) -> bool:
    """Whether a symbol is more than a mark such as ``<unk>``."""
    is_byte = byte_tokens.FALLBACK.fullmatch(symbol)
    return bool(is_byte) or not byte_tokens.SPECIAL.fullmatch(symbol)
