"""The networks of the model families, in PyTorch."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from transducer2ncnn.families.lstm import graph as lstm


class Graph(Protocol):
    """What a family's module ``graph`` defines."""

    def read_sizes(self, state: dict[str, Tensor]) -> Any:
        """Sizes read off the shapes of a checkpoint's folded tensors; UserError if they differ
        from the family's."""

    def build(self, sizes: Any) -> nn.Module:
        """An untrained model with submodules encoder, decoder and joiner."""


GRAPHS: dict[str, Graph] = {"lstm": lstm}
