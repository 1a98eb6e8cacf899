"""The ConvEmformer transducer of icefall's recipe ``conv_emformer_transducer_stateless2``.

Here is what can be said of it without PyTorch; the network itself is in ``graph.py``.

The encoder works in chunks. Each sees itself, the right context behind it, the left context's keys
and values, and a memory that holds the mean of each of the last chunks. Lengths in the settings are
in feature frames (10 ms), as on the recipe's command line; the network's are in output frames
(40 ms), a quarter of them.
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

#: Feature frames that become one output frame.
SUBSAMPLING = 4
#: Feature frames of a segment beyond chunk and right context: the subsampling's convolutions see
#: 3 frames before an output frame's first and 8 from there on, and drop a frame at each end.
MARGIN = 11

#: Half precision counts no further in ones, and sherpa-ncnn may compute in it.
MAX_MEMORY = 2048

RECIPE = "conv_emformer_transducer_stateless2"
#: The recipe before it: tensors of the same names and shapes, and another attention, whose memory
#: is the output of a query of its own. Without a memory the two compute the same.
FIRST_RECIPE = "conv_emformer_transducer_stateless"


@dataclass(frozen=True)
class ConvEmformerSizes(Sizes):
    num_encoder_layers: int
    dim_feedforward: int
    cnn_module_kernel: int


@dataclass(frozen=True)
class ConvEmformerSettings(Settings):
    """icefall's names. A training checkpoint holds its command line, so all but the last two."""

    nhead: int = setting("attention heads", published="8, and 4 in the small one of 2023-01-09")
    chunk_length: int = setting(
        "feature frames (10 ms each) of a chunk, 4 times a power of 2",
        published="32, and 64 in the one of 2022-07-06",
    )
    left_context_length: int = setting(
        "feature frames before a chunk that it attends to, a multiple of 4",
        published="32, and 64 in the one of 2022-07-06",
    )
    right_context_length: int = setting(
        "feature frames behind a chunk that it sees, a multiple of 4",
        published="8, and 16 in the one of 2022-07-06",
    )
    memory_size: int = setting(
        "chunks whose means are kept as memory, 0 for none",
        published="32, though the recipe's own default is 0",
    )
    masked: bool = setting(
        "whether memory and left context that are still empty are masked, as in training. "
        "icefall's own export masks nothing, and so computes something else than the trained "
        "model until the memory is full: in the published models for the first 10 seconds of "
        "every utterance. `false` gives that graph",
        published="false, in the exported files",
        default=True,
    )
    recipe: str = setting(
        f"the recipe that trained the model, `{RECIPE}` or `{FIRST_RECIPE}`. No checkpoint tells "
        "the two apart, and with a memory their attention differs: of the latter only models "
        "with `memory_size: 0` can be exported",
        published=RECIPE,
        default=RECIPE,
    )


