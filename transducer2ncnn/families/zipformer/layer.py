"""A Zipformer layer: what is inside one, over the frames of one chunk.

Shapes use T for frames of a chunk at the stack's rate, C for the stack's dim, A for its attention
dim, H for its heads, K for its kernel, S = left + T for the frames that are attended to.

Tensors have no batch axis: they have ncnn's own shapes, in which pnnx cannot mistake an axis. Three
rules keep the converted graph right and runnable. Vectors that are added to or multiplied with
(T, C) are (1, C): of a vector of C, ncnn would have to guess the axis, and takes the wrong one
where T = C. Shapes are stated, not asked of a tensor: a traced size becomes an expression, which
the ncnn inside sherpa-ncnn misreads. And only operations are used whose layers that ncnn has: it
lacks cumulative sums, RMS norms, SiLU and repetition, among others.

What is cut, joined and rearranged has an axis of one in front. Most layers of ncnn interleave 4, 8
or 16 rows of a matrix, or as many channels where there are three or four axes, and layers that do
not, or that change the number of rows, put them apart again. With one channel nothing is
interleaved: pieces are copied whole, and other axes are looked at without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from transducer2ncnn.families.modules import BasicNorm, DoubleSwish, pointwise
from transducer2ncnn.families.zipformer import Stack

#: Dim of the position part of each head's queries. The recipe fixes it.
POS_DIM = 4
#: Scores are computed so much smaller, and made what they are once each row's largest is taken from
#: them. The recipe divides them by nothing, and those of a small trained model reach 223,000:
#: infinite in half precision, of which softmax makes NaN. What is infinite now is far below the
#: largest, and its weight is zero.
SCORE_SCALE = 2.0**-5


class FeedForward(nn.Module):
    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.in_proj = nn.Linear(stack.dim, stack.feedforward_dim)
        self.activation = DoubleSwish()
        self.out_proj = nn.Linear(stack.feedforward_dim, stack.dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(self.activation(self.in_proj(x)))


class Pooling(nn.Module):
    """The mean of all frames since the start of the utterance, projected."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.shape = stack.frames, stack.dim
        self.proj = nn.Linear(stack.dim, stack.dim, bias=False)

    def forward(self, x: Tensor, shares: Tensor, avg: Tensor) -> tuple[Tensor, Tensor]:
        """A chunk's means.

        Args:
            x: (T, C).
            shares: (1, T, T), row t of them one over the number of frames up to the chunk's t-th
                in its first t columns, and else zero.
            avg: (1, 1, C), the mean of the frames before the chunk.

        Returns:
            (T, C) and the next avg.
        """
        # What is summed up is how far the frames are from the mean so far: in half precision
        # nothing then grows with the length of a recording, and no weight close to 1, which it
        # rounds to multiples of 1/2048, is needed.
        mean = avg + torch.matmul(shares, x.unsqueeze(0) - avg)
        return self.proj(mean.reshape(self.shape)), mean[:, -1:]


