"""How an input's scale is chosen out of what was observed.

A scale maps the magnitudes up to a threshold to int8, and clips those beyond. By default the
threshold is the one that loses least, as a Kullback-Leibler divergence between the histogram of
magnitudes before and after, which is what ncnn's own tool takes; or it is a percentile.
"""

from __future__ import annotations

import math
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


def input_scale(histogram: Histogram, how: Table) -> Found:
    """The scale of one layer's input.

    Raises:
        UserError: nothing was observed, or nothing but zeros or one and the same magnitude.
    """
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
    if how.thresholds == "percentile":
        threshold = percentile(histogram, how.percentile)
    else:
        bins = search_threshold(coarse(histogram))
        threshold = (bins + 0.5) * histogram.absmax / COARSE_BINS
    return Found(histogram.absmax, threshold, INT8_MAX / threshold)


def percentile(histogram: Histogram, per_cent: float) -> float:
    """The magnitude that so much of all values, zeros included, do not exceed; to a fine bin."""
    zeros = histogram.seen - int(histogram.counts.sum())
    up_to = zeros + np.cumsum(histogram.counts)
    bin_ = int(np.searchsorted(up_to, per_cent / 100 * histogram.seen))
    upper_edge = (bin_ + 1) * 2.0**histogram.exponent / FINE_BINS
    return min(upper_edge, histogram.absmax)


def search_threshold(counts: np.ndarray) -> int:
    """The number of bins, from LEVELS on, below which int8's range loses least.

    For each number t of bins, what comes of the distribution by clipping it to t bins is compared
    with what int8 would make of these: LEVELS groups of equal width, each flattened. Bins at the
    edge of a group are shared out in proportion. The first t with the smallest Kullback-Leibler
    divergence wins.

    Args:
        counts: (COARSE_BINS,) counts of magnitudes, not all zero.
    """
    normed = counts / counts.sum()
    up_to = np.concatenate([[0], np.cumsum(normed)])
    bins = np.arange(len(counts) + 1)
    best, smallest = LEVELS, math.inf
    for t in range(LEVELS, len(counts)):
        clipped = normed[:t] + EPSILON
        clipped[-1] += 1 - up_to[t]
        # Mass below each group's edge; going back along straight lines between the edges is what
        # flattens the groups.
        edges = np.arange(LEVELS + 1) * (t / LEVELS)
        flattened = np.diff(np.interp(bins[: t + 1], edges, np.interp(edges, bins, up_to)))
        divergence = np.sum(clipped * np.log(clipped / (flattened + EPSILON)))
        if divergence < smallest:
            best, smallest = t, divergence
    return best
