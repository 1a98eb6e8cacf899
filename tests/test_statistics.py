"""Histograms of magnitudes, which are the same in whatever parts and order the values come."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.quantization import statistics
from transducer2ncnn.quantization.statistics import FINE_BINS, Histogram


def histogram_of(*values: float) -> Histogram:
    histogram = Histogram("Linear", "x")
    histogram.add(np.array(values, dtype=np.float32))
    return histogram


def counted(histogram: Histogram) -> dict[float, int]:
    """Counts by the lower edge of their bin."""
    width = 2.0**histogram.exponent / FINE_BINS
    return {i * width: int(histogram.counts[i]) for i in np.flatnonzero(histogram.counts)}


def test_a_histogram_counts_magnitudes_and_no_zeros() -> None:
    histogram = histogram_of(0.0, -0.0, 0.75, -0.75, 0.5)
    assert (histogram.seen, histogram.absmax, histogram.exponent) == (5, 0.75, 0)
    assert counted(histogram) == {0.5: 1, 0.75: 2}


def test_doubling_merges_neighbouring_bins() -> None:
    width = 2.0**-18  # of a bin in [0, 1)
    histogram = histogram_of(0.5, 2 * width, 3 * width, 4 * width, width / 2)
    assert counted(histogram) == {0.5: 1, 0.0: 1, 2 * width: 1, 3 * width: 1, 4 * width: 1}
    histogram.add(np.array([1.0], np.float32))  # the first that [0, 1) does not hold
    assert histogram.exponent == 1
    assert counted(histogram) == {1.0: 1, 0.5: 1, 0.0: 1, 2 * width: 2, 4 * width: 1}
    histogram.add(np.array([3.0e6], np.float32))
    assert histogram.exponent == 22
    assert counted(histogram) == {2999984.0 + 16.0: 1, 0.0: 6}
    histogram.add(np.array([1e30], np.float32))
    assert counted(histogram)[0.0] == 7


def test_order_and_parts_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(1000) * np.exp(4 * rng.standard_normal(1000))
    values = values.astype(np.float32)
    whole = histogram_of(*values)
    thirds = np.split(values, [1, 999])
    for parts in (np.array_split(values[::-1], 100), thirds, [values, values[:0]]):
        histogram = Histogram("Linear", "x")
        for part in parts:
            histogram.add(part)
        assert histogram.absmax == whole.absmax == np.abs(values).max()
        np.testing.assert_array_equal(histogram.counts, whole.counts)
        merged = histogram_of(*parts[-1])
        for part in parts[:-1]:
            merged.merge(histogram_of(*part))
        assert (merged.absmax, merged.seen) == (whole.absmax, whole.seen)
        np.testing.assert_array_equal(merged.counts, whole.counts)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite(value: float) -> None:
    histogram = histogram_of(1.0)
    with pytest.raises(UserError, match="the input of x holds NaN or infinity"):
        histogram.add(np.array([2.0, value], np.float32))
    assert (histogram.seen, histogram.absmax, counted(histogram)) == (1, 1.0, {1.0: 1})


def test_histograms_of_different_models(tmp_path: Path) -> None:
    def model(*layers: str) -> statistics.Observed:
        return {
            "encoder": [Histogram("Conv2d", "c")],
            "joiner": [Histogram("Linear", x) for x in layers],
        }

    statistics.save(tmp_path / "a.npz", model("p", "q"))
    statistics.save(tmp_path / "b.npz", model("q", "p"))
    statistics.save(tmp_path / "c.npz", model("p"))
    with pytest.raises(UserError, match=r"b\.npz: counts of Linear q cannot be .* Linear p"):
        statistics.load([tmp_path / "a.npz", tmp_path / "b.npz"])
    with pytest.raises(UserError, match=r"c\.npz: .* other layers"):
        statistics.load([tmp_path / "a.npz", tmp_path / "c.npz"])
    (tmp_path / "d.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:1000])
    for name in ("d.npz", "missing.npz"):
        with pytest.raises(UserError, match=f"{name}: cannot be read as saved histograms"):
            statistics.load([tmp_path / name])


@pytest.mark.parametrize("script", ["make_scale_table", "measure_layers", "measure_recordings"])
def test_what_only_reads_histograms_loads_no_torch(script: str) -> None:
    found = f"import sys, workflow_scripts.{script}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", found], cwd=ROOT, check=True)
