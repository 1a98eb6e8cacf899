"""How an input's scale is chosen out of what was observed.

A scale maps the magnitudes up to a threshold to int8, and clips those beyond. By default the
threshold is the one that loses least, as a Kullback-Leibler divergence between the histogram of
magnitudes before and after, which is what ncnn's own tool takes; or it is a percentile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats.scale_table import INT8_MAX
from transducer2ncnn.quantization.recipes import Table
from transducer2ncnn.quantization.statistics import FINE_BINS, Histogram

#: Bins that a threshold is searched among.
COARSE_BINS = 2048
#: Groups of bins that stand for int8's magnitudes in the search.
LEVELS = 128
#: Added to every bin, so that an empty one has a finite divergence.
EPSILON = 1e-4
#: Divergences that differ by less are the same.
ROUNDING = 1e-12
#: Thresholds that are tried at once.
AT_ONCE = 32


def coarse(histogram: Histogram) -> np.ndarray:
    """(COARSE_BINS,) float64 counts in bins of equal width over [0, absmax].

    A fine bin that an edge runs through is shared out as if its values were spread evenly.
    """
    width = 2.0**histogram.exponent / FINE_BINS
    edges = np.linspace(0, histogram.absmax, COARSE_BINS + 1) / width
    edges[-1] = FINE_BINS  # nothing lies beyond absmax, though its fine bin does
    up_to = np.concatenate([[0], np.cumsum(histogram.counts)])
    return np.diff(np.interp(edges, np.arange(FINE_BINS + 1), up_to))


@dataclass(frozen=True)
class Found:
    """An input's largest magnitude, the magnitude that int8's largest value stands for, and the
    scale that maps it there."""

    absmax: float
    threshold: float
    scale: float


def input_scales(histograms: Sequence[Histogram], how: Table) -> list[Found]:
    """The scales of some layers' inputs. To search for all thresholds together takes less time than
    one after the other.

    Raises:
        UserError: nothing was observed of one, or nothing but zeros or one and the same magnitude.
    """
    for histogram in histograms:
        _check_range(histogram)
    if how.thresholds == "percentile":
        thresholds = [percentile(histogram, how.percentile) for histogram in histograms]
    else:
        bins = search_thresholds(np.array([*map(coarse, histograms)]).reshape(-1, COARSE_BINS))
        thresholds = [
            (number + 0.5) * histogram.absmax / COARSE_BINS
            for number, histogram in zip(bins, histograms, strict=True)
        ]
    return [
        Found(histogram.absmax, threshold, INT8_MAX / threshold)
        for histogram, threshold in zip(histograms, thresholds, strict=True)
    ]


def _check_range(histogram: Histogram) -> None:
    """Refuse what no scale can be chosen by."""
    if histogram.seen == 0:
        raise UserError(
            f"nothing went into {histogram.layer}: there was no audio to calibrate with. Name "
            "recordings that are long enough to be decoded."
        )
    if histogram.absmax == 0:
        raise UserError(
            f"the input of {histogram.layer} is always zero, so it has no scale. Calibrate with "
            "recordings of speech, and check that the checkpoint is a trained model."
        )
    if np.count_nonzero(histogram.counts) == 1 and histogram.counts.sum() == histogram.seen:
        raise UserError(
            f"the input of {histogram.layer} has the same magnitude {histogram.absmax:g} all the "
            "time, so its range is unknown: the recordings hold silence, or a signal that never "
            "changes. Calibrate with recordings of speech."
        )


def percentile(histogram: Histogram, per_cent: float) -> float:
    """The magnitude that so much of all values, zeros included, do not exceed; to a fine bin."""
    zeros = histogram.seen - int(histogram.counts.sum())
    up_to = zeros + np.cumsum(histogram.counts)
    bin_ = int(np.searchsorted(up_to, per_cent / 100 * histogram.seen))
    upper_edge = (bin_ + 1) * 2.0**histogram.exponent / FINE_BINS
    return min(upper_edge, histogram.absmax)


def search_thresholds(counts: np.ndarray) -> list[int]:
    """Of each histogram, the number of bins, from LEVELS on, below which int8's range loses least.

    For each number t of bins, what comes of the distribution by clipping it to t bins is compared
    with what int8 would make of these: LEVELS groups of equal width, each flattened. Bins at the
    edge of a group are shared out in proportion. The first t with the smallest Kullback-Leibler
    divergence wins.

    Args:
        counts: (L, COARSE_BINS) counts of magnitudes, not all zero in any row.
    """
    numbers = np.arange(LEVELS, counts.shape[1])
    search = _Search(counts)
    blocks = [numbers[i : i + AT_ONCE] for i in range(0, len(numbers), AT_ONCE)]
    lost = np.concatenate([search.divergences(t) for t in blocks], axis=1)
    least = lost.min(axis=1, keepdims=True)
    return [int(t) for t in numbers[np.argmax(lost <= least + ROUNDING, axis=1)]]


class _Search:
    """Divergences of L histograms for many thresholds at once.

    The divergence is the sum of p·log p − p·log q over the bins, of the clipped distribution p and
    the flattened one q. All bins of a group have the same q but those that an edge runs through,
    and of p sums are at hand: so there are 2 · LEVELS logarithms for a threshold, not one a bin.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self._share = counts / counts.sum(axis=1, keepdims=True)
        self._p = self._share + EPSILON
        self._mass, self._p_sum, self._own = map(
            _up_to, (self._share, self._p, self._p * np.log(self._p))
        )

    def divergences(self, t: np.ndarray) -> np.ndarray:
        """(L, n) of n thresholds, as numbers of bins."""
        edges = np.outer(t / LEVELS, np.arange(LEVELS + 1))  # exact, as LEVELS is a power of two
        bins = edges.astype(int)
        fraction = edges - bins
        # (L, n, LEVELS) the mass that each bin of a group has once it is flattened.
        mass = self._mass[:, bins] + fraction * self._share[:, bins]
        q = np.diff(mass) * (LEVELS / t)[:, None] + EPSILON
        log_q = np.log(q)
        whole = self._p_sum[:, bins[:, 1:]] - self._p_sum[:, bins[:, :-1] + (fraction[:, :-1] > 0)]
        cross = np.einsum("ltg,ltg->lt", whole, log_q)
        # The bins that an edge runs through; one between two bins runs through neither.
        fraction, bins = fraction[:, 1:-1], bins[:, 1:-1]
        q_there = q[:, :, :-1] * fraction + q[:, :, 1:] * (1 - fraction)
        cross += np.einsum("ltg,ltg->lt", self._p[:, bins] * (fraction > 0), np.log(q_there))
        # What is clipped goes into the last bin.
        clipped = 1 - self._mass[:, t]
        last = self._p[:, t - 1] + clipped
        own = self._own[:, t - 1] + last * np.log(last)
        divergences: np.ndarray = own - (cross + clipped * log_q[:, :, -1])
        return divergences


def _up_to(x: np.ndarray) -> np.ndarray:
    """(L, n + 1): the sum of each row before each of its places, and of all of it."""
    return np.pad(np.cumsum(x, axis=1), ((0, 0), (1, 0)))
