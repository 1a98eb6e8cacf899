"""ncnn's bin files: the weights, block after block, in the order of the param's layers.

A block is either bare fp32 or opens with a four-byte tag that says how its values are stored; a
tagged block is padded with zeros to a multiple of four bytes. Which blocks a layer has follows
from its parameters (``LAYOUTS``).

Source: what ncnn's layers load, https://github.com/Tencent/ncnn/tree/master/src/layer
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import replacing
from transducer2ncnn.formats.param import Layer, Param

#: Tags of a tagged block, as the little-endian number they are. Both 0 and 0x0002C056 say fp32.
FP32_TAG = 0
FP32_RAW_TAG = 0x0002C056
FP16_TAG = 0x01306B47
INT8_TAG = 0x000D4B38

TAG_DTYPES = {
    FP32_TAG: np.dtype("<f4"),
    FP32_RAW_TAG: np.dtype("<f4"),
    FP16_TAG: np.dtype("<f2"),
    INT8_TAG: np.dtype("i1"),
}
DTYPE_TAGS = {np.dtype("<f4"): FP32_TAG, np.dtype("<f2"): FP16_TAG, np.dtype("i1"): INT8_TAG}


@dataclass(frozen=True)
class Block:
    """One array of weights. ``tag`` is None where the block is bare fp32."""

    name: str
    values: np.ndarray
    tag: int | None

    @staticmethod
    def tagged(name: str, values: np.ndarray) -> Block:
        return Block(name, values, DTYPE_TAGS[values.dtype])

    @staticmethod
    def bare(name: str, values: np.ndarray) -> Block:
        return Block(name, values.astype("<f4"), None)


@dataclass(frozen=True)
class _Expected:
    name: str
    count: int
    tagged: bool


def _convolution(layer: Layer) -> list[_Expected]:
    outputs, groups, int8 = layer.integer(0), layer.integer(7, 1), layer.integer(8)
    blocks = [_Expected("weight", layer.integer(6), True)]
    if layer.integer(5):
        blocks.append(_Expected("bias", outputs, False))
    if int8:
        # A depthwise convolution's scales are per group with term 1, and one for all with 2.
        depthwise = layer.type == "ConvolutionDepthWise"
        scales = (groups if int8 % 100 == 1 else 1) if depthwise else outputs
        blocks += [_Expected("weight_scales", scales, False), _Expected("input_scale", 1, False)]
        if int8 > 100:
            blocks.append(_Expected("output_scale", 1, False))
    return blocks


def _inner_product(layer: Layer) -> list[_Expected]:
    outputs = layer.integer(0)
    blocks = [_Expected("weight", layer.integer(2), True)]
    if layer.integer(1):
        blocks.append(_Expected("bias", outputs, False))
    if layer.integer(8):
        blocks += [_Expected("weight_scales", outputs, False), _Expected("input_scale", 1, False)]
    return blocks


def _gemm(layer: Layer) -> list[_Expected]:
    m, n, k = layer.integer(7), layer.integer(8), layer.integer(9)
    int8 = layer.integer(18)
    # Values of C by how it is broadcast: one, a column, a matrix, a row.
    c_count = {0: 1, 1: m, 2: m, 3: m * n, 4: n}
    blocks = []
    if layer.integer(4):
        blocks.append(_Expected("a", m * k, True))
    if layer.integer(5):
        blocks.append(_Expected("b", n * k, True))
    if layer.integer(6) and layer.integer(10) != -1:
        blocks.append(_Expected("c", c_count[layer.integer(10)], True))
    if int8 and layer.integer(4):
        blocks.append(_Expected("a_scales", m, False))
    if int8 and layer.integer(5):
        blocks.append(_Expected("b_scale", 1, False))
    return blocks


def _embed(layer: Layer) -> list[_Expected]:
    blocks = [_Expected("weight", layer.integer(3), True)]
    if layer.integer(2):
        blocks.append(_Expected("bias", layer.integer(0), False))
    if layer.integer(18):
        blocks.append(_Expected("weight_scale", 1, False))
    return blocks


def _lstm(layer: Layer) -> list[_Expected]:
    outputs, directions = layer.integer(0), 2 if layer.integer(2) == 2 else 1
    hidden = layer.integer(3) or outputs
    blocks = [
        _Expected("weight_xc", layer.integer(1), True),
        _Expected("bias", 4 * hidden * directions, True),
        _Expected("weight_hc", 4 * hidden * outputs * directions, True),
    ]
    if outputs != hidden:
        blocks.append(_Expected("weight_hr", outputs * hidden * directions, True))
    if layer.integer(8):
        blocks += [
            _Expected(f"weight_{which}_scales", 4 * hidden * directions, False)
            for which in ("xc", "hc")
        ]
    return blocks


def _memory_data(layer: Layer) -> list[_Expected]:
    count = 1
    for key in (0, 1, 11, 2):  # w, h, d, c; an axis that is not there is 0
        count *= layer.integer(key) or 1
    return [_Expected("data", count, layer.integer(21, 1) == 0)]


#: Blocks of the layers that have weights. Every other layer is taken to have none; a bin that
#: then does not end where it should is an error.
LAYOUTS: dict[str, Callable[[Layer], list[_Expected]]] = {
    "Convolution": _convolution,
    "Convolution1D": _convolution,
    "ConvolutionDepthWise": _convolution,
    "ConvolutionDepthWise1D": _convolution,
    "InnerProduct": _inner_product,
    "Gemm": _gemm,
    "Embed": _embed,
    "LSTM": _lstm,
    "MemoryData": _memory_data,
}

Weights = list[list[Block]]


def read(param: Param, path: str | Path) -> Weights:
    """The blocks of each of the param's layers, mapped from the file rather than read.

    Raises:
        UserError: the file is missing, or does not hold just what the param says.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r") if Path(path).stat().st_size else b""
    except OSError as e:
        raise UserError(f"{path}: cannot be read as an ncnn bin file ({e}).") from None
    position = 0

    def take(dtype: np.dtype, count: int, layer: Layer, block: str) -> np.ndarray:
        nonlocal position
        if count < 0:
            raise UserError(f"{path}: layer {layer.name} asks for a {block} of {count} values.")
        end = position + dtype.itemsize * count
        if end > len(data):
            raise UserError(f"{path}: ends within the {block} of layer {layer.name}.")
        values = np.frombuffer(data, dtype, count, position) if count else np.empty(0, dtype)
        position = end
        return values

    weights: Weights = []
    for layer in param.layers:
        blocks = []
        for expected in _expected(layer, path):
            tag, dtype = None, np.dtype("<f4")
            if expected.tagged:
                tag = int(take(np.dtype("<u4"), 1, layer, expected.name)[0])
                if tag not in TAG_DTYPES:
                    raise UserError(
                        f"{path}: the {expected.name} of layer {layer.name} opens with the "
                        f"unknown tag {tag:#010x}. Is it this param's bin?"
                    )
                dtype = TAG_DTYPES[tag]
            values = take(dtype, expected.count, layer, expected.name)
            if expected.tagged:
                take(np.dtype("u1"), -values.nbytes % 4, layer, expected.name)
            blocks.append(Block(expected.name, values, tag))
        weights.append(blocks)
    if position != len(data):
        raise UserError(
            f"{path}: {len(data) - position} bytes are left after the weights that the param "
            "asks for. Is it this param's bin?"
        )
    return weights


def _expected(layer: Layer, path: str | Path) -> list[_Expected]:
    try:
        return LAYOUTS.get(layer.type, lambda _: [])(layer)
    except UserError as e:
        raise UserError(f"{path}: its param cannot be read: {e}") from None
    except LookupError as e:
        raise UserError(
            f"{path}: its param gives layer {layer.name} a parameter that a {layer.type} cannot "
            f"have ({e})."
        ) from None


def write(path: str | Path, weights: Iterable[Iterable[Block]]) -> None:
    """Write blocks layer after layer; an iterator keeps no more than one layer in memory."""
    with replacing(path) as partial, open(partial, "wb") as f:
        for blocks in weights:
            for block in blocks:
                if block.tag is not None:
                    f.write(np.array(block.tag, "<u4").tobytes())
                f.write(np.ascontiguousarray(block.values))
                if block.tag is not None:
                    f.write(bytes(-block.values.nbytes % 4))
