"""The toy's network, over one segment; tensors have ncnn's shapes, without a batch axis.

Shapes use T for frames of a chunk, C for the encoder's dim, A for the attention dim, K for the
kernel, S for the frames of a chunk and of the left context.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from transducer2ncnn.families.modules import (
    BasicNorm,
    Decoder,
    DoubleSwish,
    Joiner,
    Shapes,
    Transducer,
)
from transducer2ncnn.families.toy import FAMILY, ToyArchitecture, ToySizes

CHANNELS = 4


class Subsampling(nn.Module):
    """(2T + 7, feature_dim) → (T, C)."""

    def __init__(self, architecture: ToyArchitecture) -> None:
        super().__init__()
        self.frames = architecture.frames
        self.conv = nn.Sequential(
            nn.Conv2d(1, CHANNELS, 3, (1, 2)),
            DoubleSwish(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, (2, 2)),
            DoubleSwish(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, (1, 2)),
            DoubleSwish(),
        )
        bins = subsampled(architecture.sizes.feature_dim)
        self.out = nn.Linear(CHANNELS * bins, architecture.sizes.encoder_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.unsqueeze(0).unsqueeze(0)).squeeze(0)
        return self.out(x.permute(1, 0, 2).reshape(self.frames, self.out.in_features))


class Convolution(nn.Module):
    """A causal depthwise convolution: (T, C), and the frames before, (C, K − 1)."""

    def __init__(self, architecture: ToyArchitecture) -> None:
        super().__init__()
        dim = architecture.sizes.encoder_dim
        self.frames = architecture.frames
        self.conv = nn.Conv1d(dim, dim, architecture.sizes.kernel, groups=dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat((cache, x.permute(1, 0)), dim=1)
        y = self.conv(x.unsqueeze(0)).squeeze(0)
        return self.out(torch.tanh(y.permute(1, 0))), x[:, self.frames :]


class Layer(nn.Module):
    def __init__(self, architecture: ToyArchitecture) -> None:
        super().__init__()
        self.frames = architecture.frames
        self.dim, self.attention = (
            architecture.sizes.encoder_dim,
            architecture.sizes.attention_dim,
        )
        self.in_proj = nn.Linear(self.dim, self.attention * 5 // 2)
        self.out_proj = nn.Linear(self.attention // 2, self.dim)
        self.in_proj2 = nn.Linear(self.dim, self.attention // 2)
        self.out_proj2 = nn.Linear(self.attention // 2, self.dim)
        self.mean_proj = nn.Linear(self.dim, self.dim)
        self.conv1, self.conv2 = Convolution(architecture), Convolution(architecture)
        self.norm = BasicNorm(self.dim)

    def forward(self, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        length, mean, key, value, value2, cache1, cache2 = states
        # The mean of all frames so far.
        total = length + self.frames
        mean = mean * (length / total) + torch.mean(x, dim=0, keepdim=True) * (self.frames / total)
        x = x + self.mean_proj(mean)
        width = self.attention
        query, new_key, new_value = torch.split(self.in_proj(x), [width, width, width // 2], dim=1)
        key, value = torch.cat((key, new_key), dim=0), torch.cat((value, new_value), dim=0)
        weights = torch.softmax(torch.matmul(query, key.permute(1, 0)), dim=-1)  # (T, S)
        x = x + self.out_proj(torch.matmul(weights, value))
        value2 = torch.cat((value2, self.in_proj2(x)), dim=0)
        x = x + self.out_proj2(torch.matmul(weights, value2))
        y, cache1 = self.conv1(x, cache1)
        x = x + y
        y, cache2 = self.conv2(x, cache2)
        x = self.norm(x + y)
        caches = [array[self.frames :] for array in (key, value, value2)]
        return x, [total, mean, *caches, cache1, cache2]


class Encoder(nn.Module):
    def __init__(self, architecture: ToyArchitecture) -> None:
        super().__init__()
        sizes = architecture.sizes
        self.shapes = [
            (1, 1),
            (1, sizes.encoder_dim),
            *(state.shape[1:] for state in architecture.states()[2:]),
        ]
        self.returned = [(1, *state.returned_shape[1:]) for state in architecture.states()]
        self.half, self.dim = architecture.frames_per_segment, sizes.encoder_dim
        self.embed = Subsampling(architecture)
        self.toy_layers = nn.ModuleList(Layer(architecture) for _ in range(sizes.num_layers))

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        x = self.embed(x)
        returned: list[list[Tensor]] = []
        for i, layer in enumerate(self.toy_layers):
            own = [
                state[i : i + 1].reshape(shape)
                for state, shape in zip(states, self.shapes, strict=True)
            ]
            x, own = layer(x, own)
            returned.append(
                [state.reshape(shape) for state, shape in zip(own, self.returned, strict=True)]
            )
        by_kind = (torch.cat(kind, dim=0) for kind in zip(*returned, strict=True))
        # The second of each two frames.
        x = x.reshape(self.half, 2 * self.dim)[:, self.dim :]
        return (x, *by_kind)


def subsampled(bins: int) -> int:
    for _ in range(3):
        bins = (bins - 3) // 2 + 1
    return bins


def read_sizes(tensors: Mapping[str, Tensor]) -> ToySizes:
    shapes = Shapes(tensors, FAMILY.title)
    layer = "encoder.toy_layers.0."
    encoder_dim, inputs = shapes.of("encoder.embed.out.weight", 2)
    vocab_size, decoder_dim = shapes.of("decoder.embedding.weight", 2)
    return ToySizes(
        feature_dim=next(f for f in range(8, 1024, 8) if subsampled(f) == inputs // CHANNELS),
        encoder_dim=encoder_dim,
        decoder_dim=decoder_dim,
        joiner_dim=shapes.of("joiner.encoder_proj.weight", 2)[0],
        vocab_size=vocab_size,
        context_size=shapes.of("decoder.conv.weight", 3)[2],
        num_layers=shapes.count(r"encoder\.toy_layers\.(\d+)\."),
        attention_dim=2 * shapes.of(layer + "out_proj.weight", 2)[1],
        kernel=shapes.of(layer + "conv1.conv.weight", 3)[2],
    )


def build(architecture: ToyArchitecture) -> Transducer:
    sizes = architecture.sizes
    return Transducer(architecture, Encoder(architecture), Decoder(sizes), Joiner(sizes))
