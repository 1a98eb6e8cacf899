"""Proof that every number in a bin is the checkpoint's, to the last bit.

Runs compare what their inputs reach; a row of an embedding that none of them feeds could hold
anything. So the weights themselves are compared as well: of each module's tensors, and of each
constant that PyTorch computes with, ``reference.npz`` holds a digest in fp32 and one in fp16,
rounded to nearest even (``digests.py`` makes them). The blocks of the bin are put into PyTorch's
order by the rules of ``layers.TABLE``, and their digests must be the same. Modules and layers are
paired by their order, as the runs pair their blobs.

A MemoryData layer holds a constant of the graph. It must be one of the tensors that PyTorch
computes with whatever the input is: a parameter, or what is made of parameters and numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.formats.layers import BY_MODULE, TABLE, WEIGHTED
from transducer2ncnn.formats.param import Layer
from transducer2ncnn.formats.weights import Block

#: What floating-point weights are stored as, with numpy's name.
STORED: dict[str, np.dtype[Any]] = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2")}


class Mismatch(UserError):
    """ncnn and PyTorch part."""


@dataclass
class Module:
    """A module of PyTorch's with weights, as often as it is executed."""

    kind: str
    name: str
    #: By tensor, its digest by precision.
    digests: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class Expected:
    """PyTorch's side of one part."""

    #: In order of execution.
    modules: list[Module]
    #: Digests, in fp32, of the tensors that do not depend on the input.
    constants: set[str]


def digest(values: np.ndarray) -> str:
    """A digest of values in their order; their shape does not count."""
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def to_arrays(part: str, expected: Expected) -> dict[str, np.ndarray]:
    """As arrays of a reference, whose keys begin with no part's name."""
    arrays = {
        f"weights/{part}/{i}/{module.kind}/{module.name}/{tensor}": np.array([*found.values()])
        for i, module in enumerate(expected.modules)
        for tensor, found in module.digests.items()
    }
    return arrays | {f"constants/{part}": np.array(sorted(expected.constants), dtype="<U64")}


def from_arrays(arrays: Any, part: str) -> Expected:
    """What ``to_arrays`` made, out of a loaded reference."""
    modules: dict[int, Module] = {}
    for key in arrays:
        if key.startswith(f"weights/{part}/"):
            _, _, i, kind, name, tensor = key.split("/")
            module = modules.setdefault(int(i), Module(kind, name))
            module.digests[tensor] = dict(zip(STORED, arrays[key].tolist(), strict=True))
    constants = set(arrays[f"constants/{part}"].tolist())
    return Expected([modules[i] for i in sorted(modules)], constants)


def check(param: Path, bin_: Path, expected: Expected, stored: str) -> int:
    """Compare all of a bin with the checkpoint; return the number of values that it holds.

    Args:
        stored: "fp32" or "fp16", what the weights are to be stored as. Bare blocks and constants
            are fp32 in both.

    Raises:
        Mismatch: naming the layer, its block, and the module of PyTorch.
        UserError: the files cannot be read.
    """
    graph = param_file.read(param)
    weighted = [layer for layer in graph.layers if layer.type in WEIGHTED]
    check_pairing(weighted, [(module.kind, module.name) for module in expected.modules], param)
    blocks = weights_file.read(graph, bin_)
    modules = iter(expected.modules)
    for layer, own in zip(graph.layers, blocks, strict=True):
        if layer.type in WEIGHTED:
            _check_layer(layer, own, next(modules), stored, bin_)
        elif own and any(digest(_fp32(block)) not in expected.constants for block in own):
            raise Mismatch(
                f"{bin_}: {layer.type} {layer.name} holds a constant that is not PyTorch's: of "
                "the tensors that the model computes with whatever its input is, none has these "
                "values. What pnnx folds by itself it may round differently: let the model's "
                "graph hold such a constant ready made."
            )
    return sum(block.values.size for own in blocks for block in own)


def check_pairing(
    weighted: list[Layer], modules: Iterable[tuple[str, str]], param: str | Path
) -> None:
    """Check that ncnn's layers with weights stand for PyTorch's modules (kind, name), in order.

    Raises:
        Mismatch: naming the first that does not.
    """
    number = 0
    for number, (kind, module) in enumerate(modules, start=1):
        layer = weighted[number - 1] if number <= len(weighted) else None
        if layer is None or layer.type not in BY_MODULE[kind]:
            found = f"{layer.type} {layer.name}" if layer else "nothing"
            raise Mismatch(
                f"{param}: layer with weights number {number} is {found}; PyTorch has the {kind} "
                f"{module} there, which ncnn should have as {' or '.join(BY_MODULE[kind])}."
            )
    if len(weighted) > number:
        extra = weighted[number]
        raise Mismatch(
            f"{param}: {extra.type} {extra.name} has weights and no counterpart in PyTorch."
        )


def _check_layer(
    layer: Layer, blocks: list[Block], module: Module, stored: str, bin_: Path
) -> None:
    where = f"{bin_}: {{}} of {layer.type} {layer.name}, {module.kind} {module.name} in PyTorch,"
    by_name = {block.name: block for block in blocks}
    for block in blocks:
        expected = STORED["fp32" if block.tag is None else stored]
        if block.values.dtype != expected:
            raise Mismatch(
                f"{where.format(f'the {block.name}')} is stored as {block.values.dtype.name}; "
                f"expected {expected.name}."
            )
    values = {name: block.values for name, block in by_name.items()}
    tensors = TABLE[layer.type].tensors(layer, values)
    if tensors.keys() != module.digests.keys():
        raise Mismatch(
            f"{where.format('the weights')} are {', '.join(tensors)}; the checkpoint has "
            f"{', '.join(module.digests)}."
        )
    for name, tensor in tensors.items():
        precision = "fp16" if tensor.dtype == STORED["fp16"] else "fp32"
        if digest(tensor) != module.digests[name][precision]:
            raise Mismatch(
                f"{where.format(f'the {name}')} is not the checkpoint's, to the last bit, in "
                f"{precision}. Convert it again; if that does not help, this pnnx changes weights."
            )


def _fp32(block: Block) -> np.ndarray:
    return block.values.astype("<f4", copy=False)
