"""From a checkpoint file to a PyTorch model that computes what the trained one did."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from transducer2ncnn import families
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.families import registry
from transducer2ncnn.families.contract import Architecture, Family, Sizes
from transducer2ncnn.families.modules import Graph, Transducer, check_tensors
from transducer2ncnn.families.settings import Settled, Value, settle
from transducer2ncnn.formats.checkpoint import (
    Checkpoint,
    fold_scale,
    inference_tensors,
    load_state_dict,
)
from transducer2ncnn.formats.layers import BY_MODULE


def load(
    checkpoint: str | Path,
    family: str,
    parts: Sequence[str] = PARTS,
    settings: Mapping[str, Value] | None = None,
) -> Transducer:
    """The model, in evaluation mode and without gradients.

    Args:
        family: its family's name.
        parts: those to load; the others are there without weights.
        settings: those that the configuration states.

    Raises:
        UserError: the checkpoint cannot be opened safely, is not of this family, or holds NaN or
            infinity in a part that is loaded; or a setting is missing or wrong.
    """
    return _load(checkpoint, registry.find(family), settings or {}, parts, {})[0]


def load_described(
    checkpoint: str | Path, description: Mapping[str, Any], parts: Sequence[str] = PARTS
) -> Transducer:
    """The same of a model that was described before: what it is has been settled.

    Args:
        description: what ``inspect`` found.
    """
    architecture = registry.described(description)
    family = registry.find(description["family"])
    stored = load_state_dict(checkpoint)
    with _explained(checkpoint, stored, family):
        model = _build(architecture, family, inference_tensors(stored))
    return _with_weights(model, stored, parts, checkpoint)


def untrained(family: Family, architecture: Architecture[Any, Any]) -> Transducer:
    """A model as it is before training."""
    return _graph(family).build(architecture)


def _load(
    checkpoint: str | Path,
    family: Family,
    stated: Mapping[str, Value],
    parts: Sequence[str],
    taken_from: Mapping[str, str],
) -> tuple[Transducer, Settled]:
    opened = Checkpoint(checkpoint)
    stored = opened.state_dict("model")
    tensors = inference_tensors(stored)
    with _explained(checkpoint, stored, family):
        sizes = _graph(family).read_sizes(tensors)
        _check_positive(sizes)
    settled = settle(family, stated, opened.plain_values(), checkpoint, taken_from)
    with _explained(checkpoint, stored, family):
        model = _build(family.architecture(sizes, settled.settings), family, tensors)
    return _with_weights(model, stored, parts, checkpoint), settled


def _graph(family: Family) -> Graph:
    return cast(Graph, importlib.import_module(f"{families.__name__}.{family.name}.graph"))


def _build(
    architecture: Architecture[Any, Any], family: Family, tensors: Mapping[str, Tensor]
) -> Transducer:
    """A model that has just these tensors, without memory for its weights."""
    # On the meta device no memory is taken for weights that are about to be replaced.
    with torch.device("meta"):
        model = untrained(family, architecture)
    check_tensors(tensors, model, family.title, family.recipes)
    return model


def _with_weights(
    model: Transducer, stored: dict[str, Tensor], parts: Sequence[str], checkpoint: str | Path
) -> Transducer:
    tensors = inference_tensors(stored)
    for part in parts:
        names = [name for name in tensors if name.startswith(part + ".")]
        try:
            folded = {name.removeprefix(part + "."): fold_scale(name, stored) for name in names}
        except UserError as e:
            raise UserError(f"{checkpoint}: {e}") from None
        model.part(part).load_state_dict(folded, assign=True)
    return model.eval().requires_grad_(False)


@contextmanager
def _explained(checkpoint: str | Path, stored: dict[str, Tensor], family: Family) -> Iterator[None]:
    """Errors inside say which checkpoint it is, and what it looks like instead."""
    try:
        yield
    except UserError as e:
        looks_like = _looks_like(inference_tensors(stored), family)
        raise UserError(f"{checkpoint}: {e}{looks_like}") from None


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
    return str(resemblance.advice(tensors, family.title))


def check_stated(checkpoint: str | Path, family: str, stated: dict[str, int]) -> None:
    """Raise UserError where a size that the config states is not the checkpoint's."""
    found, stored = registry.find(family), load_state_dict(checkpoint)
    with _explained(checkpoint, stored, found):
        actual = dataclasses.asdict(_graph(found).read_sizes(inference_tensors(stored)))
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


def weighted_modules(
    checkpoint: str | Path, family: str, settings: Mapping[str, Value] | None = None
) -> dict[str, list[str]]:
    """By part, the names of the modules that become layers with weights.

    Raises:
        UserError: as ``load``.
    """
    model = load(checkpoint, family, (), settings)
    return {
        part: [
            f"{part}.{name}"
            for name, module in model.part(part).named_modules()
            if type(module).__name__ in BY_MODULE
        ]
        for part in PARTS
    }


def inspect(
    checkpoint: str | Path,
    family: str,
    settings: Mapping[str, Value] | None = None,
    taken_from: Mapping[str, str] | None = None,
) -> tuple[Transducer, dict[str, Any]]:
    """A model, and its description: what later steps need to know without opening it again.

    Args:
        settings: those that the configuration states.
        taken_from: of these, where those were found that no person stated.

    Raises:
        UserError: as ``load`` of all parts.
    """
    found = registry.find(family)
    model, settled = _load(checkpoint, found, settings or {}, PARTS, taken_from or {})
    counts = {part: _num_parameters(model.part(part)) for part in PARTS}
    return model, {
        "family": family,
        "sizes": dataclasses.asdict(model.architecture.sizes),
        "settings": dataclasses.asdict(model.architecture.settings),
        "settings_from": settled.origins,
        "remarks": settled.remarks,
        "parameters": counts | {"total": sum(counts.values())},
    }


def _num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
