"""What quantization adds to a blob, gathered run by run."""

from __future__ import annotations

import math

import numpy as np


class Noise:
    """The difference of arrays from what they should be."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, actual: np.ndarray, expected: np.ndarray) -> None:
        """Count arrays of any shape, all of them finite."""
        expected = expected.astype(np.float64)
        self._signal += float(np.sum(expected**2))
        self._noise += float(np.sum((actual - expected) ** 2))

    @property
    def snr_db(self) -> float | None:
        """The signal-to-noise ratio: 10·log10 of the mean square of what was expected over that of
        the difference. None where there is no difference, or nothing but difference."""
        if not (self._signal and self._noise):
            return None
        return 10 * math.log10(self._signal / self._noise)

    @property
    def relative_error(self) -> float:
        """The root mean square of the difference over that of what was expected."""
        if not (self._signal and self._noise):
            return 0.0
        return math.sqrt(self._noise / self._signal)
