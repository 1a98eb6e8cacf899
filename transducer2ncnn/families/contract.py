"""What a model family states of itself: all that the other stages know of an architecture.

A family is a package ``transducer2ncnn.families.<name>``, found by its name (``registry``). The
package itself is read without PyTorch and defines ``FAMILY``, a ``Family``; its module ``graph``
holds the network, which only the steps that run PyTorch load (``graphs``).

One model of a family is described by an ``Architecture``: what follows from the *sizes*, which the
checkpoint's tensors tell, and the *settings*, which no tensor tells. Everything that runs an
encoder asks the architecture how: in segments of ``segment`` frames that move on by ``hop``, with
``states`` carried from one to the next, as sherpa-ncnn does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

#: Seconds from a frame of features to the next.
FRAME_SECONDS = 0.01
#: Silence that a recording gets at its end, at least, so that its last word leaves the encoder.
MIN_TAIL_SECONDS = 0.5
#: Beyond the last segment: how late a model may emit a token, as icefall's own decoding allows.
EMISSION_DELAY_SECONDS = 0.3


@dataclass(frozen=True)
class State:
    """An array that the encoder carries from segment to segment; zeros at the start.

    Shapes are numpy's of ncnn's arrays, without a batch axis: (w,), (h, w) or (c, h, w).
    """

    name: str
    #: As the encoder is given it; sherpa-ncnn makes the first one from the metadata.
    shape: tuple[int, ...]
    #: Where PyTorch's batch axis is; None for a network that has none there.
    batch_axis: int | None = None
    #: As the graph must return it, where sherpa-ncnn needs another shape than ``shape``. The
    #: values are the same and in the same order.
    returned: tuple[int, ...] | None = None

    @property
    def returned_shape(self) -> tuple[int, ...]:
        return self.returned or self.shape


@dataclass(frozen=True)
class Sizes:
    """What every family reads off a checkpoint's tensors; a family's own class adds to it."""

    feature_dim: int
    encoder_dim: int
    decoder_dim: int
    joiner_dim: int
    vocab_size: int
    context_size: int


@dataclass(frozen=True)
class Settings:
    """What no tensor tells. A family's own class has a ``setting`` for each; most have none."""


def setting(
    description: str,
    *,
    published: str,
    default: Any = None,
    hint: bool = False,
    keys: Sequence[str] = (),
) -> Any:
    """A field of a family's ``Settings``.

    Args:
        description: what it is, for the configuration's reference.
        published: what it is in the published models, for the message where it is missing.
        default: its value where nobody states it; None if it has to be stated.
        hint: whether a training checkpoint's value is only training's own default, which the
            configuration may contradict.
        keys: top-level keys of a training checkpoint that hold it; its own name if left out.
    """
    metadata = {"description": description, "published": published, "hint": hint, "keys": keys}
    if default is None:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


SizesT = TypeVar("SizesT", bound=Sizes)
SettingsT = TypeVar("SettingsT", bound=Settings)


class Architecture(ABC, Generic[SizesT, SettingsT]):
    """One model of a family, without its weights.

    The encoder's inputs and outputs are lists of arrays in ncnn's order and shapes: in0, in1, …
    and out0, out1, …; the features or the output frames first, the states last.
    """

    #: Whether the network may be cut anywhere: a run over any number of frames, from
    #: ``segment`` on, is what segment after segment gives. Only then may a stage run a recording
    #: in longer stretches. A test shows it of every family that says so.
    any_length: ClassVar[bool] = False
    #: Where PyTorch has the batch axis in the features and in the output frames; None for a
    #: network that has none, which is then run one recording at a time.
    batch_axis: ClassVar[int | None] = 0
    #: Inputs and outputs that come before the states. Those behind the frames hold one number for
    #: a recording, (1,) in ncnn and (N,) in PyTorch.
    first_state: ClassVar[int] = 1

    def __init__(self, sizes: SizesT, settings: SettingsT) -> None:
        self.sizes = sizes
        self.settings = settings

    @property
    @abstractmethod
    def segment(self) -> int:
        """Feature frames that the encoder is given at a time."""

    @property
    @abstractmethod
    def hop(self) -> int:
        """Feature frames from the start of a segment to the start of the next."""

    @property
    @abstractmethod
    def frames_per_segment(self) -> int:
        """Output frames of a segment."""

    @abstractmethod
    def states(self) -> list[State]:
        """The states in the order of the encoder's inputs, which is that of its outputs."""

    @abstractmethod
    def meta_data(self) -> dict[int, int | tuple[int, ...]]:
        """Parameters of the layer SherpaMetaData by key; a tuple is written as an array."""

    @property
    def tail_seconds(self) -> float:
        """Silence to put behind a recording, so that no speech is lost.

        sherpa-ncnn computes full segments only and waits for a frame beyond them. With a segment
        of silence the last frame of speech is in one that is computed.
        """
        return max(MIN_TAIL_SECONDS, (self.segment + 1) * FRAME_SECONDS + EMISSION_DELAY_SECONDS)

    @property
    def traced_frames(self) -> int:
        """Feature frames that the encoder is traced with."""
        return self.segment

    def batch_axes(self) -> list[int | None]:
        """Where PyTorch's batch axis is in each of the encoder's inputs, and outputs."""
        numbers = [None] * (self.first_state - 1)
        return [self.batch_axis, *numbers, *(state.batch_axis for state in self.states())]

    def lengths(self, wanted: Sequence[int]) -> list[int]:
        """Of numbers of feature frames, those that the encoder can be run on at once."""
        return list(wanted) if self.any_length else [self.segment]

    def encoder_inputs(
        self, features: np.ndarray, states: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """in0, in1, … for features (T, feature_dim) and the states in ``State.shape``."""
        return [features, *states]

    def initial_states(self) -> list[np.ndarray]:
        return [np.zeros(state.shape, dtype=np.float32) for state in self.states()]

    def random_states(self, rng: np.random.Generator) -> list[np.ndarray]:
        """States that no recording leads to, to compare networks on.

        A family whose states hold more than activations, such as counts, says what makes sense.
        """
        return [rng.standard_normal(x.shape, dtype=np.float32) for x in self.states()]

    def carried(self, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The states out of a segment's outputs, in the shapes that the next one is given."""
        returned = outputs[self.first_state :]
        return [
            array.reshape(state.shape) for array, state in zip(returned, self.states(), strict=True)
        ]


@dataclass(frozen=True)
class Family:
    """A kind of model; ``FAMILY`` of each family's package."""

    name: str
    #: What people call one: "an LSTM transducer".
    title: str
    #: icefall's recipes whose checkpoints these are.
    recipes: tuple[str, ...]
    #: A regular expression that some names of its tensors begin with, and no other family's.
    telltale: str
    sizes: type[Sizes]
    settings: type[Settings]
    architecture: type[Architecture[Any, Any]]
