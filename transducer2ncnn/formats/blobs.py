"""Names of a network's inputs and outputs: in0, in1, … and out0, out1, …

pnnx gives them these names, and sherpa-ncnn finds them by these.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def input_name(i: int) -> str:
    return f"in{i}"


def output_name(i: int) -> str:
    return f"out{i}"


def inputs(arrays: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """A network's inputs by name, in their order."""
    return {input_name(i): array for i, array in enumerate(arrays)}


def outputs(count: int) -> list[str]:
    """The names of the first outputs."""
    return [output_name(i) for i in range(count)]


#: The output of a network that has one, and the decoder's one input.
OUTPUT = output_name(0)
INPUT = input_name(0)
