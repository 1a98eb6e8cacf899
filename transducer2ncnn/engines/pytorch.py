"""Running a model in PyTorch, the way that ncnn is run: no batch axis, arrays in and out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.families.contract import Architecture
from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.formats.layers import BY_MODULE


class TorchTransducer:
    """A checkpoint's three networks in fp32, for ``search.decode``."""

    def __init__(self, model: Transducer) -> None:
        self._model = model
        self.architecture = model.architecture
        if self.architecture.frames_per_segment == 1:
            _store_by_columns(model.encoder)

    def encode(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        outputs = run_encoder(self._model, inputs)
        return outputs[0], self.architecture.carried(outputs)

    def decode(self, context: Sequence[int]) -> np.ndarray:
        out: Tensor = self._model.decoder(torch.tensor([list(context)]))
        return out.numpy().reshape(-1)

    def join(self, frame: np.ndarray, decoder_out: np.ndarray) -> np.ndarray:
        out: Tensor = self._model.joiner(torch.from_numpy(frame), torch.from_numpy(decoder_out))
        return out.numpy()


def run_encoder(model: Transducer, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """in0, in1, … → out0, out1, …, all in ncnn's shapes."""
    outputs = model.encoder(*to_torch(model.architecture, inputs))
    return from_torch(model.architecture, outputs)


def executed(model: Transducer) -> dict[str, list[tuple[str, str]]]:
    """The modules with weights of each part, as (kind, name), in order of execution.

    ncnn's layers with weights come in the same order.
    """
    architecture = model.architecture
    sizes = architecture.sizes
    features = np.zeros((architecture.segment, sizes.feature_dim), dtype=np.float32)
    inputs = {
        "encoder": to_torch(
            architecture, architecture.encoder_inputs(features, architecture.initial_states())
        ),
        "decoder": (torch.zeros(1, sizes.context_size, dtype=torch.long),),
        "joiner": tuple(torch.zeros(dim) for dim in (sizes.encoder_dim, sizes.decoder_dim)),
    }
    found: dict[str, list[tuple[str, str]]] = {}
    for part in PARTS:
        network, modules = model.part(part), found.setdefault(part, [])

        def hook(
            module: nn.Module, *_: object, name: str, modules: list[tuple[str, str]] = modules
        ) -> None:
            modules.append((type(module).__name__, name))

        handles = [
            module.register_forward_hook(functools.partial(hook, name=f"{part}.{name}"))
            for name, module in network.named_modules()
            if type(module).__name__ in BY_MODULE
        ]
        with torch.inference_mode():
            network(*inputs[part])
        for handle in handles:
            handle.remove()
    return found


def to_torch(
    architecture: Architecture[Any, Any], arrays: Sequence[np.ndarray]
) -> tuple[Tensor, ...]:
    """Encoder inputs in ncnn's shapes → tensors with a batch of one."""
    return tuple(
        torch.from_numpy(a if axis is None else np.expand_dims(a, axis))
        for a, axis in zip(arrays, architecture.batch_axes(), strict=True)
    )


def from_torch(architecture: Architecture[Any, Any], tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Encoder outputs with a batch of one → arrays in ncnn's shapes."""
    return [
        t.numpy() if axis is None else t.numpy().squeeze(axis)
        for t, axis in zip(tensors, architecture.batch_axes(), strict=True)
    ]


def _store_by_columns(network: nn.Module) -> None:
    """Store the matrices of linear layers and LSTMs by columns; their values stay.

    A product with a single row takes half the time then where MKL runs on a processor of AMD: by
    rows it reads a matrix at half of the memory's speed there. One of four rows takes as long as
    before.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.LSTM):
            for weight in module.parameters(recurse=False):
                if weight.dim() == 2:
                    weight.data = weight.t().contiguous().t()
