"""Reading recordings as the features want them: 16 kHz, mono, float32 in [−1, 1]."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr

from transducer2ncnn.errors import UserError
from transducer2ncnn.features import SAMPLE_RATE


def read(path: str | Path) -> np.ndarray:
    """(n,) samples of a recording; another rate or several channels are converted, and said.

    Raises:
        UserError: the file is missing, cannot be decoded, or holds no samples.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such recording.")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as e:
        raise UserError(f"{path}: cannot be decoded as audio ({e.error_string}).") from None
    if len(samples) == 0:
        raise UserError(f"{path}: holds no samples.")
    if samples.shape[1] > 1:
        print(f"{path}: {samples.shape[1]} channels, averaged to one", file=sys.stderr)
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE:
        print(f"{path}: {rate} Hz, resampled to {SAMPLE_RATE} Hz", file=sys.stderr)
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return mono
