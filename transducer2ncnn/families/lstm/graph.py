"""The LSTM transducer's inference graph, top to bottom.

Shapes use N for batch, T for input frames (10 ms each), T' for output frames (40 ms each),
L for layers, D for the encoder's dim, H for the LSTM's hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from transducer2ncnn.families.lstm import FAMILY, LstmArchitecture, LstmSizes
from transducer2ncnn.families.modules import (
    BasicNorm,
    Decoder,
    DoubleSwish,
    Joiner,
    Shapes,
    Transducer,
    shared_sizes,
)

#: Channels of the three subsampling convolutions. The recipe fixes them.
CONV_CHANNELS = (8, 32, 128)
CONV_STRIDES = (1, 2, 2)


class Conv2dSubsampling(nn.Module):
    """(N, T, feature_dim) → (N, T', D) with T' = ((T − 3)//2 − 1)//2.

    Nothing is padded: output frame t' sees exactly the input frames 4t' … 4t'+8.
    """

    def __init__(self, feature_dim: int, encoder_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels_in = 1
        for channels, stride in zip(CONV_CHANNELS, CONV_STRIDES, strict=True):
            # The Identity stands where the recipe has a balancer, which inference skips; it
            # keeps the numbering (0, 3, 6) that the checkpoint's keys use.
            layers += [nn.Conv2d(channels_in, channels, 3, stride), nn.Identity(), DoubleSwish()]
            channels_in = channels
        self.conv = nn.Sequential(*layers)
        self.out = nn.Linear(CONV_CHANNELS[-1] * subsampled(feature_dim), encoder_dim)
        self.out_norm = BasicNorm(encoder_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.unsqueeze(1))  # (N, 128, T', 18 for 80 features)
        # The exported graph takes one utterance at a time. Stating that batch as a constant gives
        # a plain `Reshape 0=2304 1=-1`; a traced size would give a shape expression, which the
        # ncnn inside sherpa-ncnn does not know.
        n = 1 if torch.jit.is_tracing() else x.size(0)
        # Likewise permute, which tells pnnx the number of axes: a transpose, with no shapes known,
        # is converted to the wrong order without a word.
        x = x.permute(0, 2, 1, 3).reshape(n, -1, self.out.in_features)  # channel-major per frame
        return self.out_norm(self.out(x))


class RNNEncoderLayer(nn.Module):
    """x + LSTM(x), then x + feed-forward(x), then the norm."""

    def __init__(self, sizes: LstmSizes) -> None:
        super().__init__()
        dim, hidden, inner = sizes.encoder_dim, sizes.rnn_hidden_size, sizes.dim_feedforward
        # batch_first: the pinned pnnx converts only this layout (a newer one crashes on the
        # other).
        self.lstm = nn.LSTM(dim, hidden, proj_size=dim if hidden > dim else 0, batch_first=True)
        # Identities for the balancer and the dropout, as above: keys 0 and 4.
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, inner),
            nn.Identity(),
            DoubleSwish(),
            nn.Identity(),
            nn.Linear(inner, dim),
        )
        self.norm_final = BasicNorm(dim)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(x, (h, c))
        x = x + y
        x = x + self.feed_forward(x)
        return self.norm_final(x), h, c


class RNNEncoder(nn.Module):
    def __init__(self, sizes: LstmSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(RNNEncoderLayer(sizes) for _ in range(sizes.num_encoder_layers))

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        next_h, next_c = [], []
        for i, layer in enumerate(self.layers):
            x, h_i, c_i = layer(x, h[i : i + 1], c[i : i + 1])
            next_h.append(h_i)
            next_c.append(c_i)
        return x, torch.cat(next_h, dim=0), torch.cat(next_c, dim=0)


class Encoder(nn.Module):
    def __init__(self, sizes: LstmSizes) -> None:
        super().__init__()
        self.encoder_embed = Conv2dSubsampling(sizes.feature_dim, sizes.encoder_dim)
        self.encoder = RNNEncoder(sizes)

    def forward(
        self, x: Tensor, x_lens: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features to embeddings, the states carried over.

        Args:
            x: (N, T, feature_dim) log-mel features, T ≥ 9.
            x_lens: (N,) number of frames, as floats: an integer cast would stay in the
                converted graph as a layer that no ncnn can load.
            h, c: (L, N, D) and (L, N, H) LSTM states; zeros at the start of an utterance.

        Returns:
            (N, T', D), (N,) lengths in output frames, and the next h and c.
        """
        lengths = torch.floor((torch.floor((x_lens - 3.0) / 2.0) - 1.0) / 2.0)
        x, h, c = self.encoder(self.encoder_embed(x), h, c)
        return x, lengths, h, c


def subsampled(n: int) -> int:
    """Frames (or feature bins) left of ``n`` after the three convolutions."""
    return ((n - 3) // 2 - 1) // 2


def read_sizes(tensors: Mapping[str, Tensor]) -> LstmSizes:
    shapes = Shapes(tensors, FAMILY.title)
    layer = "encoder.encoder.layers.0."
    encoder_dim, subsampled_features = shapes.of("encoder.encoder_embed.out.weight", 2)
    bins = subsampled_features // CONV_CHANNELS[-1]
    return LstmSizes(
        # Several feature dims leave the same number of bins; kaldi's multiples of 8 settle it.
        feature_dim=next((f for f in range(8, 1024, 8) if subsampled(f) == bins), 4 * bins + 8),
        encoder_dim=encoder_dim,
        num_encoder_layers=shapes.count(r"encoder\.encoder\.layers\.(\d+)\."),
        rnn_hidden_size=shapes.of(layer + "lstm.weight_ih_l0", 2)[0] // 4,
        dim_feedforward=shapes.of(layer + "feed_forward.0.weight", 2)[0],
        **shared_sizes(shapes),
    )


def build(architecture: LstmArchitecture) -> Transducer:
    sizes = architecture.sizes
    return Transducer(architecture, Encoder(sizes), Decoder(sizes), Joiner(sizes))
