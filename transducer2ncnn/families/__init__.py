"""Model families by name. A family states only what is its own; everything else is shared.

A family is a package: the package itself says what can be said without PyTorch (``Family``), and
its module ``graph`` holds the network (``graphs.Graph``), which only the first steps need.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families import lstm


class Family(Protocol):
    """What a family's package defines.

    The encoder's inputs and outputs are given as lists of arrays in ncnn's shapes, which have no
    batch axis: features first, the carried states last. ``BATCH_AXES`` says where PyTorch has
    its batch axis in each, None where it has none. Inputs and outputs correspond by position.
    """

    __name__: str
    #: What people call it, and a pattern that some of its tensors' names begin with, no other's.
    TITLE: str
    TELLTALE: str
    #: A dataclass with every size of the model as an int.
    Sizes: type
    #: Frames that sherpa-ncnn gives the encoder at a time, and by how many it moves on.
    SEGMENT: int
    HOP: int
    BATCH_AXES: tuple[int | None, ...]
    #: Position of the first carried state among the encoder's inputs, and among its outputs.
    FIRST_STATE: int

    def encoder_inputs(self, x: np.ndarray, states: list[np.ndarray]) -> list[np.ndarray]:
        """in0, in1, … for features x (T, feature_dim) and the states carried over."""

    def initial_states(self, sizes: Any) -> list[np.ndarray]:
        """The states at the start of an utterance."""

    def sherpa_meta_data(self, sizes: Any) -> dict[int, int]:
        """Parameters of the SherpaMetaData layer that sherpa-ncnn expects in the encoder."""


FAMILIES: dict[str, Family] = {"lstm": lstm}

#: The same of architectures that cannot be exported, so that a message can name them. In this
#: order: a ConvEmformer is an Emformer too.
OTHERS = {
    "a Zipformer transducer": r"encoder\.encoders\.\d+\.(encoder\.)?layers\.",
    "a ConvEmformer transducer": r"encoder\.(encoder\.)?emformer_layers\.\d+\.conv_module",
    "an Emformer transducer": r"encoder\.(encoder\.)?emformer_layers\.",
    "a Conformer": r"encoder\.(encoder\.)?(layers|encoders)\.\d+\.conv_module",
    "a Transformer": r"encoder\.(encoder\.)?(layers|encoders)\.\d+\.self_attn",
}


def resemblance(names: Iterable[str]) -> str | None:
    """What a checkpoint with tensors of these names looks like, or None."""
    names = list(names)
    known = {family.TITLE: family.TELLTALE for family in FAMILIES.values()} | OTHERS
    for title, telltale in known.items():
        if any(re.match(telltale, name) for name in names):
            return title
    return None


def described(description: dict[str, Any]) -> tuple[Family, Any]:
    """Family and sizes, out of what ``model.describe`` returned.

    Raises:
        UserError: it describes no model of a known family.
    """
    try:
        family = FAMILIES[description["family"]]
        sizes = family.Sizes(**description["sizes"])
    except (KeyError, TypeError) as e:
        raise UserError(f"model.json: describes no model that can be exported ({e}).") from None
    for name, value in vars(sizes).items():
        if type(value) is not int or not 0 < value < 2**31:
            raise UserError(f"model.json: {name} is {value!r}, expected a whole number above 0.")
    return family, sizes
