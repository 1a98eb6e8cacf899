"""What sherpa-ncnn recognises, for a process of its own: nothing that is slow is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from transducer2ncnn.engines import recognizer
from transducer2ncnn.engines.search import Decoding


def tokens(
    folders: Sequence[tuple[str, float]], recordings: Mapping[str, np.ndarray], decoding: Decoding
) -> list[list[list[int]]]:
    """Token ids by delivered folder and recording.

    Args:
        folders: each with the seconds of silence to put behind the recordings.
    """
    heard = []
    for folder, tail_seconds in folders:
        loaded = recognizer.load(folder, threads=1, decoding=decoding)
        found = [recognizer.decode(loaded, x, tail_seconds) for x in recordings.values()]
        heard.append([ids for ids, _ in found])
    return heard
