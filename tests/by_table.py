"""Networks with the layers of a scale table in int8, as ncnn's tool makes them."""

from __future__ import annotations

from collections.abc import Iterator

from transducer2ncnn.formats.param import Param
from transducer2ncnn.formats.scale_table import ScaleTable
from transducer2ncnn.formats.weights import Block, Weights
from transducer2ncnn.quantization import apply
from transducer2ncnn.quantization.layer_formats import Int8Table


def by_table(
    param: Param, weights: Weights, table: ScaleTable, rest: str
) -> tuple[Param, Iterator[list[Block]]]:
    """Args, returns and raises as ``apply.apply``."""
    names = {layer.name for layer in param.layers} & apply.layers_of(table)
    return apply.apply(param, weights, dict.fromkeys(names, Int8Table.NAME), rest, table)