class SelfAttention(nn.Module):
    """Relative-position attention whose weights are used twice."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack = stack
        dim, attention, heads = stack.dim, stack.attention_dim, stack.num_heads
        self.in_proj = nn.Linear(dim, attention * 5 // 2 + POS_DIM * heads)
        self.linear_pos = nn.Linear(dim, POS_DIM * heads, bias=False)
        self.out_proj = nn.Linear(attention // 2, dim)
        self.in_proj2 = nn.Linear(dim, attention // 2, bias=False)
        self.out_proj2 = nn.Linear(attention // 2, dim)

    def forward(self, x: Tensor, key: Tensor, val: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(T, C), cached keys (1, left, A) and values (1, left, A/2).

        Returns:
            (T, C), the weights (1, H, T, S), and the next caches.
        """
        s = self.stack
        query, new_key, new_val, position = torch.split(
            self.in_proj(x).unsqueeze(0),
            [s.attention_dim, s.attention_dim, s.attention_dim // 2, POS_DIM * s.num_heads],
            dim=2,
        )
        key = torch.cat((key, new_key), dim=1)
        val = torch.cat((val, new_val), dim=1)
        span = s.left + s.frames
        # A power of two, so that nothing is rounded: see SCORE_SCALE.
        queries = self._heads(query * SCORE_SCALE, s.frames, s.attention_dim)
        keys = self._heads(key, span, s.attention_dim)
        positions = self._heads(position, s.frames, POS_DIM * s.num_heads)
        scores = torch.matmul(queries, keys.permute(0, 1, 3, 2))
        scores = scores + self._shifted(torch.matmul(positions, self._positions()))
        distances = (scores - torch.amax(scores, dim=-1, keepdim=True)) * (1 / SCORE_SCALE)
        weights = torch.softmax(distances, dim=-1)
        out = self.out_proj(self._attended(weights, val))
        return out, weights, key[:, s.frames :], val[:, s.frames :]

    def again(self, x: Tensor, weights: Tensor, val: Tensor) -> tuple[Tensor, Tensor]:
        """The same weights on other values: (T, C), and the next cache."""
        val = torch.cat((val, self.in_proj2(x).unsqueeze(0)), dim=1)
        return self.out_proj2(self._attended(weights, val)), val[:, self.stack.frames :]

    def _heads(self, x: Tensor, rows: int, width: int) -> Tensor:
        """(1, rows, H·d = width) → (1, H, rows, d)."""
        heads = self.stack.num_heads
        return x.reshape(1, rows, heads, width // heads).permute(0, 2, 1, 3)

    def _attended(self, weights: Tensor, val: Tensor) -> Tensor:
        """(1, H, T, S) and (1, S, A/2) → (T, A/2)."""
        s = self.stack
        width = s.attention_dim // 2
        mixed = torch.matmul(weights, self._heads(val, s.left + s.frames, width))
        return mixed.permute(0, 2, 1, 3).reshape(s.frames, width)

    def _positions(self) -> Tensor:
        """(1, H, POS_DIM, left + 2T − 1): the projected table, the same in every chunk.

        Called as a module, the layer would be one that the converted graph has not.
        """
        projected = position_table(self.stack) @ self.linear_pos.weight.detach().numpy().T
        by_head = projected.reshape(1, len(projected), self.stack.num_heads, POS_DIM)
        return constant(by_head.transpose(0, 2, 3, 1) * np.float32(SCORE_SCALE))

    def _shifted(self, scores: Tensor) -> Tensor:
        """(1, H, T, N = left + 2T − 1), a column a row of the table → (1, H, T, S), a frame each.

        Row i takes the N columns from T − 1 − i on. Laid out flat, and read again in rows shorter
        by one, these stand below each other.
        """
        s = self.stack
        n = s.left + 2 * s.frames - 1
        if s.frames == 1:
            return scores
        flat = scores.reshape(1, s.num_heads, s.frames * n)
        start = s.frames - 1
        flat = flat[:, :, start : start + s.frames * (n - 1)]
        return flat.reshape(1, s.num_heads, s.frames, n - 1)[..., : s.left + s.frames]


@lru_cache
def position_table(stack: Stack) -> np.ndarray:
    """(left + 2T − 1, C) sinusoids of the distances from left + T − 1 back to T − 1 ahead."""
    distances = np.arange(stack.left + stack.frames - 1, -stack.frames, -1, dtype=np.float32)
    steps = np.arange(0, stack.dim, 2, dtype=np.float32)
    angles = distances[:, None] * np.exp(steps * np.float32(-np.log(10000.0) / stack.dim))
    pairs = np.stack((np.sin(angles), np.cos(angles)), axis=2)
    return pairs.reshape(len(distances), stack.dim)


def constant(array: np.ndarray) -> Tensor:
    """A tensor that a trace holds as a constant, whatever the array was computed from.

    By DLPack: the trace records ``torch.from_numpy`` as an operator that pnnx does not know.
    """
    return torch.from_dlpack(np.array(array, order="C"))


class Convolution(nn.Module):
    """A gated linear layer, a causal depthwise convolution, and a linear layer."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        dim = stack.dim
        self.frames, self.dim = stack.frames, dim
        self.pointwise_conv1 = pointwise(dim, 2 * dim)
        self.depthwise_conv = nn.Conv1d(dim, dim, stack.kernel, groups=dim)
        self.activation = DoubleSwish()
        self.pointwise_conv2 = pointwise(dim, dim)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """(T, C) and the K − 1 frames before, (1, C, K − 1) → (T, C) and the next cache."""
        value, gate = torch.split(self.pointwise_conv1(x), self.dim, dim=1)
        gated = value * torch.sigmoid(gate)
        x = torch.cat((cache, gated.permute(1, 0).unsqueeze(0)), dim=2)
        # pnnx leaves out the axis that a convolution has as its batch: it must be another than the
        # one in front of the cache.
        y = self.depthwise_conv(x.unsqueeze(0).squeeze(1)).squeeze(0).permute(1, 0)
        return self.pointwise_conv2(self.activation(y)), x[:, :, self.frames :]


class Layer(nn.Module):
    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.bypass_scale = nn.Parameter(torch.tensor(0.5))
        self.feed_forward1 = FeedForward(stack)
        self.pooling = Pooling(stack)
        self.self_attn = SelfAttention(stack)
        self.conv_module1 = Convolution(stack)
        self.feed_forward2 = FeedForward(stack)
        self.conv_module2 = Convolution(stack)
        self.feed_forward3 = FeedForward(stack)
        self.norm_final = BasicNorm(stack.dim)

    def forward(
        self, x: Tensor, shares: Tensor, caches: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(T, C) and the caches of this layer → (T, C) and the next caches.

        Args:
            shares: see ``Pooling.forward``.
            caches: those of ``Stack.caches``, with an axis of one in front.
        """
        avg, key, val, val2, conv1, conv2 = caches
        original = x
        x = x + self.feed_forward1(x)
        pooled, avg = self.pooling(x, shares, avg)
        x = x + pooled
        attended, weights, key, val = self.self_attn(x, key, val)
        x = x + attended
        convolved, conv1 = self.conv_module1(x, conv1)
        x = x + convolved
        x = x + self.feed_forward2(x)
        attended, val2 = self.self_attn.again(x, weights, val2)
        x = x + attended
        convolved, conv2 = self.conv_module2(x, conv2)
        x = x + convolved
        x = x + self.feed_forward3(x)
        # A Python number, so that the trace holds a constant.
        x = original + self.bypass_scale.item() * (self.norm_final(x) - original)
        return x, (avg, key, val, val2, conv1, conv2)
