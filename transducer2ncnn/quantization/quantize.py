"""int8 weights: which arrays of a layer become int8, by which scales, and how they are rounded."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from transducer2ncnn.formats.layers import TABLE
from transducer2ncnn.formats.param import Layer, Param
from transducer2ncnn.formats.scale_table import INT8_MAX, WEIGHTS
from transducer2ncnn.formats.weights import Block, Weights

#: In place of INT8_MAX for convolutions that ncnn runs as Winograd, whose sums need the headroom.
WINOGRAD_MAX = 31

#: Layers that int8 can hold, as far as ncnn's tools do.
QUANTIZED = frozenset(name for name, known in TABLE.items() if known.int8_term)
#: Layers whose inputs are quantized by a scale of the table.
CALIBRATED = tuple(name for name, known in TABLE.items() if known.observed)


def weight_scales(
    param: Param,
    weights: Weights,
    types: set[str],
    keep: Collection[str] = (),
    spare_headroom: bool = False,
) -> dict[str, np.ndarray]:
    """Scales of the weights of every layer of some types, by table key, LSTMs first as the tool.

    Args:
        param, weights: a network in fp32.
        types: the layer types to quantize, of ``QUANTIZED``.
        keep: names of layers not to quantize.
        spare_headroom: use the whole of int8 for a 3×3 convolution of stride 1 with so few
            channels that ncnn never runs it as Winograd, such as the first. The tool does not.

    Returns:
        ``<layer>_param_0`` (and ``_1`` for an LSTM's hidden weights) → fp32 scales: one per
        output channel or gate row, or a single one for a Gemm's B or an embedding.
    """
    scales: dict[str, np.ndarray] = {}
    layers = sorted(
        zip(param.layers, weights, strict=True), key=lambda pair: pair[0].type != "LSTM"
    )
    for layer, blocks in layers:
        if layer.type not in types or layer.name in keep:
            continue
        winograd = _is_winograd(layer) and not (spare_headroom and _has_few_channels(layer))
        limit = WINOGRAD_MAX if winograd else INT8_MAX
        keys = table_keys(layer, blocks)
        scales |= dict(zip(keys, scales_of(layer, blocks, limit), strict=True))
    return scales


def scales_of(layer: Layer, blocks: list[Block], limit: int = INT8_MAX) -> list[np.ndarray]:
    """fp32 scales by which a layer's weights fill ±``limit``, for each array of ``int8_arrays``."""
    by_name = {block.name: block.values for block in blocks}
    found = []
    for name, rows in int8_arrays(layer, blocks).items():
        largest = np.abs(by_name[name].reshape(rows, -1)).max(axis=1)
        top = np.float32(limit)
        # Weights that are all zero stay zero by any scale. By none but an infinite one would such
        # that are next to it be more.
        largest[largest <= top / np.finfo(np.float32).max] = 1
        # In fp32, to the last bit as in the reference tables, whose LSTM scales are made by way
        # of the reciprocal.
        found.append(np.float32(1) / largest * top if layer.type == "LSTM" else top / largest)
    return found


def int8_arrays(layer: Layer, blocks: list[Block]) -> dict[str, int]:
    """The arrays of a layer that int8 can hold, and the number of scales of each."""
    rows = TABLE[layer.type].int8_rows(layer)
    return {block.name: rows[block.name] for block in blocks if block.name in rows}


def table_keys(layer: Layer, blocks: list[Block]) -> list[str]:
    """A scale table's keys for a layer's arrays."""
    return [f"{layer.name}{WEIGHTS}{i}" for i in range(len(int8_arrays(layer, blocks)))]


def to_int8(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(rows, …) fp32 and a scale a row → int8, rounded half away from zero, within ±127."""
    scaled = values.reshape(len(scales), -1) * scales[:, None]
    # Not rint, which rounds half to even; and not floor(x + 0.5) in fp32, where the sum rounds.
    rounded = np.trunc(scaled)
    rounded += np.sign(scaled) * (np.abs(scaled - rounded) >= 0.5)
    clipped: np.ndarray = np.clip(rounded, -INT8_MAX, INT8_MAX).astype(np.int8)
    return clipped.reshape(-1)


def _is_winograd(layer: Layer) -> bool:
    """Whether ncnn runs it as int8 Winograd, which needs a bit of headroom: 3×3, stride 1."""
    if layer.type != "Convolution":
        return False
    pairs = {}
    for what, width, height in (("kernel", 1, 11), ("dilation", 2, 12), ("stride", 3, 13)):
        value = layer.integer(width, 1)
        pairs[what] = (value, layer.integer(height, value))
    return pairs == {"kernel": (3, 3), "dilation": (1, 1), "stride": (1, 1)}


def _has_few_channels(layer: Layer) -> bool:
    """Whether a 3×3 convolution has too few channels for int8 Winograd.

    ncnn takes it on x86 with more than 8 channels in or out, on ARM with at least 8 in and out.
    """
    outputs = layer.integer(0)
    inputs = layer.integer(6) // (9 * outputs)
    return max(inputs, outputs) <= 8 and min(inputs, outputs) < 8
