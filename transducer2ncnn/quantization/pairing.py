"""Which layer of ncnn's is which of PyTorch's: all with weights, and those that are observed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats.layers import BY_MODULE, OBSERVED, WEIGHTED
from transducer2ncnn.formats.param import Param
from transducer2ncnn.quantization.statistics import Histogram


def layer_names(param: Param) -> list[str]:
    """Names of the layers that are quantized with a fixed input scale, in ncnn's order."""
    types = {type_ for names in OBSERVED.values() for type_ in names}
    return [layer.name for layer in param.layers if layer.type in types]


def by_ncnn_name(
    param: Param, histograms: Sequence[Histogram], file: str | Path
) -> dict[str, Histogram]:
    """Histograms by the names of ncnn's layers, which occur in the same order.

    Args:
        file: what the param was read from, for the message.

    Raises:
        UserError: the layers do not pair up.
    """
    types = {layer.name: layer.type for layer in param.layers}
    names = layer_names(param)
    for i, (name, h) in enumerate(itertools.zip_longest(names, histograms), start=1):
        if name is None or h is None or types[name] not in OBSERVED[h.kind]:
            ncnn = "nothing" if name is None else f"{types[name]} {name}"
            torch_ = "nothing" if h is None else f"{h.kind} {h.layer}"
            raise UserError(
                f"{file}: the layers to quantize are not those that were observed: number {i} is "
                f"{ncnn} in ncnn and {torch_} in PyTorch. Are both of the same model?"
            )
    return dict(zip(names, histograms, strict=True))


def modules(param: Param, description: Mapping[str, Any], part: str) -> dict[str, str]:
    """PyTorch's names of a part's layers with weights, by ncnn's; they occur in the same order.

    Args:
        description: model.json; of before its modules were written there, nothing comes.

    Raises:
        UserError: the layers do not pair up.
    """
    stated = [line.split(maxsplit=1) for line in description.get("modules", {}).get(part, [])]
    layers = [layer for layer in param.layers if layer.type in WEIGHTED]
    if not stated:
        return {}
    if len(stated) != len(layers) or any(
        layer.type not in BY_MODULE.get(kind, ())
        for layer, (kind, _) in zip(layers, stated, strict=True)
    ):
        raise UserError(
            f"model.json: the modules of the {part} that it names are not those of the ncnn files. "
            "Are both of the same model?"
        )
    return {layer.name: name for layer, (_, name) in zip(layers, stated, strict=True)}
