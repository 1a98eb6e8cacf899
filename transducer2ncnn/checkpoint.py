"""icefall checkpoints: opened without running anything in them, scales folded.

icefall stores most weights next to a scalar log-scale (``X`` and ``X_scale``); what the model
computes with is ``X · exp(X_scale)``, the folded tensor. Training checkpoints hold the optimizer,
the sampler and the training parameters as well; only the ``model`` entry matters here.
"""

from __future__ import annotations

import pathlib
import pickle
import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from transducer2ncnn.errors import UserError

#: Tensors that only training uses: the pruned loss's projections, and the second decoder and
#: joiner of recipes that train on GigaSpeech along with LibriSpeech.
TRAINING_ONLY = ("simple_am_proj", "simple_lm_proj", "decoder_giga.", "joiner_giga.")


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The ``model`` entry of a checkpoint, as stored: scaled parameters, no ``module.`` prefix.

    Nothing in the file is executed: beyond tensors and plain values, the one class it may name is
    ``pathlib.PosixPath``, which icefall's training parameters hold. Tensors are mapped from the
    file, not read, so that a large training checkpoint costs only what is used of it.

    Raises:
        UserError: the file is missing, is no checkpoint, or would run code when unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file.")
    try:
        with torch.serialization.safe_globals([pathlib.PosixPath]):
            checkpoint = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
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
    except (RuntimeError, ValueError, EOFError, KeyError, OSError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise UserError(
            f"{path}: not a checkpoint that torch can read ({reason}). Expected a file written by "
            "torch.save, whole and not compressed again."
        ) from None

    state = checkpoint.get("model") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        found = f"a {type(checkpoint).__name__}"
        if isinstance(checkpoint, dict):
            found = f"the keys {', '.join(map(str, list(checkpoint)[:5])) or '(none)'}"
        raise UserError(
            f"{path}: holds {found}, and no 'model' entry with tensors. Expected an icefall "
            'checkpoint: {"model": state dict}, and perhaps training state beside it.'
        )
    return {k.removeprefix("module."): v for k, v in state.items()}


def inference_tensors(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The stored tensors that the model is made of: no scales, nothing that only training uses."""
    return {
        name: tensor
        for name, tensor in stored.items()
        if not name.startswith(TRAINING_ONLY) and not _is_scale_of(name, stored)
    }


def fold_scale(name: str, stored: dict[str, Tensor]) -> Tensor:
    """The effective value of one stored tensor, in fp32: its scale, if it has one, multiplied in.

    The stored tensor is overwritten where it is fp32 already, so that a model takes its own size
    of memory and not twice that. The file it is mapped from stays as it is.
    """
    tensor = stored[name].float()
    scale = stored.get(_scale_name(name))
    return tensor if scale is None else tensor.mul_(scale.float().exp())


def _scale_name(name: str) -> str:
    # An embedding keeps `scale` beside `weight`; everything else keeps `X_scale` beside `X`.
    if name.endswith("embedding.weight"):
        return name.removesuffix("weight") + "scale"
    return name + "_scale"


def _is_scale_of(name: str, stored: dict[str, Tensor]) -> bool:
    if name.endswith("embedding.scale"):
        return name.removesuffix("scale") + "weight" in stored
    return name.endswith("_scale") and name.removesuffix("_scale") in stored
