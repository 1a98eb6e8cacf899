"""The calibration recordings: how long each is, and which are observed together in which job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transducer2ncnn.base import reading
from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.files import write_text
from transducer2ncnn.base.shards import share_out

#: Recordings that are run at once, at most.
BATCH = 32
#: Recordings that are worth a batch of their own, where there are as many.
SMALL = 16


def groups(durations: Mapping[str, float], any_length: bool) -> list[list[str]]:
    """Batches of recordings, which every run that is to count the same must use.

    A layer's sums round differently with the number of recordings in a batch. So batches are
    formed of all the recordings there are, and a shard of the work is a number of whole batches.

    Args:
        durations: seconds of each recording, by name.
        any_length: whether the encoder may be cut anywhere (``Architecture.any_length``).

    Returns:
        Names, batch by batch, the longest first, so that a batch's are of about the same length.
    """
    size = _batch_size(len(durations), any_length)
    names = sorted(durations, key=lambda name: (-durations[name], name))
    return [names[i : i + size] for i in range(0, len(names), size)]


def number_of_batches(recordings: int, any_length: bool) -> int:
    """How many batches so many recordings make, whatever their lengths."""
    return math.ceil(recordings / _batch_size(recordings, any_length))


def _batch_size(recordings: int, any_length: bool) -> int:
    # An LSTM's step costs much the same for one recording as for many: it reads all of its weights,
    # and the cores share one memory. So a few recordings are one batch, on whose chunks two threads
    # work (``relay``). Of more there should be a batch for each core: two at least, and four where
    # they can be of sixteen each.
    if any_length and recordings <= SMALL:
        return max(1, recordings)
    quarter, half = math.ceil(recordings / 4), math.ceil(recordings / 2)
    return max(1, min(BATCH, max(quarter, min(half, SMALL))))


def share(
    durations: Mapping[str, float], shard: int, shards: int, any_length: bool
) -> list[list[str]]:
    """One shard's batches of recordings, the longest first; all shards last about as long.

    Args:
        durations: seconds of each recording there is, by name.
        shard: from 1 on.
        any_length: as for ``groups``.
    """
    batches = groups(durations, any_length)
    seconds = {i: sum(durations[name] for name in batch) for i, batch in enumerate(batches)}
    return [batches[i] for i in share_out(seconds, shards)[shard - 1]]


@dataclass(frozen=True)
class Measured:
    """What is known of a calibration recording: its length in seconds, its level in dB of full
    scale (−inf where all samples are zero), and its hash."""

    seconds: float
    level: float
    sha256: str


def write_recordings(path: str | Path, recordings: Mapping[str, Measured]) -> None:
    """A table of recordings: seconds, level, hash and path of each."""
    lines = (f"{x.seconds!r}\t{x.level!r}\t{x.sha256}\t{wav}\n" for wav, x in recordings.items())
    write_text(path, "".join(lines))


def read_recordings(path: str | Path) -> dict[str, Measured]:
    """The recordings of such a table, by path.

    Raises:
        UserError: the file is missing, or a line is none of such a table; naming it.
    """
    found: dict[str, Measured] = {}
    lines = reading.read_text(path, "a table of recordings").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            seconds, level, sha256, wav = line.split("\t", 3)
            measured = Measured(float(seconds), float(level), sha256)
            if not 0 < measured.seconds < math.inf or math.isnan(measured.level):
                raise ValueError
            found[wav] = measured
        except ValueError:
            raise UserError(
                f"{path}, line {number}: expected seconds, level, hash and path, found "
                f"{shown(line)!r}. {reading.REMAKE}"
            ) from None
    return found
