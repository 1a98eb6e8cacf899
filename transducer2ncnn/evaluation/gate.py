"""What keeps a model that lost too much from being delivered."""

from __future__ import annotations

from typing import Any

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.evaluation.units import NAMES


def check_rise(evaluation: dict[str, Any], max_rise: float) -> None:
    """Refuse a precision whose error rate rose too far above PyTorch's.

    Args:
        evaluation: what ``scoring.score`` found, and its "precision".
        max_rise: percentage points.

    Raises:
        UserError: with both rates, by how much one is above the other, and the limit.
    """
    precision, rise = evaluation["precision"], evaluation["rise"]
    points = 100 * rise["rate"]
    # Rates are fractions of counts: what is the limit but for rounding is not above it.
    if points <= max_rise + 1e-9:
        return
    mine, theirs = evaluation["wer"]["rate"], evaluation["pytorch"]["wer"]["rate"]
    chance = "" if rise["significant"] else ", so it may be chance"
    names = NAMES[evaluation["unit"]]
    raise UserError(
        f"{precision} is not delivered: its {names.rate} is {points:.2f} percentage points "
        f"above PyTorch's, and evaluation.max_rise.{precision} allows {max_rise:g}. It is "
        f"{mine:.2%}, PyTorch's {theirs:.2%}, on {evaluation['words']} {names.plural} in "
        f"{evaluation['utterances']} recordings; the rise lies between {100 * rise['low']:.2f} and "
        f"{100 * rise['high']:.2f} points with 95 % confidence{chance}. The recordings that "
        f"differ most are listed in the evaluation's {precision}.json."
    )
