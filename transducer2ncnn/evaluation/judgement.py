"""What an evaluation's figures mean: how far a precision is from PyTorch, and what to warn of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from transducer2ncnn.base.errors import shown
from transducer2ncnn.evaluation.units import NAMES

#: A rise that is far, as a fraction, where it is more than chance; and where it is anyway.
FAR, FAR_ANYWAY = 0.02, 0.10
#: The share of PyTorch's own rate that a rise has at least to be far.
FAR_RELATIVE = 0.1
#: An error rate at which a system is of no use.
USELESS = 0.5

Grade = Literal["same", "above", "far"]


def grade(score: dict[str, Any]) -> Grade:
    """How a precision's error rate stands to PyTorch's.

    Args:
        score: what ``scoring.score`` found.
    """
    rise, theirs = score["rise"], score["pytorch"]["wer"]["rate"]
    clear = rise["significant"] and rise["rate"] > 0
    if rise["rate"] >= FAR_ANYWAY or (clear and rise["rate"] >= max(FAR, FAR_RELATIVE * theirs)):
        return "far"
    return "above" if clear else "same"


def is_useless(rate: float) -> bool:
    return rate >= USELESS


def warnings(precision: str, score: dict[str, Any]) -> Iterator[str]:
    """What of a precision's figures nobody should overlook, a sentence each.

    Args:
        score: what ``scoring.score`` found.
    """
    name = NAMES[score["unit"]].rate
    mine, theirs = score["wer"]["rate"], score["pytorch"]["wer"]["rate"]
    if grade(score) == "far":
        yield (
            f"{precision} is far worse than PyTorch: its {name} is {mine:.2%}, PyTorch's "
            f"{theirs:.2%}, {100 * score['rise']['rate']:.2f} percentage points less."
        )
    if lost := score["lost"]:
        symbols = ", ".join(f"{id_} ({shown(x)!r})" for id_, x in lost["symbols"].items())
        yield (
            f"sherpa-ncnn never emits token {symbols}. {lost['tokens']} of the {lost['of']} tokens "
            f"that PyTorch recognises are lost by that, {lost['rate']:.2%}."
        )
    if is_useless(theirs):
        yield (
            f"PyTorch itself has a {name} of {theirs:.2%}. Are the tokens, the settings and the "
            "transcripts this model's?"
        )
