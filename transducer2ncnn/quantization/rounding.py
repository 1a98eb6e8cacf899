"""Whether the arrays of a quantized model are fp32's, rounded.

Any int8 weight times its scale lies within a step of an fp32 weight, however it was rounded, unless
it is clipped. So wrong scales, swapped ones, and weights that are not the model's are found without
any audio, in every layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from transducer2ncnn.base.layout import Files
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.formats.param import Param
from transducer2ncnn.formats.scale_table import INT8_MAX
from transducer2ncnn.formats.weights import FP16_TAG, INT8_TAG, Block
from transducer2ncnn.quantization import apply
from transducer2ncnn.quantization.layer_formats import Int8Table

#: What the names of scales have in them, behind that of the array that they are of.
SCALE = "_scale"
#: How far int8 may be from the scaled weight, in steps; more than one for float32's sake.
STEPS = 1.01
#: The same in float16's spacing, relative and where numbers are tiny.
FP16_RELATIVE, FP16_ABSOLUTE = 2.0**-10, 2.0**-24


def wrong_arrays(
    fp32: Files, files: Files, formats: Mapping[str, Mapping[str, str]] | None = None
) -> Iterator[tuple[str, str, str]]:
    """Part, layer and array of everything that is not fp32's, rounded.

    Args:
        formats: of each part, the formats of its layers by name: what they were rewritten as is
            compared with the same of fp32. Without any, every layer is there as in fp32.

    Raises:
        UserError: a file cannot be read.
    """
    for part, (param, bin_) in files.items():
        graph = param_file.read(fp32[part][0])
        # What a table stores is not rewritten.
        rewriting = {
            name: format_
            for name, format_ in (formats or {}).get(part, {}).items()
            if format_ != Int8Table.NAME
        }
        plain = apply.rewritten(graph, weights_file.read(graph, fp32[part][1]), rewriting)
        originals = _arrays(*plain)
        stored = param_file.read(param)
        for layer, arrays in _arrays(stored, weights_file.read(stored, bin_)).items():
            for name, block in arrays.items():
                if SCALE in name:
                    continue
                original = originals.get(layer, {}).get(name)
                scales = next(
                    (x for k, x in arrays.items() if k.startswith(f"{name}{SCALE}")), None
                )
                if original is None or not is_rounded(
                    block, scales.values if scales else None, original.values
                ):
                    yield part, layer, name


def is_rounded(block: Block, scales: np.ndarray | None, original: np.ndarray) -> bool:
    """Whether an array is another one in its own precision.

    Args:
        scales: of an int8 array, one for each of its rows, or for all of them.
        original: in fp32.
    """
    if block.values.size != original.size:
        return False
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


def _arrays(graph: Param, weights: weights_file.Weights) -> dict[str, dict[str, Block]]:
    """The arrays of each layer that has some, by its name and by theirs."""
    pairs = zip(graph.layers, weights, strict=True)
    return {
        layer.name: {block.name: block for block in blocks} for layer, blocks in pairs if blocks
    }
