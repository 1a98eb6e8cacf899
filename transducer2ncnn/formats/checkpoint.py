"""icefall checkpoints: opened without running anything in them, scales folded.

icefall stores most weights next to a scalar log-scale (``X`` and ``X_scale``); what the model
computes with is ``X · exp(X_scale)``, the folded tensor. Training checkpoints hold the optimizer,
the sampler and the training parameters as well; only the ``model`` entry matters, or, for an
average, ``model_avg``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import replacing
from transducer2ncnn.formats import safetensors_file
from transducer2ncnn.formats.torch_file import TorchFile

#: Tensors that only training uses: the pruned loss's projections, and the second decoder and
#: joiner of recipes that train on GigaSpeech along with LibriSpeech.
TRAINING_ONLY = ("simple_am_proj", "simple_lm_proj", "decoder_giga.", "joiner_giga.")
#: What wrappers put into names: in front of all, and where the compiled module stands.
DISTRIBUTED, COMPILED = "module", "_orig_mod"
#: And how often a balancer has acted, in the recipes whose balancers count.
BALANCER_COUNT = ".count"


class Checkpoint:
    """A checkpoint file, opened: of ``torch.save``, or of safetensors with a state dict in it.

    Nothing in the file is executed. Of its tensors, those that are needed are read, so that a large
    training checkpoint costs only what is used of it.

    Raises:
        UserError: the file is missing or damaged, is no checkpoint, would run code when
            unpickled, or would grow in memory beyond its own size.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._entries: dict[Any, Any]
        self._file: TorchFile | None = None
        if safetensors_file.is_one(self.path):
            self._entries = {"model": safetensors_file.read(self.path)}
            return
        self._file = TorchFile(self.path)
        if not isinstance(self._file.content, dict):
            raise UserError(
                f"{path}: holds a {type(self._file.content).__name__}. Expected an icefall "
                'checkpoint: {"model": state dict}, and perhaps training state beside it.'
            )
        self._entries = self._file.content
        if self._entries and all(isinstance(x, Tensor) for x in self._entries.values()):
            # A state dict by itself.
            self._entries = {"model": self._entries}

    def plain_values(self) -> dict[str, int | float | str | bool]:
        """The numbers, texts and truth values among the file's own keys.

        A training checkpoint has its training parameters there, a published one nothing.
        """
        return {
            key: value
            for key, value in self._entries.items()
            if type(key) is str and type(value) in (int, float, str, bool)
        }

    def state_dict(self, entry: str) -> dict[str, Tensor]:
        """The tensors of ``model`` or ``model_avg`` that inference needs, and their scales.

        They are as stored, but for what wrappers leave in their names: ``module.`` in front, of
        distributed training, and ``_orig_mod.`` anywhere, of torch.compile. No two of them share
        memory: what is done to one leaves the others alone.

        Raises:
            UserError: there is no such entry, two tensors in it have one name, or one is damaged
                or not a plain one.
        """
        state = self._entries.get(entry)
        if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
            raise UserError(
                f"{self.path}: holds the keys {_some(list(self._entries))}, and no {entry!r} "
                "entry with tensors. Expected an icefall checkpoint: "
                '{"model": state dict}, and perhaps training state beside it.'
            )
        needed: dict[str, Tensor] = {}
        for stored, tensor in state.items():
            name = _unwrapped(str(stored))
            if name in needed:
                raise UserError(
                    f"{self.path}: holds {name!r} twice, with and without a wrapper's 'module.' or "
                    "'_orig_mod.'. Which of the two is the model's cannot be known: save one of "
                    "them."
                )
            if not (name.startswith(TRAINING_ONLY) or name.endswith(BALANCER_COUNT)):
                _check_plain(tensor, f"{self.path}: tensor {name!r}")
                needed[name] = tensor
        self._check_size(needed)
        if self._file is not None:
            needed = self._file.read(needed)
        return _apart(needed)

    def _check_size(self, tensors: dict[str, Tensor]) -> None:
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        # Tied tensors may make it somewhat larger than the file.
        if size > 2 * self.path.stat().st_size:
            raise UserError(
                f"{self.path}: refused, for many of its tensors are the same stored values, and "
                f"together they would take {size / 1e6:,.0f} MB. Expected tensors stored whole."
            )

    def number(self, entry: str) -> int:
        """A whole number among the training parameters.

        Raises:
            UserError: there is none of this name.
        """
        value = self._entries.get(entry)
        if type(value) is not int or not -(2**63) <= value < 2**63:
            raise UserError(
                f"{self.path}: holds no number {entry!r}, which use_averaged_model goes by. "
                "Expected a checkpoint of a training run that kept a running average."
            )
        return value


