"""What was observed of a layer's input: a histogram of its magnitudes, which can be added up.

Observing takes one pass over the audio, in memory that does not grow with it. The largest
magnitude, which the bins of a threshold search divide, is known only at the end: so a finer
histogram is kept, whose range is a power of two and doubles when a larger value comes, which
merges its bins in pairs and moves no value to a wrong one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.files import replacing
from transducer2ncnn.formats import npz

#: Bins of a histogram, a power of two.
FINE_BINS = 2**18
#: The smallest range of a histogram, for which float32 still has a factor to its bins.
MIN_EXPONENT = -100


class NotFiniteError(UserError):
    """A recording or a layer's input holds NaN or infinity."""


class Histogram:
    """Magnitudes of one layer's input: bins of equal width over [0, 2**exponent), and the largest.

    The range is the smallest power of two above the largest magnitude, so histograms of the same
    values are the same, in whatever order and in however many parts the values came.

    Attributes:
        kind: the layer's type in PyTorch.
        layer: its name there, with the part's.
        absmax: the largest magnitude; a float32 value.
        seen: number of values, zeros included.
        counts: (FINE_BINS,) int64; zeros are not counted.
    """

    def __init__(self, kind: str, layer: str) -> None:
        self.kind, self.layer = kind, layer
        self.absmax = 0.0
        self.seen = 0
        self.counts = np.zeros(FINE_BINS, dtype=np.int64)

    @property
    def exponent(self) -> int:
        # frexp(0) is 0, which would be a range too large to begin with.
        return max(math.frexp(self.absmax)[1], MIN_EXPONENT) if self.absmax else MIN_EXPONENT

    def add(self, values: np.ndarray) -> None:
        """Count float32 values of any shape.

        Raises:
            NotFiniteError: naming the layer. Nothing is counted then.
        """
        if values.size == 0:
            return
        magnitudes = np.abs(values).reshape(-1)
        absmax = float(magnitudes.max())
        if not math.isfinite(absmax):
            raise NotFiniteError(f"the input of {self.layer} holds NaN or infinity.")
        self._include(absmax)
        self.seen += magnitudes.size
        zeros = magnitudes.size - np.count_nonzero(magnitudes)
        # Times a power of two, and cut to an integer: both exact.
        magnitudes *= FINE_BINS * 2.0**-self.exponent
        counts = np.bincount(magnitudes.astype(np.int32))
        self.counts[: len(counts)] += counts
        self.counts[0] -= zeros

    def merge(self, other: Histogram) -> None:
        """Add what another histogram of the same layer counted.

        Raises:
            UserError: it is another layer's.
        """
        if (self.kind, self.layer) != (other.kind, other.layer):
            raise UserError(
                f"counts of {shown(f'{other.kind} {other.layer}')} cannot be added to those of "
                f"{shown(f'{self.kind} {self.layer}')}: they are of different models."
            )
        self._include(other.absmax)
        counts = _merge_bins(other.counts, self.exponent - other.exponent)
        self.counts[: len(counts)] += counts
        self.seen += other.seen

    def _include(self, absmax: float) -> None:
        """Widen the range to hold magnitudes up to ``absmax``."""
        before = self.exponent
        self.absmax = max(self.absmax, absmax)
        counts = _merge_bins(self.counts, self.exponent - before)
        if len(counts) < FINE_BINS:
            self.counts = np.pad(counts, (0, FINE_BINS - len(counts)))


def _merge_bins(counts: np.ndarray, doublings: int) -> np.ndarray:
    """Counts in bins 2**doublings as wide; at least one bin is left."""
    if doublings == 0:
        return counts
    return counts.reshape(-1, 1 << min(doublings, FINE_BINS.bit_length() - 1)).sum(axis=1)


#: Histograms of each part's layers, in order of execution.
Observed = dict[str, list[Histogram]]


def save(path: str | Path, observed: Observed) -> None:
    arrays: dict[str, Any] = {}
    for part, histograms in observed.items():
        for i, h in enumerate(histograms):
            key = f"{part}/{i}/{h.kind}/{h.layer}"
            arrays[f"{key}/counts"] = h.counts
            arrays[f"{key}/absmax"] = np.float32(h.absmax)
            arrays[f"{key}/seen"] = np.int64(h.seen)
    with replacing(path) as partial, open(partial, "wb") as f:
        np.savez(f, **arrays)


def load(paths: Iterable[str | Path]) -> Observed:
    """What was saved to several files, added up.

    Raises:
        UserError: a file is missing or damaged, or the files are not of the same model.
    """
    total: Observed = {}
    for path in paths:
        observed = _load(path)
        if not total:
            total = observed
            continue
        try:
            merge(total, observed)
        except UserError as e:
            raise UserError(f"{path}: {e}") from None
    return total


def _load(path: str | Path) -> Observed:
    observed: Observed = {}
    with npz.opened(path, "saved histograms") as arrays:
        for key in arrays:
            if key.endswith("/counts"):
                prefix = key.removesuffix("/counts")
                try:
                    part, _, kind, layer = prefix.split("/")
                    histogram = Histogram(kind, layer)
                    histogram.counts = arrays[key]
                    histogram.absmax = float(arrays[f"{prefix}/absmax"])
                    histogram.seen = int(arrays[f"{prefix}/seen"])
                    _check_counts(histogram)
                except (ValueError, TypeError, OverflowError) as e:
                    raise UserError(
                        f"{path}: cannot be read as saved histograms ({shown(str(e), 200)})."
                    ) from None
                observed.setdefault(part, []).append(histogram)
    return observed


def _check_counts(histogram: Histogram) -> None:
    """ValueError unless the counts are some that ``Histogram`` can come to."""
    counts, seen = histogram.counts, histogram.seen
    if counts.shape != (FINE_BINS,) or counts.dtype != np.int64 or counts.min() < 0:
        raise ValueError(f"the counts of {histogram.layer} are no counts in {FINE_BINS} bins")
    if not 0 <= histogram.absmax < math.inf or not counts.max() <= seen >= counts.sum() >= 0:
        raise ValueError(f"the counts of {histogram.layer} are not of what was seen")


def merge(total: Observed, other: Observed) -> None:
    """Add the histograms of one run to those of another.

    Raises:
        UserError: they are of different models.
    """
    if {k: len(v) for k, v in total.items()} != {k: len(v) for k, v in other.items()}:
        raise UserError("these histograms are of a model with other layers than those before.")
    for part, histograms in total.items():
        for histogram, more in zip(histograms, other[part], strict=True):
            histogram.merge(more)