class ConvEmformer(Architecture[ConvEmformerSizes, ConvEmformerSettings]):
    """One ConvEmformer.

    Attributes:
        chunk: output frames of a chunk.
        left: output frames of left context.
        right: output frames of right context.
        memory: rows of memory.

    Raises:
        UserError: sizes or settings that no such network has, or none that can be exported.
    """

    def __init__(self, sizes: ConvEmformerSizes, settings: ConvEmformerSettings) -> None:
        super().__init__(sizes, settings)
        if wrong := _what_is_wrong(sizes, settings):
            raise UserError(f"no ConvEmformer can be made of this: {' '.join(wrong)}")
        self.chunk = settings.chunk_length // SUBSAMPLING
        self.left = settings.left_context_length // SUBSAMPLING
        self.right = settings.right_context_length // SUBSAMPLING
        self.memory = settings.memory_size

    @property
    def segment(self) -> int:
        return self.settings.chunk_length + self.settings.right_context_length + MARGIN

    @property
    def hop(self) -> int:
        return self.settings.chunk_length

    @property
    def frames_per_segment(self) -> int:
        return self.chunk

    @property
    def counts_chunks(self) -> bool:
        """Whether the memory's states have a row more, the last, that counts the chunks before.

        The masks go by it: sherpa-ncnn tells the encoder nothing of where it is, but hands its
        states back untouched. A model without memory has the row in any case: sherpa-ncnn crashes
        on a state without rows.
        """
        return self.settings.masked or self.memory == 0

    @property
    def memory_rows(self) -> int:
        """Rows of a memory's state."""
        return self.memory + self.counts_chunks

    def states(self) -> list[State]:
        dim = self.sizes.encoder_dim
        shapes = {
            "memory": (self.memory_rows, dim),
            "left_key": (self.left, dim),
            "left_value": (self.left, dim),
            "conv_cache": (dim, self.sizes.cnn_module_kernel - 1),
        }
        return [
            State(f"layer{i}_{name}", shape, batch_axis=0)
            for i in range(self.sizes.num_encoder_layers)
            for name, shape in shapes.items()
        ]

    def random_states(self, rng: np.random.Generator) -> list[np.ndarray]:
        states = super().random_states(rng)
        if self.counts_chunks:
            passed = rng.integers(2 * self.memory + 1)
            for state in states[::4]:
                state[-1] = passed
        return states

    def meta_data(self) -> dict[int, int | tuple[int, ...]]:
        """Key 0 is the model type (1: ConvEmformer); 1 to 4 and 7 shape the initial states.

        The left context (4) is in output frames, chunk (5) and right context (6) in feature
        frames, whatever sherpa's documentation calls them.
        """
        return {
            0: 1,
            1: self.sizes.num_encoder_layers,
            2: self.memory_rows,
            3: self.sizes.cnn_module_kernel,
            4: self.left,
            5: self.settings.chunk_length,
            6: self.settings.right_context_length,
            7: self.sizes.encoder_dim,
        }


def _what_is_wrong(sizes: ConvEmformerSizes, settings: ConvEmformerSettings) -> list[str]:
    """Sentences, one for each thing that is wrong."""
    wrong = []
    for name in ("chunk_length", "left_context_length", "right_context_length"):
        length = getattr(settings, name)
        if length < SUBSAMPLING or length % SUBSAMPLING:
            wrong.append(
                f"settings.{name} is {length}, expected a multiple of {SUBSAMPLING}, in feature "
                f"frames, and at least {SUBSAMPLING}."
            )
        elif name == "chunk_length" and (length & (length - 1)):
            wrong.append(
                f"settings.{name} is {length}, expected {SUBSAMPLING} times a power of 2, in "
                "feature frames, such as 32 or 64."
            )
    if not 0 <= settings.memory_size <= MAX_MEMORY:
        wrong.append(
            f"settings.memory_size is {settings.memory_size}, expected 0 to {MAX_MEMORY} chunks."
        )
    if settings.nhead < 1 or sizes.encoder_dim % settings.nhead:
        wrong.append(
            f"settings.nhead is {settings.nhead}, expected a divisor of the encoder's dim, "
            f"{sizes.encoder_dim}."
        )
    if sizes.cnn_module_kernel < 3 or sizes.cnn_module_kernel % 2 == 0:
        wrong.append(
            f"the kernel of its depthwise convolutions is {sizes.cnn_module_kernel}, expected an "
            "odd number from 3 on: the checkpoint is of another recipe."
        )
    if settings.recipe not in (RECIPE, FIRST_RECIPE):
        wrong.append(
            f"settings.recipe is {settings.recipe!r}, expected {RECIPE!r} or {FIRST_RECIPE!r}."
        )
    if settings.recipe == FIRST_RECIPE and settings.memory_size > 0:
        wrong.append(
            f"a model of {FIRST_RECIPE} with memory_size {settings.memory_size} cannot be "
            f"exported, only one with memory_size 0: with a memory its attention is another than "
            f"that of {RECIPE}."
        )
    return wrong


FAMILY = Family(
    name="conv_emformer",
    title="a ConvEmformer transducer",
    recipes=(RECIPE,),
    telltale=r"encoder\.encoder\.emformer_layers\.\d+\.conv_module\.",
    sizes=ConvEmformerSizes,
    settings=ConvEmformerSettings,
    architecture=ConvEmformer,
)
