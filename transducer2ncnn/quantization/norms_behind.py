"""The norm behind a layer, and what it takes to compute it from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transducer2ncnn.export.norms import DIVIDE, ROOT
from transducer2ncnn.formats.param import Layer, Param


@dataclass(frozen=True)
class Norm:
    """A norm that a layer's output goes into.

    Attributes:
        output: the blob that it puts out.
        beside: the other blobs that it is computed from, which do not depend on the layer.
    """

    output: str
    beside: tuple[str, ...]


def following(graph: Param, layer: Layer) -> Norm | None:
    """The first norm that depends on a layer's first output; None if there is none.

    Args:
        graph: in fp32, its norms as ``export.norms`` writes them.
    """
    makers = {blob: x for x in graph.layers for blob in x.outputs}
    dependent = {layer.outputs[0]}
    for x in graph.layers:
        if x is layer or dependent.isdisjoint(x.inputs):
            continue
        dependent.update(x.outputs)
        if _is_norm(x, makers):
            return Norm(x.outputs[0], _beside(x, dependent - set(layer.outputs), makers, layer))
    return None


def _is_norm(layer: Layer, makers: Mapping[str, Layer]) -> bool:
    """Whether a layer ends a norm: a quotient by the root of a sum of squares."""
    if layer.type != "BinaryOp" or layer.integer(0) != DIVIDE or len(layer.inputs) != 2:
        return False
    root = makers[layer.inputs[1]]
    return root.type == "Reduction" and root.integer(0) == ROOT


def _beside(
    end: Layer, dependent: set[str], makers: Mapping[str, Layer], start: Layer
) -> tuple[str, ...]:
    """The blobs that the layers up to ``end`` take besides what depends on ``start``."""
    needed: dict[str, None] = {}
    seen, waiting = set(), [end]
    while waiting:
        for blob in waiting.pop().inputs:
            if blob in dependent and blob not in seen:
                seen.add(blob)
                waiting.append(makers[blob])
            elif blob not in dependent and blob != start.outputs[0]:
                needed[blob] = None
    return tuple(needed)
