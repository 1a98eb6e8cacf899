"""The input scales that calibration gives to the layers of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from transducer2ncnn.formats.param import Param
from transducer2ncnn.quantization import pairing, thresholds
from transducer2ncnn.quantization.layer_formats import Int8Table
from transducer2ncnn.quantization.recipes import Part
from transducer2ncnn.quantization.statistics import Histogram
from transducer2ncnn.quantization.thresholds import Found


def tabled(graph: Param, part: Part, modules: Mapping[str, str] | None = None) -> set[str]:
    """The layers of a network in fp32 that a recipe stores by a scale table.

    Args:
        modules: PyTorch's names of the layers by ncnn's, which the recipe may name them by.

    Raises:
        UserError: the recipe names a layer that the network does not have.
    """
    formats = part.assign(((layer.name, layer.type) for layer in graph.layers), modules)
    return {name for name, format_ in formats.items() if format_ == Int8Table.NAME}


def inputs(
    graph: Param,
    part: Part,
    histograms: Sequence[Histogram],
    file: str | Path,
    modules: Mapping[str, str] | None = None,
) -> dict[str, Found]:
    """What is found for each input that a recipe has a scale for, by layer, in ncnn's order.

    Args:
        graph: the network in fp32.
        histograms: what was observed of the network.
        file: what the graph was read from, for messages.
        modules: as for ``tabled``.

    Raises:
        UserError: the histograms are of other layers, or one of them gives no scale.
    """
    by_name = pairing.by_ncnn_name(graph, histograms, file)
    wanted = tabled(graph, part, modules)
    scaled = {name: histogram for name, histogram in by_name.items() if name in wanted}
    found = thresholds.input_scales([*scaled.values()], part.table)
    return dict(zip(scaled, found, strict=True))
