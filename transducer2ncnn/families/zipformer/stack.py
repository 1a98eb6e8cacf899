"""Stacks of Zipformer layers, each at its own frame rate, and what joins them.

Shapes as in ``layer.py``; d is a stack's downsampling factor, L its number of layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transducer2ncnn.families.zipformer import Stack
from transducer2ncnn.families.zipformer.layer import Layer, constant


class LayerStack(nn.Module):
    """Layers at one frame rate, the states of all of them in one array a kind."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack = stack
        self.layers = nn.ModuleList(Layer(stack) for _ in range(stack.num_layers))

    def forward(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """(T, C) and seven states → (T, C) and the next states, in the shapes of ``State``."""
        length, *caches = states
        shares, next_length = self.shares(length)
        averages, *others = (cache.unsqueeze(0).split(1, dim=1) for cache in caches)
        matrices = [[part.squeeze(0) for part in kind] for kind in others]
        next_own = []
        for layer, *cache in zip(self.layers, averages, *matrices, strict=True):
            x, next_cache = layer(x, shares, cache)
            next_own.append(next_cache)
        next_averages, *joined = [torch.cat(kind, dim=1) for kind in zip(*next_own, strict=True)]
        shapes = list(self.stack.caches().values())[1:]
        next_caches = [
            cache.reshape(1, len(self.layers), *shape).squeeze(0)
            for cache, shape in zip(joined, shapes, strict=True)
        ]
        return x, [next_length, next_averages.permute(1, 0, 2), *next_caches]

    def shares(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """Of (L,) frames so far: for ``Pooling.forward``, (1, T, T), and the next (L, 1).

        All layers have seen as many. Half precision counts up to 2,048 chunks; from there on the
        number stays, and with it the least share of a frame.
        """
        frames = self.stack.frames
        counts = np.arange(1, frames + 1, dtype=np.float32)
        share = 1.0 / (constant(counts[None, :, None]) + length[:1].reshape(1, 1, 1))
        # A product with a triangle of ones is a cumulative sum.
        ones = constant(np.tri(frames, dtype=np.float32)[None])
        return ones * share, length.reshape(len(self.layers), 1) + float(frames)


class Downsample(nn.Module):
    """d frames become one, a weighted mean; weights by likeness to a learnt query."""

    def __init__(self, frames: int, dim_in: int, dim_out: int, factor: int) -> None:
        super().__init__()
        self.frames, self.dim, self.factor = frames // factor, dim_in, factor
        self.query = nn.Parameter(torch.zeros(dim_in))
        self.extra_proj = (
            nn.Linear(dim_in * factor, dim_out - dim_in, bias=False) if dim_out > dim_in else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(T·d, C) → (T, C), with more columns where the dim grows."""
        scores = (x * self.query.reshape(1, self.dim)).sum(dim=1)
        weights = torch.softmax(scores.reshape(self.frames, self.factor), dim=1)
        groups = x.reshape(self.frames, self.factor, self.dim)
        mean = torch.matmul(weights.reshape(self.frames, 1, self.factor), groups)
        mean = mean.reshape(self.frames, self.dim)
        if self.extra_proj is None:
            return mean
        together = x.reshape(self.frames, self.factor * self.dim)
        return torch.cat((mean, self.extra_proj(together)), dim=1)


class Upsample(nn.Module):
    """Every frame d times, each copy with a bias of its own."""

    def __init__(self, frames: int, dim: int, factor: int) -> None:
        super().__init__()
        self.frames, self.dim, self.factor = frames, dim, factor
        self.bias = nn.Parameter(torch.zeros(factor, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(T, C) → (T·d, C)."""
        bias = self.bias.reshape(1, self.factor * self.dim)
        copies = torch.cat([x] * self.factor, dim=1) + bias
        return copies.reshape(self.frames * self.factor, self.dim)


class Combiner(nn.Module):
    """A weighted mean of two paths, the first of which may be the narrower."""

    def __init__(self, first_dim: int, dim: int) -> None:
        super().__init__()
        self.missing = dim - first_dim
        self.weight1 = nn.Parameter(torch.tensor(0.5))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(T, C1) and (T, C) with C1 ≤ C → (T, C); the first is filled up with zeros."""
        if self.missing:
            first = F.pad(first, (0, self.missing))
        weight = self.weight1.item()
        return first * weight + second * (1.0 - weight)


class DownsampledStack(nn.Module):
    """Layers at a lower frame rate, and around them what goes past them."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.downsample = Downsample(
            stack.frames * stack.factor, stack.input_dim, stack.dim, stack.factor
        )
        self.encoder = LayerStack(stack)
        self.upsample = Upsample(stack.frames, stack.dim, stack.factor)
        self.out_combiner = Combiner(stack.input_dim, stack.dim)

    def forward(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, next_states = self.encoder(self.downsample(x), states)
        return self.out_combiner(x, self.upsample(y)), next_states