def _unwrapped(name: str) -> str:
    """A tensor's name without what wrappers left in it, in whatever order they were put on."""
    parts = [part for part in name.split(".") if part != COMPILED]
    while len(parts) > 1 and parts[0] == DISTRIBUTED:
        del parts[0]
    return ".".join(parts)


def save(
    path: str | Path,
    state: dict[str, Tensor],
    training: Mapping[str, int | float | str | bool] | None = None,
) -> None:
    """Write a checkpoint: ``model``, and training parameters beside it."""
    with replacing(path) as partial:
        torch.save({**(training or {}), "model": state}, partial)


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """``Checkpoint(path).state_dict("model")``."""
    return Checkpoint(path).state_dict("model")


def _check_plain(tensor: Tensor, what: str) -> None:
    """Refuse a tensor whose values are not numbers, or share memory with each other.

    What is computed in place would be done to a shared value several times.
    """
    if tensor.dtype == torch.bool:
        raise UserError(f"{what} holds truth values, expected numbers.")
    reach = 1
    for step, n in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if n > 1 and step < reach and tensor.numel():
            raise UserError(
                f"{what} repeats what is stored to a shape of {tuple(tensor.shape)}: refused, for "
                "a small file could fill the memory like that. Expected tensors stored whole."
            )
        reach += (n - 1) * step


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, those copied that overlap with one before them in memory."""
    apart = dict(tensors)
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_ptr()):
        if tensor.numel():
            start = tensor.data_ptr()
            if start < end:
                apart[name] = tensor.clone()
            reach = sum((n - 1) * x for n, x in zip(tensor.shape, tensor.stride(), strict=True))
            end = max(end, start + (reach + 1) * tensor.element_size())
    return apart


def inference_tensors(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The stored tensors that the model is made of, without the scales."""
    return {name: tensor for name, tensor in stored.items() if not _is_scale_of(name, stored)}


def fold_scale(name: str, stored: dict[str, Tensor]) -> Tensor:
    """The effective value of one stored tensor, in fp32: its scale, if it has one, multiplied in.

    The stored tensor is overwritten where it is fp32 already, so that a model takes its own size
    of memory and not twice that.

    Raises:
        UserError: the value is not finite, or the scale not one number whose exponential fp32
            holds.
    """
    tensor = stored[name].float()
    scale = stored.get(_scale_name(name))
    if scale is not None:
        if scale.numel() != 1:
            raise UserError(
                f"tensor {_scale_name(name)!r} has shape {tuple(scale.shape)}, expected one number."
            )
        factor = scale.float().exp().item()
        if not torch.finfo(torch.float32).tiny <= factor < math.inf:
            raise UserError(
                f"tensor {_scale_name(name)!r} is {scale.item():g}: {name!r} is to be multiplied "
                f"by its exponential, which is {factor:g} in fp32. Training diverged, or the file "
                "is damaged: export another checkpoint."
            )
        tensor = tensor.mul_(factor)
    check_finite(name, tensor)
    return tensor


def check_finite(name: str, tensor: Tensor) -> None:
    """Refuse a tensor with a value that is not finite.

    Raises:
        UserError: naming the tensor.
    """
    # A sum keeps NaN and infinity, and takes a thirtieth of the time; it may overflow by itself.
    if not math.isfinite(tensor.sum().item()):
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        if bad:
            raise UserError(
                f"tensor {name!r} holds NaN or infinity in {bad} of its {tensor.numel()} values. "
                "Training diverged, or the file is damaged: export another checkpoint."
            )


def _scale_name(name: str) -> str:
    # An embedding keeps `scale` beside `weight`; everything else keeps `X_scale` beside `X`.
    if name.endswith("embedding.weight"):
        return name.removesuffix("weight") + "scale"
    return name + "_scale"


def _is_scale_of(name: str, stored: dict[str, Tensor]) -> bool:
    base = _scaled_name(name)
    # A scale of a scale is none: nothing would multiply by it.
    return base in stored and _scaled_name(base) not in stored


def _scaled_name(name: str) -> str:
    """The tensor that one of this name would be the scale of; empty if it can be of none."""
    if name.endswith("embedding.scale"):
        return name.removesuffix("scale") + "weight"
    base = name.removesuffix("_scale")
    return base if base != name and _scale_name(base) == name else ""


def _some(keys: list[Any], limit: int = 5) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    shown = (str(key)[:80].encode("unicode_escape").decode() for key in keys[:limit])
    return (", ".join(shown) or "(none)") + more
