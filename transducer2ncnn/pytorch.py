"""Running a model in PyTorch, the way that ncnn is run: no batch axis, arrays in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from transducer2ncnn.families import Family
from transducer2ncnn.torchscript import from_torch, to_torch


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
