"""From a checkpoint file to a PyTorch model that computes what the trained one did."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from transducer2ncnn import families
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.families import registry
from transducer2ncnn.families.contract import Family, Sizes
from transducer2ncnn.families.modules import Graph, Transducer, check_tensors
from transducer2ncnn.formats.checkpoint import fold_scale, inference_tensors, load_state_dict


def load(checkpoint: str | Path, family: str, parts: Sequence[str] = PARTS) -> Transducer:
    """The model, in evaluation mode and without gradients.

    Args:
        family: its family's name.
        parts: those to load; the others are there without weights.

    Raises:
        UserError: the checkpoint cannot be opened safely, is not of this family, or holds NaN or
            infinity in a part that is loaded.
    """
    found = registry.find(family)
    stored = load_state_dict(checkpoint)
    tensors = inference_tensors(stored)
    try:
        model = _untrained(found, tensors)
    except UserError as e:
        raise UserError(f"{checkpoint}: {e}{_looks_like(tensors, found)}") from None
    for part in parts:
        names = [name for name in tensors if name.startswith(part + ".")]
        try:
            folded = {name.removeprefix(part + "."): fold_scale(name, stored) for name in names}
        except UserError as e:
            raise UserError(f"{checkpoint}: {e}") from None
        model.part(part).load_state_dict(folded, assign=True)
    return model.eval().requires_grad_(False)


def _untrained(family: Family, tensors: Mapping[str, Tensor]) -> Transducer:
    """A model with the tensors' sizes, without memory for its weights."""
    graph = cast(Graph, importlib.import_module(f"{families.__name__}.{family.name}.graph"))
    sizes = graph.read_sizes(tensors)
    _check_positive(sizes)
    architecture = family.architecture(sizes, family.settings())
    # On the meta device no memory is taken for weights that are about to be replaced.
    with torch.device("meta"):
        model = graph.build(architecture)
    check_tensors(tensors, model, family.title, family.recipes)
    return model


def _check_positive(sizes: Sizes) -> None:
    empty = [
        name
        for name, value in dataclasses.asdict(sizes).items()
        if not value or min(value if isinstance(value, tuple) else [value]) < 1
    ]
    if empty:
        raise UserError(f"{', '.join(empty)}, read off its tensors' shapes, would be 0.")


def _looks_like(tensors: Iterable[str], family: Family) -> str:
    # By its name: only an error depends on it, and no result (see staleness.py).
    resemblance = importlib.import_module(f"{families.__name__}.resemblance")
    title = resemblance.title(tensors)
    if title is None or title == family.title:
        return ""
    return f" By its tensors' names it looks like {title}."


def check_stated(checkpoint: str | Path, family: str, stated: dict[str, int]) -> None:
    """Raise UserError where a size that the config states is not the checkpoint's."""
    actual = dataclasses.asdict(load(checkpoint, family, parts=()).architecture.sizes)
    for name in stated:
        if name not in actual:
            raise UserError(f"sizes.{name}: no such size. Expected one of {', '.join(actual)}.")
    wrong = [f"{k} is {actual[k]}, not {v}" for k, v in stated.items() if actual[k] != v]
    if wrong:
        raise UserError(
            f"{checkpoint} is not the model that the config's `sizes` states: in the checkpoint "
            f"{'; '.join(wrong)}. Correct the config, or leave `sizes` out: they are read off "
            "the checkpoint."
        )


def describe(checkpoint: str | Path, family: str) -> dict[str, Any]:
    """What the later steps need to know of a checkpoint without opening it again.

    Raises:
        UserError: as ``load`` of all parts.
    """
    model = load(checkpoint, family)
    counts = {part: _num_parameters(model.part(part)) for part in PARTS}
    return {
        "family": family,
        "sizes": dataclasses.asdict(model.architecture.sizes),
        "settings": dataclasses.asdict(model.architecture.settings),
        "parameters": counts | {"total": sum(counts.values())},
    }


def _num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
