"""Whether the arrays of a quantized model are fp32's, rounded.

Any int8 weight times its scale lies within a step of an fp32 weight, however it was rounded, unless
it is clipped. So wrong scales, swapped ones, and weights that are not the model's are found without
any audio, in every layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from transducer2ncnn.base.layout import Files
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.formats.scale_table import INT8_MAX
from transducer2ncnn.formats.weights import FP16_TAG, INT8_TAG, Block

#: What the names of scales have in them.
SCALE = "_scale"
#: How far int8 may be from the scaled weight, in steps; more than one for float32's sake.
STEPS = 1.01
#: The same in float16's spacing, relative and where numbers are tiny.
FP16_RELATIVE, FP16_ABSOLUTE = 2.0**-10, 2.0**-24


def wrong_arrays(fp32: Files, files: Files) -> Iterator[tuple[str, str, str]]:
    """Part, layer and array of everything that is not fp32's, rounded.

    A layer of fp32's name is compared with that one. One of a new name, out of a layer that was
    taken apart, may hold any array of its part that has as many values; what has the size of none
    is new and left alone.

    Raises:
        UserError: a file cannot be read.
    """
    for part, pair in files.items():
        originals = _arrays(*fp32[part])
        everywhere = [block for blocks in originals.values() for block in blocks]
        for layer, blocks in _arrays(*pair).items():
            scales = {block.name: block.values for block in blocks if SCALE in block.name}
            for block in blocks:
                if block.name in scales:
                    continue
                own_scales = next((x for k, x in scales.items() if k.startswith(block.name)), None)
                named = [b for b in originals.get(layer, []) if b.name == block.name]
                sized = [b for b in named or everywhere if b.values.size == block.values.size]
                if (named or sized) and not any(
                    is_rounded(block, own_scales, x.values) for x in sized
                ):
                    yield part, layer, block.name


def is_rounded(block: Block, scales: np.ndarray | None, original: np.ndarray) -> bool:
    """Whether an array is another one in its own precision.

    Args:
        scales: of an int8 array, one for each of its rows, or for all of them.
        original: in fp32, of the same size.
    """
    expected = original.astype(np.float64)
    if block.tag == INT8_TAG:
        if scales is None or block.values.size % scales.size or not (scales > 0).all():
            return False
        scaled = expected.reshape(scales.size, -1) * scales[:, None]
        steps = np.clip(scaled, -INT8_MAX, INT8_MAX) - block.values.reshape(scales.size, -1)
        return bool((np.abs(steps) <= STEPS).all())
    values = block.values.astype(np.float64)
    if block.tag == FP16_TAG:
        error = np.abs(values - expected)
        return bool((error <= FP16_RELATIVE * np.abs(expected) + FP16_ABSOLUTE).all())
    return bool((values == expected).all())


def _arrays(param: Path, bin_: Path) -> dict[str, list[Block]]:
    """The arrays of each layer that has some, by its name."""
    graph = param_file.read(param)
    pairs = zip(graph.layers, weights_file.read(graph, bin_), strict=True)
    return {layer.name: blocks for layer, blocks in pairs if blocks}
