"""How an input's scale is chosen out of what was observed.

A scale maps the magnitudes up to a threshold to int8, and clips those beyond. By default the
threshold is the one that loses least, as a Kullback-Leibler divergence between the histogram of
magnitudes before and after, which is what ncnn's own tool takes; or it is a percentile.
"""

from __future__ import annotations

import math
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
    """The scales of some layers' inputs. To search for all thresholds together takes a third of the
    time of one after the other.

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
            "time, so its range is unknown: nothing but silence was heard. Calibrate with "
            "recordings of speech."
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
    normed = counts / counts.sum(axis=1, keepdims=True)
    up_to = np.pad(np.cumsum(normed, axis=1), ((0, 0), (1, 0)))
    bins = np.arange(counts.shape[1] + 1)
    best, smallest = np.full(len(counts), LEVELS), np.full(len(counts), math.inf)
    for t in range(LEVELS, counts.shape[1]):
        clipped = normed[:, :t] + EPSILON
        clipped[:, -1] += 1 - up_to[:, t]
        # Mass below each group's edge; going back along straight lines between the edges is what
        # flattens the groups.
        edges = np.arange(LEVELS + 1) * (t / LEVELS)
        flattened = np.diff(_interpolate(bins[: t + 1], edges, _interpolate(edges, bins, up_to)))
        divergence = np.sum(clipped * np.log(clipped / (flattened + EPSILON)), axis=1)
        less = divergence < smallest
        best[less], smallest[less] = t, divergence[less]
    return [int(t) for t in best]


def _interpolate(x: np.ndarray, xp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    """``numpy.interp`` of each row of ``fp``, (L, len(xp)), to the last bit; (L, len(x))."""
    at = np.minimum(np.searchsorted(xp, x, side="right") - 1, len(xp) - 2)
    found: np.ndarray = (np.diff(fp) / np.diff(xp))[:, at] * (x - xp[at]) + fp[:, at]
    found[:, x >= xp[-1]] = fp[:, -1:]
    return found
