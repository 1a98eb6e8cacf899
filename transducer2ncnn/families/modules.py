"""What the networks of several families share: icefall's common modules, and the base of a model.

Module and parameter names are those of icefall's recipes, so that a checkpoint's state dict loads
as it is once its scales are folded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transducer2ncnn.base.errors import UserError, some
from transducer2ncnn.families.contract import Architecture, Sizes

#: Tensors that a message names.
NAMED = 4


class DoubleSwish(nn.Module):
    """x · sigmoid(x − 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x - 1.0)


class BasicNorm(nn.Module):
    """x · (mean(x², last dim) + exp(eps))^−½; ``eps`` is a log, as in the checkpoint.

    Args:
        dim: the size of the last dim.
    """

    eps: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        # Not a tensor's log: computing one on the meta device, where models are built, loads
        # PyTorch's whole compiler.
        self.register_buffer("eps", torch.tensor(math.log(0.25)))

    def forward(self, x: Tensor) -> Tensor:
        # A Python number, so that the trace holds a constant rather than a tensor to load.
        eps = self.eps.exp().item()
        # A sum and a division, to the bit what torch.mean computes, for the conversion reads the
        # number of values off the graph (export/norms.py).
        mean = torch.sum(x * x, dim=-1, keepdim=True) / self.dim
        return x * torch.pow(mean + eps, -0.5)


class FeedForward(nn.Sequential):
    """Two linear layers with DoubleSwish between them; (…, dim) in and out."""

    def __init__(self, dim: int, inner: int) -> None:
        # Identities stand where the recipes have a balancer and a dropout, which inference skips;
        # they keep the numbering (0 and 4) that the checkpoint's keys use.
        super().__init__(
            nn.Linear(dim, inner),
            nn.Identity(),
            DoubleSwish(),
            nn.Identity(),
            nn.Linear(inner, dim),
        )


