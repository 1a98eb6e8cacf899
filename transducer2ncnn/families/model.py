"""From a checkpoint file to a PyTorch model that computes what the trained one did."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.families import FAMILIES, resemblance
from transducer2ncnn.families.graphs import GRAPHS
from transducer2ncnn.formats.checkpoint import fold_scale, inference_tensors, load_state_dict


def load(
    checkpoint: str | Path, family: str, parts: Sequence[str] = PARTS
) -> tuple[nn.Module, Any]:
    """The model, in evaluation mode and without gradients, and its sizes.

    Args:
        parts: those to load; the others are there without weights.

    Raises:
        UserError: the checkpoint cannot be opened safely, is not of this family, or holds NaN or
            infinity in a part that is loaded.
    """
    graph = GRAPHS[family]
    stored = load_state_dict(checkpoint)
    tensors = inference_tensors(stored)
    try:
        sizes = graph.read_sizes(tensors)
    except UserError as e:
        raise UserError(f"{checkpoint}: {e}{_looks_like(tensors, family)}") from None
    # On the meta device no memory is taken for weights that are about to be replaced.
    with torch.device("meta"):
        model = graph.build(sizes)
    for part in parts:
        names = [name for name in tensors if name.startswith(part + ".")]
        try:
            folded = {name.removeprefix(part + "."): fold_scale(name, stored) for name in names}
        except UserError as e:
            raise UserError(f"{checkpoint}: {e}") from None
        getattr(model, part).load_state_dict(folded, assign=True)
    return model.eval().requires_grad_(False), sizes


def _looks_like(tensors: Iterable[str], family: str) -> str:
    title = resemblance(tensors)
    if title is None or title == FAMILIES[family].TITLE:
        return ""
    return f" By its tensors' names it looks like {title}."


def check_stated(checkpoint: str | Path, family: str, stated: dict[str, int]) -> None:
    """Raise UserError where a size that the config states is not the checkpoint's."""
    _, sizes = load(checkpoint, family, parts=())
    actual = dataclasses.asdict(sizes)
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
    model, sizes = load(checkpoint, family)
    counts = {part: _num_parameters(getattr(model, part)) for part in PARTS}
    return {
        "family": family,
        "sizes": dataclasses.asdict(sizes),
        "parameters": counts | {"total": sum(counts.values())},
    }


def _num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
