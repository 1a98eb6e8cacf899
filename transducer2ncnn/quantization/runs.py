"""What goes into a model's graphs while recordings are decoded, for looking at their layers."""

from __future__ import annotations

import itertools

import numpy as np

from transducer2ncnn.engines import search
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.formats import blobs

#: Blobs of a graph by name.
Blobs = dict[str, np.ndarray]


def graph_inputs(transducer: NcnnTransducer, samples: np.ndarray) -> dict[str, list[Blobs]]:
    """The inputs of each part's graph, run by run, while a recording is decoded by greedy search.

    Args:
        samples: (n,) float32 at 16 kHz.
    """
    encoder: list[Blobs] = []
    frames: list[np.ndarray] = []
    for inputs, outputs in search.stream(transducer, samples):
        encoder.append(blobs.inputs(inputs))
        frames.extend(outputs)
    steps = list(search.greedy(transducer, frames))
    contexts = [context for context, _ in itertools.groupby(step.context for step in steps)]
    return {
        "encoder": encoder,
        "decoder": [blobs.inputs([np.array(context, dtype=np.int32)]) for context in contexts],
        "joiner": [blobs.inputs([step.frame, step.decoder_out]) for step in steps],
    }