def pointwise(channels_in: int, channels_out: int) -> nn.Linear:
    """A convolution over time with a kernel of 1, as the linear layer that it is: (…, channels_in)
    → (…, channels_out).

    ncnn has no int8 convolution over one axis. In a state dict the weight is the convolution's,
    (channels_out, channels_in, 1), as it is in a checkpoint.
    """
    linear = nn.Linear(channels_in, channels_out)

    def as_convolution(
        _module: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: dict[str, Any]
    ) -> None:
        state[prefix + "weight"] = state[prefix + "weight"].unsqueeze(-1)

    def as_linear(_module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
        state[prefix + "weight"] = state[prefix + "weight"].squeeze(-1)

    linear.register_state_dict_post_hook(as_convolution)
    linear.register_load_state_dict_pre_hook(as_linear)
    return linear


class Decoder(nn.Module):
    """Stateless: it sees the last ``context_size`` tokens and nothing before them.

    Args:
        channels_per_group: of the convolution over the context; 1 if it is depthwise.
    """

    def __init__(self, sizes: Sizes, channels_per_group: int = 1) -> None:
        super().__init__()
        dim = sizes.decoder_dim
        # A weight is given, for PyTorch would fill its own with normal noise: on the meta device,
        # where models are built to be loaded, that needs PyTorch's whole compiler.
        weight = torch.empty(sizes.vocab_size, dim)
        if not weight.is_meta:
            nn.init.normal_(weight)
        self.embedding = nn.Embedding(sizes.vocab_size, dim, _weight=weight)
        self.conv = (
            nn.Conv1d(dim, dim, sizes.context_size, groups=dim // channels_per_group, bias=False)
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
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.encoder_proj = nn.Linear(sizes.encoder_dim, sizes.joiner_dim)
        self.decoder_proj = nn.Linear(sizes.decoder_dim, sizes.joiner_dim)
        self.output_linear = nn.Linear(sizes.joiner_dim, sizes.vocab_size)

    def forward(self, encoder_out: Tensor, decoder_out: Tensor) -> Tensor:
        """(…, encoder_dim) and (…, decoder_dim), broadcast together → (…, vocab_size) logits."""
        x = self.encoder_proj(encoder_out) + self.decoder_proj(decoder_out)
        return self.output_linear(torch.tanh(x))


class Transducer(nn.Module):
    """A model of any family: its three networks, and its architecture.

    The encoder's ``forward`` takes in0, in1, … and returns out0, out1, … as the architecture has
    them, with PyTorch's batch axes where that says so.
    """

    def __init__(
        self,
        architecture: Architecture[Any, Any],
        encoder: nn.Module,
        decoder: nn.Module,
        joiner: nn.Module,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder = encoder
        self.decoder = decoder
        self.joiner = joiner

    def part(self, name: str) -> nn.Module:
        """The encoder, decoder or joiner."""
        return self.get_submodule(name)


class Graph(Protocol):
    """What a family's module ``graph`` defines."""

    def read_sizes(self, tensors: Mapping[str, Tensor]) -> Sizes:
        """Sizes off a checkpoint's tensors, names without ``module.``, scales left out.

        Raises:
            UserError: a tensor that the sizes are read from is missing or has the wrong rank.
        """

    def build(self, architecture: Architecture[Any, Any]) -> Transducer:
        """An untrained model, whose state dict has just the checkpoint's names and shapes."""


class Shapes:
    """Shapes of a checkpoint's tensors, for reading sizes off them.

    Args:
        what: the family's title, for messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], what: str) -> None:
        self._tensors = tensors
        self._what = what

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def of(self, name: str, rank: int) -> torch.Size:
        """The shape of a tensor with ``rank`` axes.

        Raises:
            UserError: it is missing, or has another number of axes.
        """
        if name not in self._tensors:
            raise UserError(
                f"not {self._what}: tensor {name!r} is missing. "
                f"The checkpoint holds {some(sorted(self._tensors), NAMED) or 'nothing'}."
            )
        shape = self._tensors[name].shape
        if len(shape) != rank:
            raise UserError(
                f"not {self._what}: tensor {name!r} has shape {tuple(shape)}, expected {rank} axes."
            )
        return shape

    def count(self, pattern: str) -> int:
        """How many things are numbered by ``pattern``'s one group, from 0 on.

        Raises:
            UserError: a number is left out.
        """
        found = (re.match(pattern, name) for name in self._tensors)
        numbers = sorted({int(m[1]) for m in found if m})
        if numbers != list(range(len(numbers))):
            # Readable: encoder.layers.N for the pattern encoder\.layers\.(\d+)\.
            shown = pattern.replace(r"(\d+)", "N").replace("\\", "").rstrip(".")
            raise UserError(
                f"its tensors {shown} are numbered {some([str(n) for n in numbers], NAMED)}. "
                "Expected all from 0 on, without a gap."
            )
        return len(numbers)


def shared_sizes(shapes: Shapes) -> dict[str, int]:
    """The sizes of decoder and joiner, whose tensors are the same in all families.

    Raises:
        UserError: a tensor is missing or has another number of axes.
    """
    vocab_size, decoder_dim = shapes.of("decoder.embedding.weight", 2)
    conv = "decoder.conv.weight"
    return {
        "decoder_dim": decoder_dim,
        "joiner_dim": shapes.of("joiner.encoder_proj.weight", 2)[0],
        "vocab_size": vocab_size,
        "context_size": shapes.of(conv, 3)[2] if conv in shapes else 1,
    }


def check_tensors(
    tensors: Mapping[str, Tensor], model: Transducer, what: str, recipes: Iterable[str]
) -> None:
    """Check that a checkpoint has just the tensors of a model, in the same shapes.

    Args:
        model: built by ``Graph.build``; it may be on the meta device.
        what: the family's title, for the message.
        recipes: icefall's names of its recipes, for the message.

    Raises:
        UserError: naming tensors that are missing, unexpected, or of another shape.
    """
    expected = model.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    if missing or unexpected:
        raise UserError(
            f"not {what} of icefall's {', '.join(recipes)}: "
            f"missing {some(missing, NAMED) or 'nothing'}; unexpected "
            f"{some(unexpected, NAMED) or 'nothing'}."
        )
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape:
            raise UserError(
                f"tensor {name!r} has shape {tuple(tensors[name].shape)}; the checkpoint's other "
                f"tensors ask for {tuple(tensor.shape)}."
            )
