"""ncnn's bin files: the weights, block after block, in the order of the param's layers.

A block is either bare fp32 or opens with a four-byte tag that says how its values are stored; a
tagged block is padded with zeros to a multiple of four bytes. Which blocks a layer has follows
from its parameters (``layers.TABLE``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import replacing
from transducer2ncnn.base.reading import REMAKE
from transducer2ncnn.formats.layers import TABLE, Expected, LayerType
from transducer2ncnn.formats.param import Layer, Param

#: Tags of a tagged block, as the little-endian number they are. Both 0 and 0x0002C056 say fp32.
FP32_TAG = 0
FP32_RAW_TAG = 0x0002C056
FP16_TAG = 0x01306B47
INT8_TAG = 0x000D4B38

TAG_DTYPES: dict[int, np.dtype[Any]] = {
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
            raise UserError(f"{path}: ends within the {block} of layer {layer.name}. {REMAKE}")
        values = np.frombuffer(data, dtype, count, position) if count else np.empty(0, dtype)
        position = end
        return values

    weights: Weights = []
    for layer in param.layers:
        blocks = []
        for expected in _expected(layer, path):
            tag: int | None = None
            dtype: np.dtype[Any] = np.dtype("<f4")
            if expected.tagged:
                tag = int(take(np.dtype("<u4"), 1, layer, expected.name)[0])
                if tag not in TAG_DTYPES:
                    raise UserError(
                        f"{path}: the {expected.name} of layer {layer.name} opens with the "
                        f"unknown tag {tag:#010x}. Is it this param's bin? {REMAKE}"
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
            f"asks for. Is it this param's bin? {REMAKE}"
        )
    return weights


def _expected(layer: Layer, path: str | Path) -> list[Expected]:
    # Any other layer is taken to have no weights. A bin that then does not end where it should
    # is an error.
    try:
        return TABLE.get(layer.type, LayerType()).blocks(layer)
    except UserError as e:
        raise UserError(f"{path}: its param cannot be read: {e}") from None


def write(path: str | Path, weights: Iterable[Iterable[Block]]) -> None:
    """Write blocks layer after layer; an iterator keeps no more than one layer in memory."""
    with replacing(path) as partial, open(partial, "wb") as f:
        for blocks in weights:
            for block in blocks:
                if block.tag is not None:
                    f.write(np.array(block.tag, "<u4").tobytes())
                f.write(np.ascontiguousarray(block.values).data)
                if block.tag is not None:
                    f.write(bytes(-block.values.nbytes % 4))


def size(weights: Iterable[Iterable[Block]]) -> int:
    """The bytes that ``write`` writes."""
    return sum(
        block.values.nbytes + (0 if block.tag is None else 4 + -block.values.nbytes % 4)
        for blocks in weights
        for block in blocks
    )


def to_fp16(layer: Layer, block: Block) -> Block:
    """One block of a layer in half precision, rounded to nearest even as ncnn2int8 does.

    Bare blocks, biases among them, stay fp32: ncnn reads them as nothing else.

    Raises:
        UserError: a value is larger than half precision holds.
    """
    if block.tag is None:
        return block
    with np.errstate(over="ignore"):
        halved = block.values.astype("<f2")
    lost = np.isinf(halved) & np.isfinite(block.values)
    if lost.any():
        raise UserError(
            f"the {block.name} of layer {layer.name} holds {block.values[lost][0]:g}, and fp16 "
            f"ends at {np.finfo(np.float16).max:g}: export this model in fp32."
        )
    return Block.tagged(block.name, halved)
