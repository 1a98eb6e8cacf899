"""How far rounding alone moves a blob, and so how far from PyTorch ncnn may be in it.

ncnn adds up in another order than PyTorch, so both round differently. Mostly that is far below any
tolerance. But a softmax of large scores can turn over between two keys for a difference that is
rounded away: PyTorch is then as far from itself, once its weights are moved by as little as
rounding moves them. The reference runs the model so, and holds by how much each blob moved. A blob
may be off by more than the tolerance only where that is the reason, and never by much more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: What the weights were moved as far as, and by how much that is, relative to them.
MOVES = {"fp32": 2.0**-23, "fp16": 2.0**-12}
#: How much further ncnn may be off than moved weights are: they are a sample or two of rounding,
#: and where the processor computes in fp16, activations are rounded as well.
FACTOR = 5.0
#: How many times the tolerance is never exceeded.
CAP = 10.0

KEYS, EFFECTS = "conditioning/keys", "conditioning/{}"


@dataclass(frozen=True)
class Conditioning:
    """By what is rounded to (of ``MOVES``), the error of each blob, by its key in the reference."""

    effects: Mapping[str, Mapping[str, float]]

    def allowed(self, key: str, tolerance: float, stored: str) -> float:
        """The largest error of a blob that passes.

        Args:
            key: of the reference. A blob that it knows nothing of is held to the tolerance.
            stored: "fp32" or "fp16", what is rounded to.
        """
        own = FACTOR * self.effects[stored].get(key, 0.0)
        return max(tolerance, min(own, CAP * tolerance))


def to_arrays(errors: Mapping[str, Mapping[str, float]]) -> dict[str, np.ndarray]:
    """As arrays of a reference.

    Args:
        errors: by what the weights were moved as far as, the error of each blob, the same blobs.
    """
    found = {stored: np.array([*of.values()]) for stored, of in errors.items()}
    # One sample may by chance leave a blob where it was: the other one is a second.
    smaller = MOVES["fp32"] / MOVES["fp16"]
    found["fp32"] = np.maximum(found["fp32"], found["fp16"] * smaller)
    arrays = {EFFECTS.format(stored): effects for stored, effects in found.items()}
    return arrays | {KEYS: np.array([*errors["fp32"]], dtype=np.str_)}


def from_arrays(arrays: Any) -> Conditioning:
    """What ``to_arrays`` made, out of a loaded reference."""
    keys = arrays[KEYS].tolist()
    return Conditioning(
        {x: dict(zip(keys, arrays[EFFECTS.format(x)].tolist(), strict=True)) for x in MOVES}
    )
