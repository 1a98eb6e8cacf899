"""icefall checkpoints: opened without running anything in them, scales folded.

icefall stores most weights next to a scalar log-scale (``X`` and ``X_scale``); what the model
computes with is ``X · exp(X_scale)``, the folded tensor. Training checkpoints hold the optimizer,
the sampler and the training parameters as well; only the ``model`` entry matters, or, for an
average, ``model_avg``.
"""

from __future__ import annotations

import math
import pathlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import replacing

#: The one class besides tensors and plain values that training checkpoints hold, under both of its
#: names: Python 3.13 moved it.
ALLOWED = [pathlib.PosixPath, (pathlib.PosixPath, "pathlib._local.PosixPath")]

#: Tensors that only training uses: the pruned loss's projections, and the second decoder and
#: joiner of recipes that train on GigaSpeech along with LibriSpeech.
TRAINING_ONLY = ("simple_am_proj", "simple_lm_proj", "decoder_giga.", "joiner_giga.")
#: And how often a balancer has acted, in the recipes whose balancers count.
BALANCER_COUNT = ".count"


class Checkpoint:
    """A checkpoint file, opened.

    Nothing in the file is executed: beyond tensors and plain values, the one class it may name is
    ``pathlib.PosixPath``, which icefall's training parameters hold. Tensors are mapped from the
    file, not read, so that a large training checkpoint costs only what is used of it.

    Raises:
        UserError: the file is missing, is no checkpoint, would run code when unpickled, or would
            grow in memory beyond its own size.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._entries = _load(self.path)

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

        They are as stored, but for the ``module.`` in front of their names that distributed
        training leaves.

        Raises:
            UserError: there is no such entry, or a tensor in it is not a plain one.
        """
        state = self._entries.get(entry)
        if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
            raise UserError(
                f"{self.path}: holds the keys {_some(list(self._entries))}, and no {entry!r} "
                "entry with tensors. Expected an icefall checkpoint: "
                '{"model": state dict}, and perhaps training state beside it.'
            )
        named = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
        needed = {
            name: tensor
            for name, tensor in named.items()
            if not (name.startswith(TRAINING_ONLY) or name.endswith(BALANCER_COUNT))
        }
        for name, tensor in needed.items():
            _check_plain(tensor, f"{self.path}: tensor {name!r}")
        return needed

    def number(self, entry: str) -> int:
        """A whole number among the training parameters.

        Raises:
            UserError: there is none of this name.
        """
        value = self._entries.get(entry)
        if not isinstance(value, int):
            raise UserError(
                f"{self.path}: holds no number {entry!r}, which use_averaged_model goes by. "
                "Expected a checkpoint of a training run that kept a running average."
            )
        return value


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


def _load(path: Path) -> dict[Any, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file.")
    mapped = zipfile.is_zipfile(path)
    if mapped:
        _check_archive(path)
    try:
        with torch.serialization.safe_globals(ALLOWED):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as e:
        # torch explains at length how to switch its safety off; the finding is one part of that.
        found = re.search(r"GLOBAL ([\w.]+)", str(e))
        if found is None:
            raise UserError(f"{path}: not a checkpoint that torch can read.") from None
        raise UserError(
            f"{path}: refused, and nothing in it was run. Beyond tensors and plain values it asks "
            f"for {found[1]!r}, which opening it freely would call. If you trust its origin, save "
            'it again there as torch.save({"model": model.state_dict()}, path).'
        ) from None
    except (RuntimeError, ValueError, EOFError, KeyError, OSError, MemoryError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise UserError(
            f"{path}: not a checkpoint that torch can read ({reason}). Expected a file written by "
            "torch.save, whole and not compressed again."
        ) from None
    if not isinstance(checkpoint, dict):
        raise UserError(
            f"{path}: holds a {type(checkpoint).__name__}. Expected an icefall checkpoint: "
            '{"model": state dict}, and perhaps training state beside it.'
        )
    return checkpoint


def _check_archive(path: Path) -> None:
    """Refuse an archive that is more than its file's size when unpacked.

    torch.save stores without compression, and torch would unpack what is compressed, however
    large it gets.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as e:
        raise UserError(f"{path}: not a checkpoint that torch can read ({e}).") from None
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    unpacked = sum(entry.file_size for entry in entries)
    if packed or unpacked > path.stat().st_size:
        raise UserError(
            f"{path}: refused, and nothing in it was opened. It is a compressed archive, of "
            f"{unpacked / 1e6:,.0f} MB when unpacked, and torch.save never compresses. If you "
            "trust its origin, save it again there with torch.save."
        )


def _check_plain(tensor: Tensor, what: str) -> None:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_complex():
        raise UserError(f"{what} is {tensor.layout} on {tensor.device}, expected plain numbers.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(
            f"{what} repeats what is stored to a shape of {tuple(tensor.shape)}: refused, for a "
            "small file could fill the memory like that. Expected tensors stored whole."
        )


def inference_tensors(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The stored tensors that the model is made of, without the scales."""
    return {name: tensor for name, tensor in stored.items() if not _is_scale_of(name, stored)}


def fold_scale(name: str, stored: dict[str, Tensor]) -> Tensor:
    """The effective value of one stored tensor, in fp32: its scale, if it has one, multiplied in.

    The stored tensor is overwritten where it is fp32 already, so that a model takes its own size
    of memory and not twice that. The file it is mapped from stays as it is.

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
    bad = tensor.numel() - int(torch.isfinite(tensor).sum())
    if bad:
        raise UserError(
            f"tensor {name!r} holds NaN or infinity in {bad} of its {tensor.numel()} values. "
            "Training diverged, or the file is damaged: export another checkpoint."
        )
    return tensor


def _scale_name(name: str) -> str:
    # An embedding keeps `scale` beside `weight`; everything else keeps `X_scale` beside `X`.
    if name.endswith("embedding.weight"):
        return name.removesuffix("weight") + "scale"
    return name + "_scale"


def _is_scale_of(name: str, stored: dict[str, Tensor]) -> bool:
    if name.endswith("embedding.scale"):
        return name.removesuffix("scale") + "weight" in stored
    return name.endswith("_scale") and name.removesuffix("_scale") in stored


def _some(keys: list[Any], limit: int = 5) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return (", ".join(map(str, keys[:limit])) or "(none)") + more
