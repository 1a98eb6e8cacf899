"""The ConvEmformer's inference graph, top to bottom.

Module and parameter names are those of icefall's recipe, so that a checkpoint's state dict loads as
it is once its scales are folded.

Everything is batch first, and in the order of time: a chunk, behind it its right context. Attention
does not depend on the order of its keys, and no layer but the convolution on that of the frames.

Shapes use N for batch, T for feature frames (10 ms each), D for the encoder's dim, H for heads, K
for the convolution's kernel; in output frames (40 ms each), C for a chunk, R for right context, L
for left context; M for rows of memory, and Q = C + R.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from transducer2ncnn.families.conv_emformer import FAMILY, ConvEmformer, ConvEmformerSizes
from transducer2ncnn.families.modules import (
    BasicNorm,
    Decoder,
    DoubleSwish,
    FeedForward,
    Joiner,
    Shapes,
    Transducer,
    pointwise,
    shared_sizes,
)

#: Channels of the three subsampling convolutions. The recipe fixes them.
CONV_CHANNELS = (8, 32, 128)
CONV_STRIDES = (1, 2, 2)
#: Only the first pads, at all sides: the frames that see its zeros are dropped, the bins are not.
CONV_PADDING = (1, 0, 0)

#: Added to the score of a key that is not there yet, times the chunks until it will be. It is more
#: than scores ever differ by. In half precision it may become −∞, which softmax takes as well.
MASKED_SCORE = -1e3


class Conv2dSubsampling(nn.Module):
    """(N, T, feature_dim) → (N, T', D) with T' = ((T − 1)//2 − 1)//2.

    Output frame t sees the input frames 4t − 1 … 4t + 7; frames −1 and T are zeros.
    """

    def __init__(self, feature_dim: int, encoder_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels_in = 1
        for channels, stride, padding in zip(
            CONV_CHANNELS, CONV_STRIDES, CONV_PADDING, strict=True
        ):
            # The Identity stands where the recipe has a balancer, which inference skips; it
            # keeps the numbering (0, 3, 6) that the checkpoint's keys use.
            layers += [
                nn.Conv2d(channels_in, channels, 3, stride, padding),
                nn.Identity(),
                DoubleSwish(),
            ]
            channels_in = channels
        self.conv = nn.Sequential(*layers)
        self.out = nn.Linear(CONV_CHANNELS[-1] * subsampled(feature_dim), encoder_dim)
        self.out_norm = BasicNorm(encoder_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.unsqueeze(1))  # (N, 128, T', 19 for 80 features)
        # permute, which tells pnnx the number of axes: a transpose, with no shapes known, is
        # converted to the wrong order without a word. Channel-major per frame.
        x = x.permute(0, 2, 1, 3).reshape(batch_size(x), -1, self.out.in_features)
        return self.out_norm(self.out(x))


class Attention(nn.Module):
    """Of a chunk and its right context, to memory, left context and themselves."""

    def __init__(self, architecture: ConvEmformer) -> None:
        super().__init__()
        # Sizes are constants throughout: one taken from a tensor would stay in the graph.
        self._dim = dim = architecture.sizes.encoder_dim
        self._nhead = architecture.settings.nhead
        self._chunk = architecture.chunk
        self._left, self._memory = architecture.left, architecture.memory
        self.emb_to_query = nn.Linear(dim, dim)
        self.emb_to_key_value = nn.Linear(dim, 2 * dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        left_key: Tensor,
        left_value: Tensor,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            x: (N, Q, D).
            memory: (N, M, D); None without memory.
            left_key, left_value: (N, L, D), projected already.
            mask: (N, 1, 1, L + M + Q), added to the scores.

        Returns:
            (N, Q, D), and the next chunk's left key and value.
        """
        dim = self._dim
        seen = x if memory is None else torch.cat([memory, x], dim=1)
        key_value = self.emb_to_key_value(seen)
        key = torch.cat([left_key, key_value[:, :, :dim]], dim=1)
        value = torch.cat([left_value, key_value[:, :, dim:]], dim=1)

        # The right context is not cached, for the next chunk begins with it; nor is memory.
        start, end = self._left + self._memory, self._left + self._memory + self._chunk
        left_key = torch.cat([left_key, key[:, start:end]], dim=1)[:, self._chunk :]
        left_value = torch.cat([left_value, value[:, start:end]], dim=1)[:, self._chunk :]

        query = self._heads(self.emb_to_query(x)) * (dim // self._nhead) ** -0.5
        scores = torch.matmul(query, self._heads(key).permute(0, 1, 3, 2))
        if mask is not None:
            scores = scores + mask
        attended = torch.matmul(torch.softmax(scores, dim=-1), self._heads(value))
        attended = attended.permute(0, 2, 1, 3).reshape(batch_size(x), -1, dim)
        return self.out_proj(attended), left_key, left_value

    def _heads(self, x: Tensor) -> Tensor:
        """(N, *, D) → (N, H, *, D/H)"""
        x = x.reshape(batch_size(x), -1, self._nhead, self._dim // self._nhead)
        return x.permute(0, 2, 1, 3)


class ConvModule(nn.Module):
    """A gated depthwise convolution over the frames before."""

    def __init__(self, architecture: ConvEmformer) -> None:
        super().__init__()
        self._dim = dim = architecture.sizes.encoder_dim
        kernel = architecture.sizes.cnn_module_kernel
        self._chunk, self._cached = architecture.chunk, kernel - 1
        self.pointwise_conv1 = pointwise(dim, 2 * dim)
        self.depthwise_conv = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.activation = DoubleSwish()
        self.pointwise_conv2 = pointwise(dim, dim)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """(N, Q, D) and what comes before it, (N, D, K − 1) → (N, Q, D) and the next cache."""
        x = self.pointwise_conv1(x)
        x = x[:, :, : self._dim] * torch.sigmoid(x[:, :, self._dim :])
        x = torch.cat([cache, x.permute(0, 2, 1)], dim=2)
        cache = x[:, :, self._chunk : self._chunk + self._cached]  # up to the right context
        x = self.activation(self.depthwise_conv(x)).permute(0, 2, 1)
        return self.pointwise_conv2(x), cache


class EmformerLayer(nn.Module):
    def __init__(self, architecture: ConvEmformer) -> None:
        super().__init__()
        sizes = architecture.sizes
        self._chunk = architecture.chunk
        self.feed_forward_macaron = FeedForward(sizes.encoder_dim, sizes.dim_feedforward)
        self.attention = Attention(architecture)
        self.conv_module = ConvModule(architecture)
        self.feed_forward = FeedForward(sizes.encoder_dim, sizes.dim_feedforward)
        self.norm_final = BasicNorm(sizes.encoder_dim)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        left_key: Tensor,
        left_value: Tensor,
        cache: Tensor,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
        """Chunk and right context, and the layer's states → the same for the next layer and chunk.

        Args: as of ``Attention`` and ``ConvModule``.
        """
        x = x + self.feed_forward_macaron(x)
        if memory is None:
            next_memory = None
        else:
            mean = torch.mean(x[:, : self._chunk], dim=1, keepdim=True)
            next_memory = torch.cat([memory, mean], dim=1)[:, 1:]
        attended, left_key, left_value = self.attention(x, memory, left_key, left_value, mask)
        x = x + attended
        convolved, cache = self.conv_module(x, cache)
        x = x + convolved
        x = x + self.feed_forward(x)
        return self.norm_final(x), next_memory, left_key, left_value, cache


class Emformer(nn.Module):
    _needed: Tensor

    def __init__(self, architecture: ConvEmformer) -> None:
        super().__init__()
        self._architecture = architecture
        self.emformer_layers = nn.ModuleList(
            EmformerLayer(architecture) for _ in range(architecture.sizes.num_encoder_layers)
        )
        # The chunks after which each key is there. Of left context and memory the oldest come
        # first, which are the last to be there; chunk and right context always are.
        a = architecture
        left = [(a.left - 1 - j) // a.chunk + 1 for j in range(a.left)]
        memory = [a.memory - j for j in range(a.memory)]
        needed = torch.tensor(
            [left + memory + [0] * (a.chunk + a.right)],
            dtype=torch.float32,
            device="cpu",  # also where the model is built on the meta device, for its weights
        )
        self.register_buffer("_needed", needed[None, None], persistent=False)

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(N, Q, D) and four states a layer → (N, Q, D) and the next states."""
        rows = self._architecture.memory
        counted = self._architecture.counts_chunks
        mask = self._mask(states[0]) if self._architecture.settings.masked else None
        next_states: list[Tensor] = []
        for i, layer in enumerate(self.emformer_layers):
            state, left_key, left_value, cache = states[4 * i : 4 * i + 4]
            memory = state[:, :rows] if rows else None
            x, memory, left_key, left_value, cache = layer(
                x, memory, left_key, left_value, cache, mask
            )
            parts = [] if memory is None else [memory]
            if counted:
                parts.append(state[:, rows:] + 1)
            state = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
            next_states += [state, left_key, left_value, cache]
        return x, *next_states

    def _mask(self, state: Tensor) -> Tensor:
        """(N, 1, 1, L + M + Q) to be added to the scores: what is empty cannot be attended to.

        Args:
            state: (N, M + 1, D), any layer's memory with the row that counts chunks.
        """
        passed = state[:, self._architecture.memory :, :1].reshape(batch_size(state), 1, 1, 1)
        return MASKED_SCORE * torch.relu(self._needed - passed)


class Encoder(nn.Module):
    def __init__(self, architecture: ConvEmformer) -> None:
        super().__init__()
        self._chunk, self._right = architecture.chunk, architecture.right
        sizes = architecture.sizes
        self.encoder_embed = Conv2dSubsampling(sizes.feature_dim, sizes.encoder_dim)
        self.encoder = Emformer(architecture)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """A segment's features to its chunk's embeddings, the states carried over.

        Args:
            x: (N, T, feature_dim) log-mel features, T the architecture's segment.
            states: its states, batch first; zeros at the start of an utterance.

        Returns:
            (N, C, D), and the next states.
        """
        # The first frame and the last saw zeros beyond the segment.
        x = self.encoder_embed(x)[:, 1 : 1 + self._chunk + self._right]
        x, *next_states = self.encoder(x, states)
        return x[:, : self._chunk], *next_states


def batch_size(x: Tensor) -> int:
    """Of a tensor that is batch first; 1 in a trace.

    The exported graph takes one utterance at a time. A batch stated as a constant gives a plain
    Reshape; a traced size would give a shape expression, which sherpa-ncnn's ncnn does not know.
    """
    return 1 if torch.jit.is_tracing() else x.size(0)


def subsampled(n: int) -> int:
    """Frames (or feature bins) left of ``n`` after the three convolutions."""
    return ((n - 1) // 2 - 1) // 2


def read_sizes(tensors: Mapping[str, Tensor]) -> ConvEmformerSizes:
    shapes = Shapes(tensors, FAMILY.title)
    layer = "encoder.encoder.emformer_layers.0."
    encoder_dim, subsampled_features = shapes.of("encoder.encoder_embed.out.weight", 2)
    bins = subsampled_features // CONV_CHANNELS[-1]
    return ConvEmformerSizes(
        # Several feature dims leave the same number of bins; kaldi's multiples of 8 settle it.
        feature_dim=next((f for f in range(8, 1024, 8) if subsampled(f) == bins), 4 * bins + 3),
        num_encoder_layers=shapes.count(r"encoder\.encoder\.emformer_layers\.(\d+)\."),
        encoder_dim=encoder_dim,
        dim_feedforward=shapes.of(layer + "feed_forward.0.weight", 2)[0],
        cnn_module_kernel=shapes.of(layer + "conv_module.depthwise_conv.weight", 3)[2],
        **shared_sizes(shapes),
    )


def build(architecture: ConvEmformer) -> Transducer:
    sizes = architecture.sizes
    return Transducer(architecture, Encoder(architecture), Decoder(sizes), Joiner(sizes))
