"""The encoder over whole utterances, chunk by chunk in its result but not in its computation.

A chunk sees its own frames, and of the chunks before them what the caches hold; those start as
zeros and are attended to. Laid side by side, all chunks of an utterance can therefore be computed
at once: keys and values with as many zeros in front as a cache has frames, cut into overlapping
windows, a window a chunk. What comes out is what streaming from zero states gives, so that the
training meets the network as sherpa-ncnn runs it. (The recipe's own training masks the empty part
of the caches, and then streams another function than it trained.)

Shapes: N utterances, T frames at a stack's rate, n chunks of T' frames, H heads, S = left + T'.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transducer2ncnn.families.zipformer.graph import Conv2dSubsampling, Encoder
from transducer2ncnn.families.zipformer.layer import (
    POS_DIM,
    Convolution,
    Layer,
    Pooling,
    SelfAttention,
    position_table,
)
from transducer2ncnn.families.zipformer.stack import (
    Combiner,
    Downsample,
    DownsampledStack,
    LayerStack,
    Upsample,
)

#: Larger attention scores are of no use: softmax has long chosen.
MAX_SCORE = 40.0


class WholeUtterance(nn.Module):
    """The same parameters as a streaming encoder's, trained through this.

    Args:
        encoder: ``Encoder``, with its weights.
        offset: what a zero of the features as they are becomes in those that this is given.
        dropout: behind the embedding and every feed-forward module, in training.
    """

    def __init__(self, encoder: Encoder, offset: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.offset = offset
        self.dropout = nn.Dropout(dropout)
        #: By how much attention scores were beyond MAX_SCORE in the last run, on average, summed
        #: over the layers.
        self.excess = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        """(N, n·hop + 7, feature_dim) → (N, n·hop / 4, encoder_dim)."""
        self.excess = torch.zeros((), device=x.device)
        x = self.dropout(self._embed(self.encoder.encoder_embed, x))
        outputs: list[Tensor] = []
        for i, (stack, skip) in enumerate(
            zip(self.encoder.encoders, self.encoder.skips, strict=True)
        ):
            if skip is not None:
                x = combined(self.encoder.skip_modules[i], outputs[skip], x)
            if isinstance(stack, DownsampledStack):
                y = self._layers(stack.encoder, downsampled(stack.downsample, x))
                x = combined(stack.out_combiner, x, upsampled(stack.upsample, y))
            else:
                x = self._layers(stack, x)
            outputs.append(x)
        return downsampled(self.encoder.downsample_output, x)

    def _embed(self, embed: Conv2dSubsampling, x: Tensor) -> Tensor:
        # The first convolution pads with zeros, which are `offset` here.
        first = embed.conv[0]
        y = F.conv2d(F.pad(x, (1, 1), value=self.offset)[:, None], first.weight, first.bias)
        y = embed.conv[1:](y)  # (N, 128, T, 19)
        return embed.out(y.permute(0, 2, 1, 3).flatten(2))

    def _layers(self, stack: LayerStack, x: Tensor) -> Tensor:
        for layer in stack.layers:
            x = self._layer(layer, x)
        return x

    def _layer(self, layer: Layer, x: Tensor) -> Tensor:
        original = x
        x = x + self.dropout(layer.feed_forward1(x))
        x = x + pooled(layer.pooling, x)
        weights, out, excess = attention(layer.self_attn, x)
        self.excess = self.excess + excess
        x = x + out
        x = x + convolved(layer.conv_module1, x)
        x = x + self.dropout(layer.feed_forward2(x))
        x = x + attention_again(layer.self_attn, x, weights)
        x = x + convolved(layer.conv_module2, x)
        x = x + self.dropout(layer.feed_forward3(x))
        eps = layer.norm_final.eps.exp()
        normed = x * (x.float().square().mean(-1, keepdim=True) + eps).rsqrt()
        return original + layer.bypass_scale * (normed - original)


def pooled(pooling: Pooling, x: Tensor) -> Tensor:
    counts = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
    return pooling.proj(x.float().cumsum(dim=1) / counts)


def attention(attn: SelfAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, T, C) → weights (N, n, H, T', S), (N, T, C), and the scores' mean excess, ()."""
    s = attn.stack
    query, key, val, position = attn.in_proj(x).split(
        (s.attention_dim, s.attention_dim, s.attention_dim // 2, POS_DIM * s.num_heads), dim=2
    )
    query, position = chunks(attn, query), chunks(attn, position)  # (N, n, H, T', d)
    table = F.linear(torch.from_numpy(position_table(s)).to(x.device), attn.linear_pos.weight)
    table = table.reshape(-1, s.num_heads, POS_DIM).permute(1, 2, 0)  # (H, POS_DIM, left + 2T' − 1)
    scores = query @ windows(attn, key).transpose(-1, -2)
    by_distance = position @ table
    if s.frames > 1:
        # Row i from column T' − 1 − i on.
        span = s.left + s.frames
        rows = torch.arange(s.frames - 1, -1, -1, device=x.device)[:, None]
        columns = torch.arange(span, device=x.device) + rows
        by_distance = by_distance.gather(-1, columns.expand(*by_distance.shape[:-1], span))
    scores = (scores + by_distance).float()
    weights = scores.softmax(dim=-1)
    excess = (scores.abs() - MAX_SCORE).relu().mean()
    return weights, attn.out_proj(attended(attn, weights, val)), excess


def attention_again(attn: SelfAttention, x: Tensor, weights: Tensor) -> Tensor:
    return attn.out_proj2(attended(attn, weights, attn.in_proj2(x)))


def attended(attn: SelfAttention, weights: Tensor, val: Tensor) -> Tensor:
    mixed = weights.to(val.dtype) @ windows(attn, val)  # (N, n, H, T', d)
    return mixed.transpose(2, 3).flatten(3).flatten(1, 2)


def chunks(attn: SelfAttention, x: Tensor) -> Tensor:
    """(N, T, H·d) → (N, n, H, T', d)."""
    return x.reshape(
        len(x), -1, attn.stack.frames, attn.stack.num_heads, x.shape[2] // attn.stack.num_heads
    ).transpose(2, 3)


def windows(attn: SelfAttention, x: Tensor) -> Tensor:
    """(N, T, H·d) → (N, n, H, S, d): what each chunk attends to."""
    s = attn.stack
    cut = F.pad(x, (0, 0, s.left, 0)).unfold(1, s.left + s.frames, s.frames)  # (N, n, H·d, S)
    return cut.unflatten(2, (s.num_heads, -1)).transpose(3, 4)


def convolved(module: Convolution, x: Tensor) -> Tensor:
    x = F.glu(module.pointwise_conv1(x), dim=2).transpose(1, 2)
    width = module.depthwise_conv.kernel_size[0]
    x = module.depthwise_conv(F.pad(x, (width - 1, 0)))
    return module.pointwise_conv2(module.activation(x).transpose(1, 2))


def downsampled(module: Downsample, x: Tensor) -> Tensor:
    groups = x.unflatten(1, (-1, module.factor))  # (N, T, d, C)
    weights = (groups * module.query).sum(dim=3, keepdim=True).softmax(dim=2)
    mean = (groups * weights).sum(dim=2)
    if module.extra_proj is None:
        return mean
    return torch.cat((mean, module.extra_proj(groups.flatten(2))), dim=2)


def upsampled(module: Upsample, x: Tensor) -> Tensor:
    return (x[:, :, None] + module.bias).flatten(1, 2)


def combined(module: Combiner, first: Tensor, second: Tensor) -> Tensor:
    first = F.pad(first, (0, second.shape[2] - first.shape[2]))
    return module.weight1 * first + (1 - module.weight1) * second
