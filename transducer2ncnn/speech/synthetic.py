"""Audio that is made up: for checks that must not depend on anybody's recordings."""

from __future__ import annotations

import numpy as np

#: Samples of one loudness, 0.2 s.
BURST = 3200


def bursts(rng: np.random.Generator, samples: int) -> np.ndarray:
    """(samples,) float32 at 16 kHz: coloured noise, now loud, now nearly silent, as speech is."""
    noise = np.cumsum(rng.standard_normal(samples)) % 1.0 - 0.5
    noise = noise + 0.3 * rng.standard_normal(samples)
    level = np.repeat(rng.uniform(-70, -6, samples // BURST + 1), BURST)[:samples]  # in dB
    return (noise * 10 ** (level / 20)).astype(np.float32)
