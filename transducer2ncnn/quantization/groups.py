"""What a search for a recipe chooses among: groups of layers, and the formats of each.

The plain layer, in fp16, is always one of them. A format that takes a scale table is none: it takes
recordings to calibrate on, and costs more than inputs that are quantized as they come.

Each layer is a group by itself while there are no more than ``GROUPS``. A network of hundreds has
neighbours put together, the smallest first, so that what it takes to measure them stays bounded and
large layers are still chosen for by themselves.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS, Files
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.formats.layers import WEIGHTED
from transducer2ncnn.formats.param import Layer, Param
from transducer2ncnn.formats.weights import Block
from transducer2ncnn.quantization import pairing
from transducer2ncnn.quantization.apply import apply
from transducer2ncnn.quantization.layer_formats import FORMATS, Fp16, Fp32, Int8Table
from transducer2ncnn.quantization.recipes import Part

#: The formats that are searched.
SEARCHED = {name: x for name, x in FORMATS.items() if name not in (Fp32.NAME, Int8Table.NAME)}
#: Groups of a model, at most, unless neighbours have other formats.
GROUPS = 64


@dataclass(frozen=True)
class Group:
    """Layers that are given the same format.

    Attributes:
        part: the network that they are of.
        layers: their names, in order.
        sizes: bytes in the bin by format, fp16 among them.
    """

    part: str
    layers: tuple[str, ...]
    sizes: Mapping[str, int]

    @property
    def quantizing(self) -> list[str]:
        """The formats besides fp16."""
        return [name for name in self.sizes if name != Fp16.NAME]

    @property
    def name(self) -> str:
        """The group in words, for people."""
        first, last = self.layers[0], self.layers[-1]
        return f"{self.part} {first}" + (f" to {last}" if last != first else "")


def find(
    fp32: Files,
    description: Mapping[str, Any],
    keep: Mapping[str, Sequence[str]] | None = None,
    most: int = GROUPS,
) -> list[Group]:
    """The groups of a model's three networks, in order.

    Args:
        description: model.json.
        keep: by part, names of layers that stay fp16, as a configuration has them.
        most: how many groups there may be before neighbours are put together.

    Raises:
        UserError: a name to keep fits no layer.
    """
    one_frame = described(dict(description)).frames_per_segment == 1
    found = []
    for part in PARTS:
        graph = param_file.read(fp32[part][0])
        kept = tuple((keep or {}).get(part, ()))
        layers = [(layer.name, layer.type) for layer in graph.layers]
        modules = pairing.modules(graph, description, part)
        free = Part(dict.fromkeys(WEIGHTED, Fp16.NAME), keep=kept).assign(layers, modules)
        weights = weights_file.read(graph, fp32[part][1])
        for layer, blocks in zip(graph.layers, weights, strict=True):
            sizes = _sizes(layer, blocks, one_frame) if layer.name in free else {}
            if len(sizes) > 1:
                found.append(Group(part, (layer.name,), sizes))
    return merged(found, most)


def merged(groups: Sequence[Group], most: int) -> list[Group]:
    """Neighbours of one network with the same formats put together, the smallest pair first, until
    there are no more than ``most``, or no two such neighbours."""
    left = list(groups)
    while len(left) > most:
        pairs = [
            (a.sizes[Fp16.NAME] + b.sizes[Fp16.NAME], i)
            for i, (a, b) in enumerate(itertools.pairwise(left))
            if a.part == b.part and a.sizes.keys() == b.sizes.keys()
        ]
        if not pairs:
            break
        _, i = min(pairs)
        a, b = left[i : i + 2]
        sizes = {name: size + b.sizes[name] for name, size in a.sizes.items()}
        left[i : i + 2] = [Group(a.part, a.layers + b.layers, sizes)]
    return left


def _sizes(layer: Layer, blocks: list[Block], one_frame: bool) -> dict[str, int]:
    """Bytes of a layer in the bin, in each format that it can be searched in."""
    if not _is_searched(layer.type):
        return {}
    sizes = {}
    for name, format_ in SEARCHED.items():
        if format_.ONE_FRAME and not one_frame:
            continue
        try:
            _, stored = alone(layer, blocks, name)
        except UserError:
            if name == Fp16.NAME:  # what does not fit it is delivered in no format of a search
                raise
            continue  # not this layer, such as one with an activation in it
        sizes[name] = weights_file.size(stored)
    return sizes


def _is_searched(type_: str) -> bool:
    """Whether layers of a type have other formats than fp16 in a search."""
    return any(x.TYPES is not None and type_ in x.TYPES for x in SEARCHED.values())


def plain_size(fp32: Files) -> int:
    """Bytes of the three bins with all layers in fp16."""
    total = 0
    for pair in fp32.values():
        graph = param_file.read(pair[0])
        _, stored = apply(graph, weights_file.read(graph, pair[1]), {}, Fp16.NAME)
        total += weights_file.size(stored)
    return total


def alone(layer: Layer, blocks: list[Block], format_: str) -> tuple[Param, list[list[Block]]]:
    """A layer, or those that it is rewritten as, in a format.

    Raises:
        UserError: it cannot have the format.
    """
    graph = Param((layer,), len(layer.outputs))
    param, stored = apply(graph, [blocks], {layer.name: format_}, Fp16.NAME)
    return param, list(stored)


def selectors(layers: Iterable[tuple[str, str]], formats: Mapping[str, str]) -> dict[str, str]:
    """Formats by selector, as a recipe states them: for each type the most frequent format, and
    the layers by name that differ from it.

    Args:
        layers: name and type of each of the network's layers, in order.
        formats: by name, of the layers that are not fp16.
    """
    types = {name: type_ for name, type_ in layers if _is_searched(type_)}
    chosen = {name: formats.get(name, Fp16.NAME) for name in types}
    stated: dict[str, str] = {}
    for type_ in dict.fromkeys(types.values()):
        counts = Counter(chosen[name] for name in types if types[name] == type_)
        stated[type_] = max(counts, key=lambda name: counts[name])
    return stated | {
        name: format_ for name, format_ in chosen.items() if format_ != stated[types[name]]
    }
