"""Reading recordings as the features want them: 16 kHz, mono, float32 in [−1, 1]."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.speech.features import SAMPLE_RATE

#: Seconds of a recording that are read at once.
BLOCK_SECONDS = 10
#: Seconds by which a segment may end behind its recording.
ROUNDING = 0.01


def duration(path: str | Path) -> float:
    """Seconds of a recording, without decoding it.

    Raises:
        UserError: as ``read``.
    """
    with _opened(path) as f:
        return f.frames / f.samplerate


def mean_square(path: str | Path) -> float:
    """The mean square of a recording's samples, channels averaged; as they are, not resampled.

    Raises:
        UserError: as ``read``.
    """
    total = 0.0
    with _opened(path) as f:
        for block in _blocks(f, path):
            total += float(np.sum(block.astype(np.float64) ** 2))
        return total / int(f.frames)


def read(path: str | Path) -> np.ndarray:
    """(n,) samples of a recording; another rate or several channels are converted, and said.

    Raises:
        UserError: the file is missing, cannot be decoded, or holds no samples.
    """
    return np.concatenate(list(blocks(path)))


def blocks(path: str | Path) -> Iterator[np.ndarray]:
    """The same samples piece by piece, so that memory does not grow with the recording.

    Raises:
        UserError: as ``read``.
    """
    with _opened(path) as f:
        if f.channels > 1:
            print(f"{path}: {f.channels} channels, averaged to one", file=sys.stderr)
        resampler = None
        if f.samplerate != SAMPLE_RATE:
            print(f"{path}: {f.samplerate} Hz, resampled to {SAMPLE_RATE} Hz", file=sys.stderr)
            resampler = soxr.ResampleStream(f.samplerate, SAMPLE_RATE, 1, dtype="float32")
        left = f.frames
        for mono in _blocks(f, path):
            left -= len(mono)
            yield mono if resampler is None else resampler.resample_chunk(mono, last=left <= 0)


def _blocks(f: soundfile.SoundFile, path: str | Path) -> Iterator[np.ndarray]:
    """(n,) samples piece by piece, at the recording's own rate."""
    left = f.frames
    while left > 0:
        try:
            block = f.read(BLOCK_SECONDS * f.samplerate, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as e:
            raise UserError(_undecodable(path, e)) from None
        if len(block) == 0:
            raise UserError(f"{path}: is cut off: {left} samples fewer than it promises.")
        left -= len(block)
        yield block.mean(axis=1)


def segment(
    path: str | Path, start: float = 0.0, duration: float | None = None, channel: int | None = None
) -> np.ndarray:
    """(n,) samples of a part of a recording that is at 16 kHz already.

    Args:
        start, duration: in seconds; no duration: to the recording's end.
        channel: counted from 0; None averages them.

    Raises:
        UserError: as ``read``, the rate is another, or there is no such part or channel.
    """
    with _opened(path) as f:
        if f.samplerate != SAMPLE_RATE:
            raise UserError(f"{path}: is at {f.samplerate} Hz; expected {SAMPLE_RATE} Hz.")
        if channel is not None and channel >= f.channels:
            raise UserError(f"{path}: has {f.channels} channels; there is no channel {channel}.")
        first = round(start * SAMPLE_RATE)
        last = f.frames if duration is None else first + round(duration * SAMPLE_RATE)
        # Manifests round to hundredths, or to milliseconds.
        if not 0 <= first < last <= f.frames + ROUNDING * SAMPLE_RATE:
            raise UserError(
                f"{path}: from {first / SAMPLE_RATE:g} s to {last / SAMPLE_RATE:g} s is not in "
                f"it; it lasts {f.frames / SAMPLE_RATE:g} s."
            )
        last = min(last, f.frames)
        try:
            f.seek(first)
            samples = f.read(last - first, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as e:
            raise UserError(_undecodable(path, e)) from None
        if len(samples) < last - first:
            missing = last - first - len(samples)
            raise UserError(f"{path}: is cut off: {missing} samples fewer than it promises.")
        return samples.mean(axis=1) if channel is None else samples[:, channel].copy()


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
