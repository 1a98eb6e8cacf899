"""What sherpa-ncnn hears, to be called in a process of its own: it imports nothing that is slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from transducer2ncnn.engines import recognizer
from transducer2ncnn.engines.search import Decoding


def tokens(
    folders: Sequence[str], recordings: Mapping[str, np.ndarray], decoding: Decoding
) -> list[list[list[int]]]:
    """Token ids by delivered folder and recording."""
    heard = []
    for folder in folders:
        loaded = recognizer.load(folder, threads=1, decoding=decoding)
        heard.append([recognizer.decode(loaded, samples)[0] for samples in recordings.values()])
    return heard
