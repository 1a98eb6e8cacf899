"""Averaging training checkpoints, tensor by tensor as icefall does, in little memory.

What is averaged are the tensors as stored, scales apart; folding comes after.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats.checkpoint import Checkpoint, check_finite

State = dict[str, Tensor]


def mean(paths: Sequence[Path]) -> State:
    """The mean of several checkpoints' ``model``; integers are divided downwards.

    One checkpoint at a time is read, so memory is that of two models.

    Raises:
        UserError: a checkpoint cannot be opened safely, is not of the same model, or holds NaN or
            infinity.
    """
    total = {name: _computable(t) for name, t in _read(Checkpoint(paths[0]), "model").items()}
    for path in paths[1:]:
        state = _read(Checkpoint(path), "model")
        _check_same_model(total, state, path, paths[0])
        for name in total:
            # Taken out of it, or this model would be held while the next is read.
            total[name] += state.pop(name)
    for tensor in total.values():
        if tensor.is_floating_point():
            tensor /= len(paths)
        else:
            tensor //= len(paths)
    return total


def interval_mean(start: Path, end: Path) -> State:
    """The mean over the interval between two checkpoints, out of their running averages.

    Each ``model_avg`` is the mean over all training up to its checkpoint, so the interval's is a
    difference of the two, weighted by how far each had come.

    Raises:
        UserError: as ``mean``, or a checkpoint keeps no running average, or the interval is empty.
    """
    first, last = Checkpoint(start), Checkpoint(end)
    n_start, n_end = _averaged_batches(first), _averaged_batches(last)
    if n_start >= n_end:
        raise UserError(
            f"{start} has trained on {n_start} batches and {end} on {n_end}. Expected more in the "
            "second: the average is over what lies between them."
        )
    weight_end = n_end / (n_end - n_start)
    weight_start = 1 - weight_end
    mean = {name: _computable(t) for name, t in _read(last, "model_avg").items()}
    before = _read(first, "model_avg")
    _check_same_model(mean, before, start, end)
    for name, tensor in mean.items():
        if tensor.is_floating_point():
            # Scaled last, for the weights can be large and of opposite signs.
            tensor.add_(before[name].to(tensor.dtype), alpha=weight_start / weight_end)
            tensor.mul_(weight_end)
    return mean


def _read(checkpoint: Checkpoint, entry: str) -> State:
    """What a checkpoint holds, all of it finite: an average would not tell whose fault it is."""
    state = checkpoint.state_dict(entry)
    for name, tensor in state.items():
        try:
            check_finite(name, tensor)
        except UserError as e:
            raise UserError(f"{checkpoint.path}: {e}") from None
    return state


def _averaged_batches(checkpoint: Checkpoint) -> int:
    """How many batches its running average takes in."""
    period = checkpoint.number("average_period")
    if period < 1:
        raise UserError(f"{checkpoint.path}: its average_period is {period}, expected at least 1.")
    return checkpoint.number("batch_idx_train") // period * period


def _computable(tensor: Tensor) -> Tensor:
    """Half precision is summed as fp32, anything else as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _check_same_model(one: State, other: State, path: Path, first: Path) -> None:
    differing = one.keys() ^ other.keys() or {
        name
        for name in one
        if (one[name].shape, one[name].dtype) != (other[name].shape, _computable(other[name]).dtype)
    }
    if differing:
        raise UserError(
            f"{path} and {first} are not checkpoints of the same model: they differ in "
            f"{len(differing)} tensors, {min(differing)!r} for one."
        )
