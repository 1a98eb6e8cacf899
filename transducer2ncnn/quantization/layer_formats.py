"""How one layer is stored: a class for each format, found by name in ``FORMATS``.

| name | layers | what it is |
| --- | --- | --- |
| fp32, fp16 | any | weights in that; biases of convolutions and linear layers are fp32 always |
| int8-table | those of ``QUANTIZED`` | as ncnn2int8 stores it: every scale out of a table |
| int8 | LSTM, Embed | int8 weights, the same layer; ncnn quantizes what goes into an LSTM |
| int8-dynamic | linear layers | a Gemm, int8 weights, its input quantized as it comes |
| int8-grouped | linear layers | the same, in several Gemms that share its inputs out |
| int8-apart | LSTM | plain layers for one frame a call, each matrix a Gemm as above |

A format first says what becomes of the layer in fp32 (``rewritten``), then how each layer that
stands in its place is stored (``stored``), so that the first can be checked without the second.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats.layers import TABLE
from transducer2ncnn.formats.param import Layer
from transducer2ncnn.formats.scale_table import ScaleTable
from transducer2ncnn.formats.weights import Block, to_fp16
from transducer2ncnn.quantization import rewrite
from transducer2ncnn.quantization.quantize import (
    CALIBRATED,
    QUANTIZED,
    int8_arrays,
    scales_of,
    table_keys,
    to_int8,
)
from transducer2ncnn.quantization.rewrite import Piece


class Format(ABC):
    """A way to store a layer.

    Args:
        rest: of ``REST``, the format of what int8 does not hold in a layer, such as an LSTM's bias.
        table: the scales of int8-table.
    """

    NAME: ClassVar[str]
    #: The layer types that can be stored so; None for all.
    TYPES: ClassVar[frozenset[str] | None] = None
    #: Whether the encoder must put out one frame a segment: see ``apply.check_frames``.
    ONE_FRAME: ClassVar[bool] = False

    def __init__(self, rest: str, table: ScaleTable | None) -> None:
        self._rest, self._table = rest, table

    def check(self, layer: Layer, blocks: list[Block]) -> None:
        """Refuse a layer that cannot be stored so.

        Raises:
            UserError: naming the layer, and the formats that it can be stored in.
        """
        if self.TYPES is not None and layer.type not in self.TYPES:
            others = [x for x, f in FORMATS.items() if f.TYPES is None or layer.type in f.TYPES]
            raise UserError(
                f"layer {layer.name} is of type {layer.type}, which the format {self.NAME} does "
                f"not have. Its formats are {', '.join(others)}."
            )

    def rewritten(self, layer: Layer, blocks: list[Block], any_rank: bool) -> list[Piece]:
        """The layers that take its place, still in fp32; itself, mostly.

        Args:
            any_rank: whether its input may be a vector as well as rows.
        """
        return [(layer, blocks)]

    def layer(self, layer: Layer) -> Layer:
        """The layer that was ``rewritten``, its parameters those of how it is stored."""
        return layer

    @abstractmethod
    def blocks(self, layer: Layer, blocks: list[Block]) -> list[Block]:
        """Its weights as they are stored."""


class Fp32(Format):
    NAME = "fp32"

    def blocks(self, layer: Layer, blocks: list[Block]) -> list[Block]:
        return blocks


class Fp16(Format):
    NAME = "fp16"

    def blocks(self, layer: Layer, blocks: list[Block]) -> list[Block]:
        return [to_fp16(layer, block) for block in blocks]


#: Of the layers that are given no format, and of what int8 leaves of one.
REST = (Fp32.NAME, Fp16.NAME)


class _Int8(Format):
    """Weights in int8, with scales from the weights."""

    def layer(self, layer: Layer) -> Layer:
        known = TABLE.get(layer.type)
        return layer.with_param(*known.int8_term) if known and known.int8_term else layer

    def blocks(self, layer: Layer, blocks: list[Block]) -> list[Block]:
        if not blocks:
            return []
        arrays = int8_arrays(layer, blocks)
        scales = dict(zip(arrays, self._scales(layer, blocks), strict=True))
        others = [block for block in blocks if block.name not in scales]
        stored = {block.name: block for block in self._others(layer, others)}
        for block in blocks:
            if block.name in scales:
                int8 = to_int8(block.values, scales[block.name])
                stored[block.name] = Block.tagged(block.name, int8)
        in_order = [stored[block.name] for block in blocks]
        return [*in_order, *(Block.bare(f"{name}_scales", x) for name, x in scales.items())]

    def _scales(self, layer: Layer, blocks: list[Block]) -> list[np.ndarray]:
        """The scales of each array that int8 holds, in the order of ``int8_arrays``."""
        return scales_of(layer, blocks)

    def _others(self, layer: Layer, blocks: list[Block]) -> list[Block]:
        """The arrays that int8 does not hold, as they are stored."""
        return FORMATS[self._rest](self._rest, None).blocks(layer, blocks)


class Int8Table(_Int8):
    NAME = "int8-table"
    TYPES = QUANTIZED

    def check(self, layer: Layer, blocks: list[Block]) -> None:
        super().check(layer, blocks)
        if self._table is None:
            raise UserError(f"layer {layer.name}: the format {self.NAME} needs a scale table.")
        keys = table_keys(layer, blocks)
        if missing := [key for key in keys if key not in self._table.weights]:
            raise UserError(f"the scale table does not fit: it has no scales {missing[0]}.")
        for key, rows in zip(keys, int8_arrays(layer, blocks).values(), strict=True):
            if self._table.weights[key].size != rows:
                raise UserError(
                    f"the scale table does not fit: {key} has {self._table.weights[key].size} "
                    f"scales, and layer {layer.name} needs {rows}."
                )
        if (layer.type in CALIBRATED) != (layer.name in self._table.inputs):
            has = "has an" if layer.name in self._table.inputs else "has no"
            raise UserError(
                f"the scale table does not fit: it {has} input scale of {layer.name}, "
                f"of type {layer.type}."
            )

    def blocks(self, layer: Layer, blocks: list[Block]) -> list[Block]:
        stored = super().blocks(layer, blocks)
        if layer.type in CALIBRATED and self._table:
            stored.append(Block.bare("input_scale", np.array([self._table.inputs[layer.name]])))
        return stored

    def _scales(self, layer: Layer, blocks: list[Block]) -> list[np.ndarray]:
        assert self._table is not None  # see check()
        return [self._table.weights[key] for key in table_keys(layer, blocks)]


class Int8(_Int8):
    NAME = "int8"
    TYPES = frozenset({"LSTM", "Embed"})


class Int8Dynamic(_Int8):
    NAME = "int8-dynamic"
    TYPES = frozenset({"InnerProduct", "Gemm"})

    def rewritten(self, layer: Layer, blocks: list[Block], any_rank: bool) -> list[Piece]:
        return rewrite.linear_as_gemm(layer, blocks, any_rank)

    def _others(self, layer: Layer, blocks: list[Block]) -> list[Block]:
        # The bias, which is fp32 in a linear layer too.
        return blocks


class Int8Grouped(Int8Dynamic):
    """For a linear layer with many inputs, a few of them loud, as behind the convolutions.

    One scale for all of them rounds the quiet ones away, and where a norm follows, a quiet frame is
    heard as well as a loud one. Scales for a sixth each cost next to nothing.
    """

    NAME = "int8-grouped"
    GROUPS: ClassVar[int] = 6

    def rewritten(self, layer: Layer, blocks: list[Block], any_rank: bool) -> list[Piece]:
        return rewrite.linear_as_gemm(layer, blocks, any_rank, self.GROUPS)


class Int8Apart(Int8Dynamic):
    NAME = "int8-apart"
    TYPES = frozenset({"LSTM"})
    ONE_FRAME = True

    def rewritten(self, layer: Layer, blocks: list[Block], any_rank: bool) -> list[Piece]:
        return rewrite.lstm_apart(layer, blocks)


FORMATS: dict[str, type[Format]] = {
    format_.NAME: format_
    for format_ in (Fp32, Fp16, Int8Table, Int8, Int8Dynamic, Int8Grouped, Int8Apart)
}
