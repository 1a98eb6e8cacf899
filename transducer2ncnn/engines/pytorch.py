"""Running a model in PyTorch, the way that ncnn is run: no batch axis, arrays in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transducer2ncnn.families import Family


class TorchTransducer:
    """A checkpoint's three networks in fp32, for ``search.decode``."""

    def __init__(self, model: nn.Module, family: Family, sizes: Any) -> None:
        self._model = model
        self.family, self.sizes = family, sizes

    def encode(self, inputs: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        outputs = from_torch(self.family, self._model.encoder(*to_torch(self.family, inputs)))
        return outputs[0], outputs[self.family.FIRST_STATE :]

    def decode(self, context: list[int]) -> np.ndarray:
        return self._model.decoder(torch.tensor([context])).numpy().reshape(-1)

    def join(self, frame: np.ndarray, decoder_out: np.ndarray) -> np.ndarray:
        return self._model.joiner(torch.from_numpy(frame), torch.from_numpy(decoder_out)).numpy()


def to_torch(family: Family, arrays: list[np.ndarray]) -> tuple[Tensor, ...]:
    """Encoder inputs in ncnn's shapes → tensors with a batch of one."""
    return tuple(
        torch.from_numpy(a if axis is None else np.expand_dims(a, axis))
        for a, axis in zip(arrays, family.BATCH_AXES, strict=True)
    )


def from_torch(family: Family, tensors: tuple[Tensor, ...]) -> list[np.ndarray]:
    """Encoder outputs with a batch of one → arrays in ncnn's shapes."""
    return [
        t.numpy() if axis is None else t.numpy().squeeze(axis)
        for t, axis in zip(tensors, family.BATCH_AXES, strict=True)
    ]
