"""Reading recordings as the features want them: 16 kHz, mono, float32 in [−1, 1]."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr

from transducer2ncnn.errors import UserError
from transducer2ncnn.features import SAMPLE_RATE


def duration(path: str | Path) -> float:
    """Seconds of a recording, without decoding it.

    Raises:
        UserError: as ``read``.
    """
    with _opened(path) as f:
        return f.frames / f.samplerate


def read(path: str | Path) -> np.ndarray:
    """(n,) samples of a recording; another rate or several channels are converted, and said.

    Raises:
        UserError: the file is missing, cannot be decoded, or holds no samples.
    """
    with _opened(path) as f:
        rate = f.samplerate
        try:
            samples = f.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as e:
            raise UserError(_undecodable(path, e)) from None
    if samples.shape[1] > 1:
        print(f"{path}: {samples.shape[1]} channels, averaged to one", file=sys.stderr)
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE:
        print(f"{path}: {rate} Hz, resampled to {SAMPLE_RATE} Hz", file=sys.stderr)
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return mono


def _opened(path: str | Path) -> soundfile.SoundFile:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such recording.")
    try:
        f = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as e:
        raise UserError(_undecodable(path, e)) from None
    if f.frames == 0:
        f.close()
        raise UserError(f"{path}: holds no samples.")
    return f


def _undecodable(path: str | Path, error: soundfile.LibsndfileError) -> str:
    return f"{path}: cannot be decoded as audio ({error.error_string})."
