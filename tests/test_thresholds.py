"""The choice of a threshold, against a slow and plain way to the same number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.quantization import thresholds
from transducer2ncnn.quantization.recipes import Table
from transducer2ncnn.quantization.statistics import FINE_BINS, Histogram
from transducer2ncnn.quantization.thresholds import COARSE_BINS, LEVELS


def histogram_of(*values: float) -> Histogram:
    histogram = Histogram("Linear", "x")
    histogram.add(np.array(values, dtype=np.float32))
    return histogram


def test_coarse_bins() -> None:
    # Magnitudes in the middle of each 64th coarse bin over [0, 1.5], and the largest itself.
    values = [(i + 0.5) * 1.5 / COARSE_BINS for i in range(0, COARSE_BINS, 64)]
    coarse = thresholds.coarse(histogram_of(*values, 1.5))
    expected = np.zeros(COARSE_BINS)
    expected[::64] = 1
    expected[-1] = 1
    np.testing.assert_allclose(coarse, expected, atol=1e-6)


def test_a_fine_bin_on_an_edge_is_shared_out() -> None:
    absmax = 1.5
    fine = 1.0 / 2**17  # wide, the range being [0, 2)
    edge = absmax / COARSE_BINS  # 96 fine bins
    assert edge / fine == 96
    absmax = 1.5 + 1.5 / 192  # the first edge is now in the middle of fine bin number 96
    coarse = thresholds.coarse(histogram_of(96.25 * fine, 96.75 * fine, absmax))
    assert coarse[:3] == pytest.approx([1, 1, 0])
    assert coarse.sum() == pytest.approx(3)


def test_coarse_bins_are_nearly_those_of_the_values() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(200_000).astype(np.float32)
    coarse = thresholds.coarse(histogram_of(*values.tolist()))
    magnitudes = np.abs(values)
    bins = (magnitudes / magnitudes.max() * COARSE_BINS).astype(np.int32)
    exact = np.bincount(np.minimum(bins, COARSE_BINS - 1), minlength=COARSE_BINS)
    assert np.abs(coarse - exact).sum() < 0.005 * len(values)


def slow_search(counts: np.ndarray) -> int:
    """Bin by bin and group by group, as the method is told."""
    normed = [float(c) / float(counts.sum()) for c in counts]
    best, smallest = 0, math.inf
    for t in range(LEVELS, len(normed)):
        p = [x + 1e-4 for x in normed[:t]]
        p[-1] += sum(normed[t:])
        q = [1e-4] * t
        width = t / LEVELS
        for group in range(LEVELS):
            begin, end = group * width, (group + 1) * width
            shares = {k: min(end, k + 1) - max(begin, k) for k in range(int(begin), math.ceil(end))}
            shares = {k: share for k, share in shares.items() if k < t and share > 1e-9}
            mean = sum(share * normed[k] for k, share in shares.items()) / width
            for k, share in shares.items():
                q[k] += share * mean
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        if divergence < smallest - 1e-12:
            best, smallest = t, divergence
    return best


@pytest.mark.parametrize("kind", ["normal", "long-tailed", "few"])
def test_the_search_against_a_slow_one(kind: str) -> None:
    rng = np.random.default_rng(0)
    # Fewer bins than there are: the slow search takes its time.
    bins = 500
    x = {
        "normal": np.abs(rng.standard_normal(20_000)),
        "long-tailed": rng.standard_exponential(20_000) ** 2,
        "few": np.abs(rng.standard_normal(40)),
    }[kind]
    counts = np.histogram(x, bins, (0, x.max()))[0]
    assert thresholds.search_thresholds(counts[None])[0] == slow_search(counts)


def test_the_first_of_equal_thresholds_wins() -> None:
    # All the mass in the first bins, one group each: every multiple of 128 loses nothing there.
    counts = np.zeros(COARSE_BINS)
    counts[0] = 1
    assert thresholds.search_thresholds(counts[None])[0] == LEVELS


def test_the_scale_of_a_threshold() -> None:
    found = thresholds.input_scales([histogram_of(*[0.001] * 1000, 2.0)], Table())[0]
    bins = found.threshold * COARSE_BINS / 2.0 - 0.5
    assert bins == pytest.approx(round(bins), abs=1e-6)
    assert (found.absmax, found.scale) == (2.0, 127 / found.threshold)


@pytest.mark.parametrize("per_cent", [50.0, 90.0, 99.9, 100.0])
def test_a_percentile_is_that_of_the_values(per_cent: float) -> None:
    rng = np.random.default_rng(0)
    values = np.abs(rng.standard_normal(20_000)).astype(np.float32)
    values[:3000] = 0  # which are values as well
    histogram = histogram_of(*values)
    found = thresholds.input_scales([histogram], Table("percentile", per_cent))[0]
    exact = np.percentile(values, per_cent, method="inverted_cdf")
    width = 2.0**histogram.exponent / FINE_BINS
    assert exact <= found.threshold <= exact + width
    assert found.scale == 127 / found.threshold


def test_nothing_was_observed() -> None:
    with pytest.raises(UserError, match="nothing went into x: there was no audio"):
        thresholds.input_scales([histogram_of()], Table())[0]


def test_an_input_that_is_always_zero() -> None:
    with pytest.raises(UserError, match="the input of x is always zero"):
        thresholds.input_scales([histogram_of(0.0, 0.0)], Table())[0]
