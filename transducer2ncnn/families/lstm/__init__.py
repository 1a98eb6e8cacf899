"""The LSTM transducer of icefall's recipes ``lstm_transducer_stateless``, ``…2`` and ``…3``.

Here is what can be said of it without PyTorch; the network itself is in ``graph.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LstmSizes:
    """Every size of the model; all of them can be read off a checkpoint's tensors."""

    feature_dim: int
    num_encoder_layers: int
    encoder_dim: int
    rnn_hidden_size: int
    dim_feedforward: int
    decoder_dim: int
    joiner_dim: int
    vocab_size: int
    context_size: int


TITLE = "an LSTM transducer"
TELLTALE = r"encoder\.encoder\.layers\.\d+\.lstm\."
Sizes = LstmSizes
SEGMENT = 9
HOP = 4
#: in0 features, in1 their number, in2 hidden, in3 cell; the outputs in the same order.
BATCH_AXES = (0, None, 1, 1)
FIRST_STATE = 2


def encoder_inputs(x: np.ndarray, states: list[np.ndarray]) -> list[np.ndarray]:
    return [x, np.array([len(x)], dtype=np.float32), *states]


def initial_states(sizes: LstmSizes) -> list[np.ndarray]:
    layers = sizes.num_encoder_layers
    return [
        np.zeros((layers, sizes.encoder_dim), dtype=np.float32),
        np.zeros((layers, sizes.rnn_hidden_size), dtype=np.float32),
    ]


def sherpa_meta_data(sizes: LstmSizes) -> dict[int, int]:
    """Key 0 is the model type (3: LSTM); 1 to 3 shape the initial states."""
    return {
        0: 3,
        1: sizes.num_encoder_layers,
        2: sizes.encoder_dim,
        3: sizes.rnn_hidden_size,
    }
