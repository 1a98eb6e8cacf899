"""Bins with a single wrong weight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from transducer2ncnn.formats import param, weights
from transducer2ncnn.formats.weights import Block


def values_changed(
    graph: Path, bin_: Path, made: Path, factors: tuple[float, ...]
) -> Iterator[str]:
    """Write the bin over and over, each time with one block changed at one place, chosen anew.

    Args:
        factors: what a value is multiplied by, in turn.
    """
    read = param.read(graph)
    blocks = weights.read(read, bin_)
    rng = np.random.default_rng(0)
    for layer, own in zip(read.layers, blocks, strict=True):
        for i, block in enumerate(own):
            for factor in factors:
                values = block.values.copy()
                # A value that a percent changes, in half precision as well.
                place = rng.choice(np.flatnonzero(np.abs(values) > 1e-4))
                values[place] *= factor
                assert values[place] != block.values[place]
                changed = [*own[:i], Block(block.name, values, block.tag), *own[i + 1 :]]
                weights.write(made, [changed if x is own else x for x in blocks])
                yield f"{layer.type} {layer.name}"
