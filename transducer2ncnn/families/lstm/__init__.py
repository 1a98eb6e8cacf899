"""The LSTM transducer of icefall's recipes ``lstm_transducer_stateless``, ``…2`` and ``…3``.

Here is what can be said of it without PyTorch; the network itself is in ``graph.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from transducer2ncnn.families.contract import Architecture, Family, Settings, Sizes, State


@dataclass(frozen=True)
class LstmSizes(Sizes):
    num_encoder_layers: int
    rnn_hidden_size: int
    dim_feedforward: int


class LstmArchitecture(Architecture[LstmSizes, Settings]):
    """in0 features, in1 their number, in2 hidden and in3 cell states; the outputs likewise."""

    # Nothing is padded, and the layers see one frame after the other.
    any_length: ClassVar[bool] = True
    first_state: ClassVar[int] = 2

    @property
    def segment(self) -> int:
        return 9

    @property
    def hop(self) -> int:
        return 4

    @property
    def frames_per_segment(self) -> int:
        return 1

    @property
    def traced_frames(self) -> int:
        # Several output frames, so that a number of frames that the trace freezes shows.
        return 39

    def states(self) -> list[State]:
        layers = self.sizes.num_encoder_layers
        return [
            State("hidden", (layers, self.sizes.encoder_dim), batch_axis=1),
            State("cell", (layers, self.sizes.rnn_hidden_size), batch_axis=1),
        ]

    def meta_data(self) -> dict[int, int | tuple[int, ...]]:
        """Key 0 is the model type (3: LSTM); 1 to 3 shape the initial states."""
        return {
            0: 3,
            1: self.sizes.num_encoder_layers,
            2: self.sizes.encoder_dim,
            3: self.sizes.rnn_hidden_size,
        }

    def encoder_inputs(
        self, features: np.ndarray, states: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        return [features, np.array([len(features)], dtype=np.float32), *states]


FAMILY = Family(
    name="lstm",
    title="an LSTM transducer",
    recipes=(
        "lstm_transducer_stateless",
        "lstm_transducer_stateless2",
        "lstm_transducer_stateless3",
    ),
    telltale=r"encoder\.encoder\.layers\.\d+\.lstm\.",
    sizes=LstmSizes,
    settings=Settings,
    architecture=LstmArchitecture,
)
