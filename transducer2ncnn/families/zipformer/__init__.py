"""The streaming Zipformer transducer, version 1: icefall's
``pruned_transducer_stateless7_streaming``.

Here is what can be said of it without PyTorch. The network is in ``graph.py`` and, top to bottom,
in ``stack.py`` and ``layer.py``.

The network runs chunk by chunk from zero states, as sherpa-ncnn does, and nothing masks the part
of a cache that no frame has filled yet. The recipe's own whole-utterance forward masks it: that is
another function, and never the reference here.
"""

from __future__ import annotations

from dataclasses import dataclass

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

#: Feature frames that a segment has beyond its chunk: those that the subsampling needs.
PAD_LENGTH = 7
#: Feature frames to a frame of the stacks.
SUBSAMPLING = 2
#: Frames of the stacks to a frame of the output.
OUTPUT_DOWNSAMPLING = 2


@dataclass(frozen=True)
class ZipformerSizes(Sizes):
    """What the checkpoint's tensors tell; the tuples hold a value a stack."""

    num_encoder_layers: tuple[int, ...]
    encoder_dims: tuple[int, ...]
    attention_dims: tuple[int, ...]
    feedforward_dims: tuple[int, ...]
    nhead: tuple[int, ...]
    cnn_module_kernels: tuple[int, ...]
    downsampling_factors: tuple[int, ...]


@dataclass(frozen=True)
class ZipformerSettings(Settings):
    decode_chunk_len: int = setting(
        "feature frames (10 ms each) that the encoder moves on by, as in icefall's "
        "--decode-chunk-len",
        published="32",
        hint=True,
    )
    num_left_chunks: int = setting(
        "chunks before its own that a frame attends to, as in icefall's --num-left-chunks",
        published="4",
        hint=True,
    )


@dataclass(frozen=True)
class Stack:
    """One stack of layers at one frame rate."""

    num_layers: int
    input_dim: int
    dim: int
    attention_dim: int
    feedforward_dim: int
    num_heads: int
    kernel: int
    factor: int
    #: Frames of a chunk at this stack's rate.
    frames: int
    #: Cached frames that each frame attends to beside those of its own chunk.
    left: int

    def caches(self) -> dict[str, tuple[int, int]]:
        """The matrices that a layer carries from chunk to chunk, in their order."""
        values = (self.left, self.attention_dim // 2)
        convolution = (self.dim, self.kernel - 1)
        return {
            "cached_avg": (1, self.dim),
            "cached_key": (self.left, self.attention_dim),
            "cached_val": values,
            "cached_val2": values,
            "cached_conv1": convolution,
            "cached_conv2": convolution,
        }


class ZipformerArchitecture(Architecture[ZipformerSizes, ZipformerSettings]):
    batch_axis = None

    def __init__(self, sizes: ZipformerSizes, settings: ZipformerSettings) -> None:
        """Raises UserError where the settings do not fit the sizes."""
        super().__init__(sizes, settings)
        if settings.num_left_chunks < 1:
            raise UserError(
                f"num_left_chunks is {settings.num_left_chunks}, expected 1 or more: sherpa-ncnn "
                "has no empty caches."
            )
        for factor in (*sizes.downsampling_factors, OUTPUT_DOWNSAMPLING):
            if settings.decode_chunk_len < 1 or settings.decode_chunk_len % (SUBSAMPLING * factor):
                raise UserError(
                    f"decode_chunk_len is {settings.decode_chunk_len}, expected a multiple of "
                    f"{SUBSAMPLING * factor}: the model takes every {SUBSAMPLING} feature frames "
                    f"together, and then every {factor} of those."
                )

    @property
    def segment(self) -> int:
        return self.settings.decode_chunk_len + PAD_LENGTH

    @property
    def hop(self) -> int:
        return self.settings.decode_chunk_len

    @property
    def frames_per_chunk(self) -> int:
        """Frames of a chunk at the stacks' full rate."""
        return self.settings.decode_chunk_len // SUBSAMPLING

    @property
    def frames_per_segment(self) -> int:
        return self.frames_per_chunk // OUTPUT_DOWNSAMPLING

    def stacks(self) -> list[Stack]:
        s, frames = self.sizes, self.frames_per_chunk
        return [
            Stack(
                num_layers=s.num_encoder_layers[i],
                input_dim=s.encoder_dims[max(i - 1, 0)],
                dim=s.encoder_dims[i],
                attention_dim=s.attention_dims[i],
                feedforward_dim=s.feedforward_dims[i],
                num_heads=s.nhead[i],
                kernel=s.cnn_module_kernels[i],
                factor=factor,
                frames=frames // factor,
                left=frames // factor * self.settings.num_left_chunks,
            )
            for i, factor in enumerate(s.downsampling_factors)
        ]

    def states(self) -> list[State]:
        """Seven kinds; of each kind an array a stack, its layers side by side."""
        stacks = list(enumerate(self.stacks()))
        # sherpa-ncnn gives the first two kinds with an axis less than it wants them back: it
        # reshapes them by numbers of rows and channels that only the returned shapes have.
        lengths = [
            State(f"cached_len_{i}", (s.num_layers,), returned=(s.num_layers, 1)) for i, s in stacks
        ]
        averages = [
            State(f"cached_avg_{i}", (s.num_layers, s.dim), returned=(s.num_layers, 1, s.dim))
            for i, s in stacks
        ]
        others = [
            State(f"{kind}_{i}", (s.num_layers, *s.caches()[kind]))
            for kind in list(stacks[0][1].caches())[1:]
            for i, s in stacks
        ]
        return lengths + averages + others

    def random_states(self, rng: np.random.Generator) -> list[np.ndarray]:
        states = super().random_states(rng)
        # Those of the first kind hold a number of frames, which is the same in all layers.
        chunks = rng.integers(1, 50)
        for i, stack in enumerate(self.stacks()):
            states[i] = np.full_like(states[i], stack.frames * chunks)
        return states

    def meta_data(self) -> dict[int, int | tuple[int, ...]]:
        """Key 0 is the model type (2: Zipformer), 15 the version; the others shape the states."""
        return {
            0: 2,
            1: self.settings.decode_chunk_len,
            2: self.settings.num_left_chunks,
            3: PAD_LENGTH,
            15: 1,
            16: self.sizes.num_encoder_layers,
            17: self.sizes.encoder_dims,
            18: self.sizes.attention_dims,
            19: self.sizes.downsampling_factors,
            20: self.sizes.cnn_module_kernels,
        }


FAMILY = Family(
    name="zipformer",
    title="a Zipformer transducer",
    recipes=("pruned_transducer_stateless7_streaming",),
    # Later versions of the Zipformer have no pooling.
    telltale=r"encoder\.encoders\.\d+\.(encoder\.)?layers\.\d+\.pooling\.",
    sizes=ZipformerSizes,
    settings=ZipformerSettings,
    architecture=ZipformerArchitecture,
)


def skipped_to(factors: tuple[int, ...], i: int) -> int | None:
    """The stack whose output joins the input of stack ``i`` past those between them, if any.

    That is where the frame rate rises again: the stack before has the larger factor.
    """
    if i < 2 or factors[i - 1] <= factors[i]:
        return None
    return next((j for j in range(i - 2, -1, -1) if factors[j] <= factors[i]), 0)
