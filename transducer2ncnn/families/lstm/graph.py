"""The LSTM transducer's inference graph, top to bottom.

Module and parameter names are those of icefall's recipes, so a checkpoint's state dict loads as it
is once its scales are folded (see ``checkpoint.py``).

Shapes use N for batch, T for input frames (10 ms each), T' for output frames (40 ms each),
L for layers, D for the encoder's dim, H for the LSTM's hidden size, U for context, V for the
vocabulary.
"""

from __future__ import annotations

import re
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families.lstm import LstmSizes

#: Channels of the three subsampling convolutions. The recipe fixes them.
CONV_CHANNELS = (8, 32, 128)
CONV_STRIDES = (1, 2, 2)


class DoubleSwish(nn.Module):
    """x · sigmoid(x − 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x - 1.0)


class BasicNorm(nn.Module):
    """x · (mean(x², last dim) + exp(eps))^−½; ``eps`` is a log, as in the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("eps", torch.tensor(0.25).log())

    def forward(self, x: Tensor) -> Tensor:
        # A Python number, so that the trace holds a constant rather than a tensor to load.
        eps = self.eps.exp().item()
        return x * torch.pow(torch.mean(x * x, dim=-1, keepdim=True) + eps, -0.5)


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
        self.out_norm = BasicNorm()

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
        self.norm_final = BasicNorm()

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


class Decoder(nn.Module):
    """Stateless: it sees the last ``context_size`` tokens and nothing before them."""

    def __init__(self, sizes: LstmSizes) -> None:
        super().__init__()
        dim = sizes.decoder_dim
        self.embedding = nn.Embedding(sizes.vocab_size, dim)
        self.conv = (
            nn.Conv1d(dim, dim, sizes.context_size, groups=dim, bias=False)
            if sizes.context_size > 1
            else None
        )

    def forward(self, y: Tensor) -> Tensor:
        """(N, U) token ids → (N, 1, decoder_dim); for U > context_size, one frame a window."""
        x = self.embedding(y)
        if self.conv is not None:
            x = self.conv(x.permute(0, 2, 1)).permute(0, 2, 1)
        return F.relu(x)


class Joiner(nn.Module):
    def __init__(self, sizes: LstmSizes) -> None:
        super().__init__()
        self.encoder_proj = nn.Linear(sizes.encoder_dim, sizes.joiner_dim)
        self.decoder_proj = nn.Linear(sizes.decoder_dim, sizes.joiner_dim)
        self.output_linear = nn.Linear(sizes.joiner_dim, sizes.vocab_size)

    def forward(self, encoder_out: Tensor, decoder_out: Tensor) -> Tensor:
        """(…, D) and (…, decoder_dim), broadcast together → (…, V) logits."""
        x = self.encoder_proj(encoder_out) + self.decoder_proj(decoder_out)
        return self.output_linear(torch.tanh(x))


class LstmTransducer(nn.Module):
    def __init__(self, sizes: LstmSizes) -> None:
        super().__init__()
        self.encoder = Encoder(sizes)
        self.decoder = Decoder(sizes)
        self.joiner = Joiner(sizes)


def subsampled(n: int) -> int:
    """Frames (or feature bins) left of ``n`` after the three convolutions."""
    return ((n - 3) // 2 - 1) // 2


def read_sizes(state: dict[str, Tensor]) -> LstmSizes:
    """Sizes off a checkpoint's folded tensors.

    Raises:
        UserError: a tensor that the sizes are read from is missing or has the wrong rank, or the
            tensors are not those of an LSTM transducer with these sizes.
    """

    def shape(name: str, rank: int) -> torch.Size:
        if name not in state:
            raise UserError(
                f"not an LSTM transducer: tensor {name!r} is missing. "
                f"The checkpoint holds {_some(sorted(state))}."
            )
        if state[name].ndim != rank:
            raise UserError(
                f"not an LSTM transducer: tensor {name!r} has shape {tuple(state[name].shape)}, "
                f"expected {rank} axes."
            )
        return state[name].shape

    lstm = "encoder.encoder.layers.0.lstm."
    encoder_dim, subsampled_features = shape("encoder.encoder_embed.out.weight", 2)
    bins = subsampled_features // CONV_CHANNELS[-1]
    vocab_size, decoder_dim = shape("decoder.embedding.weight", 2)
    has_conv = "decoder.conv.weight" in state
    sizes = LstmSizes(
        # Several feature dims leave the same number of bins; kaldi's multiples of 8 settle it.
        feature_dim=next((f for f in range(8, 1024, 8) if subsampled(f) == bins), 4 * bins + 8),
        num_encoder_layers=_count_layers(state),
        encoder_dim=encoder_dim,
        rnn_hidden_size=shape(lstm + "weight_ih_l0", 2)[0] // 4,
        dim_feedforward=shape("encoder.encoder.layers.0.feed_forward.0.weight", 2)[0],
        decoder_dim=decoder_dim,
        joiner_dim=shape("joiner.encoder_proj.weight", 2)[0],
        vocab_size=vocab_size,
        context_size=shape("decoder.conv.weight", 3)[2] if has_conv else 1,
    )
    if empty := [name for name, size in asdict(sizes).items() if size < 1]:
        raise UserError(f"{', '.join(empty)}, read off its tensors' shapes, would be 0.")
    _check_tensors(state, sizes)
    return sizes


def _count_layers(state: dict[str, Tensor]) -> int:
    found = (re.match(r"encoder\.encoder\.layers\.(\d+)\.", name) for name in state)
    numbers = sorted({int(m[1]) for m in found if m})
    if numbers != list(range(len(numbers))):
        raise UserError(
            f"its encoder's layers are numbered {_some([str(n) for n in numbers])}. Expected 0 "
            "to their number − 1, without a gap."
        )
    return len(numbers)


def _check_tensors(state: dict[str, Tensor], sizes: LstmSizes) -> None:
    with torch.device("meta"):
        expected = LstmTransducer(sizes).state_dict()
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    if missing or unexpected:
        raise UserError(
            "not an LSTM transducer of icefall's lstm_transducer_stateless recipes: "
            f"missing {_some(missing)}; unexpected {_some(unexpected)}."
        )
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise UserError(
                f"tensor {name!r} has shape {tuple(state[name].shape)}; the checkpoint's other "
                f"tensors ask for {tuple(tensor.shape)}."
            )


def _some(names: list[str], limit: int = 4) -> str:
    if not names:
        return "nothing"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def build(sizes: LstmSizes) -> LstmTransducer:
    return LstmTransducer(sizes)
