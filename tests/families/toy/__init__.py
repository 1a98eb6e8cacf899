"""A family for tests: attention over cached keys, in chunks, far smaller than any real one.

It has what a family may have and the LSTM lacks: settings, arrays in its metadata, a state that
sherpa-ncnn wants back in another shape, states with three axes, no batch axis, several output
frames a segment, and a network that cannot be cut anywhere. Its states and its metadata are those
of a Zipformer of one stack, so that the real sherpa-ncnn runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families.contract import (
    Architecture,
    Family,
    Settings,
    Sizes,
    State,
    setting,
)

#: Feature frames of a segment beyond its chunk, which the subsampling takes.
PAD_LENGTH = 7


@dataclass(frozen=True)
class ToySizes(Sizes):
    num_layers: int
    attention_dim: int
    kernel: int


@dataclass(frozen=True)
class ToySettings(Settings):
    chunk_length: int = setting(
        "feature frames of a chunk, a multiple of 4", published="16", keys=("decode_chunk_len",)
    )
    left_chunks: int = setting(
        "chunks before its own that a frame attends to",
        published="2",
        hint=True,
        keys=("num_left_chunks",),
    )


class ToyArchitecture(Architecture[ToySizes, ToySettings]):
    batch_axis: ClassVar[int | None] = None

    def __init__(self, sizes: ToySizes, settings: ToySettings) -> None:
        super().__init__(sizes, settings)
        if settings.chunk_length < 4 or settings.chunk_length % 4:
            raise UserError(
                f"chunk_length is {settings.chunk_length}, expected a multiple of 4, from 4 on."
            )

    @property
    def segment(self) -> int:
        return self.settings.chunk_length + PAD_LENGTH

    @property
    def hop(self) -> int:
        return self.settings.chunk_length

    @property
    def frames(self) -> int:
        """Frames of a chunk inside the network."""
        return self.settings.chunk_length // 2

    @property
    def frames_per_segment(self) -> int:
        return self.frames // 2

    @property
    def left(self) -> int:
        """Frames before a chunk that it attends to."""
        return self.frames * self.settings.left_chunks

    def states(self) -> list[State]:
        layers, dim, attention = (
            self.sizes.num_layers,
            self.sizes.encoder_dim,
            self.sizes.attention_dim,
        )
        values = (layers, self.left, attention // 2)
        convolution = (layers, dim, self.sizes.kernel - 1)
        return [
            State("length", (layers,), returned=(layers, 1)),
            State("mean", (layers, dim), returned=(layers, 1, dim)),
            State("key", (layers, self.left, attention)),
            State("value", values),
            State("value2", values),
            State("convolution1", convolution),
            State("convolution2", convolution),
        ]

    def random_states(self, rng: np.random.Generator) -> list[np.ndarray]:
        states = super().random_states(rng)
        # A number of frames is not below 0, and the same in all layers.
        states[0] = np.full_like(states[0], self.frames * rng.integers(1, 50))
        return states

    def meta_data(self) -> dict[int, int | tuple[int, ...]]:
        return {
            0: 2,
            1: self.settings.chunk_length,
            2: self.settings.left_chunks,
            3: PAD_LENGTH,
            15: 1,
            16: (self.sizes.num_layers,),
            17: (self.sizes.encoder_dim,),
            18: (self.sizes.attention_dim,),
            19: (1,),
            20: (self.sizes.kernel,),
        }


FAMILY = Family(
    name="toy",
    title="a toy transducer",
    recipes=("toy_transducer",),
    telltale=r"encoder\.toy_layers\.",
    sizes=ToySizes,
    settings=ToySettings,
    architecture=ToyArchitecture,
)
