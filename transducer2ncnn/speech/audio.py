"""Reading recordings as the features want them: 16 kHz, mono, float32 in [−1, 1]."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from transducer2ncnn.base import inputs
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.paths import is_file
from transducer2ncnn.speech.features import SAMPLE_RATE

#: Seconds of a recording that are read at once, and values, at most: a damaged header can state
#: any number of channels, and any rate.
BLOCK_SECONDS = 10
BLOCK_VALUES = 8_000_000
#: Hz of what microphones record, from telephones to bats.
RATES = range(1000, 1_000_001)
#: Hours of a recording, or of a part of one, that may be in memory at once. A file of a few
#: kilobytes can hold days of silence.
MAX_HOURS = 4
#: Beyond any recording's length; more would not be a number of samples.
MAX_SECONDS = 1e9
#: What was said of recordings in this process.
_noted: set[str] = set()

#: Seconds by which a segment may end behind its recording.
ROUNDING = 0.01

#: What libsndfile notes of a WAV that has fewer bytes of samples than its header states. It reads
#: what there is, and raises nothing.
SHORTER = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
#: What programs state at least that write into a pipe, where they do not know the length yet.
UNKNOWN_BYTES = 0x7FFF0000


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
        for block in _frames(path, f, f.frames):
            total += float(np.sum(block.mean(axis=1).astype(np.float64) ** 2))
        return total / int(f.frames)


def read(path: str | Path) -> np.ndarray:
    """(n,) samples of a recording; another rate or several channels are converted, and said.

    Raises:
        UserError: the file is missing, cannot be decoded, holds no samples or such as are not
            finite, or is too long to be read at once.
    """
    _check_length(path, duration(path))
    return np.concatenate(list(blocks(path)))


def blocks(path: str | Path) -> Iterator[np.ndarray]:
    """The same samples piece by piece, so that memory does not grow with the recording.

    Raises:
        UserError: as ``read``.
    """
    with _opened(path) as f:
        if f.channels > 1:
            _note(path, f"{f.channels} channels, averaged to one")
        resampler = None
        if f.samplerate != SAMPLE_RATE:
            _note(path, f"{f.samplerate} Hz, resampled to {SAMPLE_RATE} Hz")
            resampler = soxr.ResampleStream(f.samplerate, SAMPLE_RATE, 1, dtype="float32")
        left = f.frames
        for block in _frames(path, f, f.frames):
            left -= len(block)
            mono = block.mean(axis=1)
            yield mono if resampler is None else resampler.resample_chunk(mono, last=left <= 0)


def _note(path: str | Path, what: str) -> None:
    """Say what is done to a recording; of more that it is done to, nothing."""
    if what not in _noted:
        _noted.add(what)
        print(f"{path}: {what}; others like it are not named", file=sys.stderr)


def rate(path: str | Path) -> int:
    """Hz of a recording.

    Raises:
        UserError: as ``read``.
    """
    with _opened(path) as f:
        return int(f.samplerate)


def check(path: str | Path) -> None:
    """Decode all of a recording, and keep nothing of it.

    Raises:
        UserError: as ``read``.
    """
    with _opened(path) as f:
        for _ in _frames(path, f, f.frames):
            pass


def segment(
    path: str | Path,
    start: float = 0.0,
    duration: float | None = None,
    channel: int | None = None,
    rates: Sequence[int] = (),
) -> np.ndarray:
    """(n,) samples of a part of a recording, resampled to 16 kHz.

    Args:
        start, duration: in seconds; no duration: to the recording's end.
        channel: counted from 0; None averages them.
        rates: Hz that it is resampled to before, one after the other.

    Raises:
        UserError: as ``read``, or there is no such part or channel.
    """
    if unusual := [rate for rate in rates if rate not in RATES]:
        raise UserError(f"{path}: cannot be resampled to {unusual[0]} Hz.")
    with _opened(path) as f:
        rate = f.samplerate
        if channel is not None and channel >= f.channels:
            raise UserError(f"{path}: has {f.channels} channels; there is no channel {channel}.")
        if not all(math.isfinite(x) and abs(x) < MAX_SECONDS for x in (start, duration or 0)):
            raise UserError(f"{path}: a part from {start:g} s on for {duration} s is not in it.")
        first = round(start * rate)
        last = f.frames if duration is None else first + round(duration * rate)
        # Manifests round to hundredths, or to milliseconds.
        if not 0 <= first < last <= f.frames + ROUNDING * rate:
            raise UserError(
                f"{path}: from {first / rate:g} s to {last / rate:g} s is not in it; it lasts "
                f"{f.frames / rate:g} s."
            )
        last = min(last, f.frames)
        _check_length(path, (last - first) / rate)
        try:
            f.seek(first)
        except soundfile.LibsndfileError as e:
            raise UserError(_undecodable(path, e)) from None
        parts: Iterator[np.ndarray] = (
            block.mean(axis=1) if channel is None else block[:, channel]
            for block in _frames(path, f, last - first)
        )
        for wanted in (*rates, SAMPLE_RATE):
            if wanted != rate:
                parts, rate = _resampled(parts, rate, wanted), wanted
        return np.concatenate(list(parts))


def _resampled(parts: Iterator[np.ndarray], rate: int, wanted: int) -> Iterator[np.ndarray]:
    """Samples piece by piece at another rate; at a high one they need not all be in memory."""
    resampler = soxr.ResampleStream(rate, wanted, 1, dtype="float32")
    for part in parts:
        yield resampler.resample_chunk(part)
    yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _frames(path: str | Path, f: soundfile.SoundFile, count: int) -> Iterator[np.ndarray]:
    """(n, channels) the next ``count`` samples of an open recording, block by block."""
    at_once = max(1, min(BLOCK_SECONDS * f.samplerate, BLOCK_VALUES // f.channels))
    while count > 0:
        try:
            block = f.read(min(at_once, count), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as e:
            raise UserError(_undecodable(path, e)) from None
        if len(block) == 0:
            raise UserError(f"{path}: is cut off: {count} samples fewer than it promises.")
        if not np.isfinite(block).all():
            raise UserError(f"{path}: holds samples that are NaN or infinite.")
        count -= len(block)
        yield block


def _check_length(path: str | Path, seconds: float) -> None:
    if seconds > MAX_HOURS * 3600:
        raise UserError(
            f"{path}: {seconds / 3600:,.1f} h of it would have to be in memory at once; "
            f"{MAX_HOURS} h are the most. Cut it into shorter recordings."
        )


def _opened(path: str | Path) -> soundfile.SoundFile:
    if not is_file(path):
        target = f" It is a link to {os.readlink(path)}." if os.path.islink(path) else ""
        raise UserError(f"{path}: no such recording.{target}")
    try:
        f = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as e:
        raise UserError(_undecodable(path, e)) from None
    except TypeError:  # headerless audio, whose rate somebody would have to say
        raise UserError(f"{path}: is named as audio without a header. Expected a WAV.") from None
    if f.frames <= 0 or f.samplerate not in RATES:
        f.close()
        if f.frames <= 0:
            raise UserError(f"{path}: holds no samples.")
        raise UserError(
            f"{path}: is at {f.samplerate:,} Hz by its header. Expected {RATES[0]:,} to "
            f"{RATES[-1]:,} Hz."
        )
    if (missing := _missing_seconds(f)) > ROUNDING:
        f.close()
        raise UserError(
            f"{path}: is cut off: {missing:.2f} s fewer than its header states. Fetch it again."
        )
    return f


def _missing_seconds(f: soundfile.SoundFile) -> float:
    """How much shorter a WAV is than its header states."""
    if f.format not in ("WAV", "WAVEX") or not (found := SHORTER.search(f.extra_info)):
        return 0.0
    stated, there = map(int, found.groups())
    if stated >= UNKNOWN_BYTES or not there:
        return 0.0
    return float((stated - there) / there * f.frames / f.samplerate)


#: How recordings begin that soundfile does not read.
OTHERS = (
    (4, b"ftyp", "an MP4 or M4A file"),
    (0, b"#!AMR", "an AMR file"),
    (0, b"\x30\x26\xb2\x75", "a WMA file"),
    (0, b"\x1a\x45\xdf\xa3", "a WebM or Matroska file"),
    (0, b"\xff\xf1", "an AAC file"),
    (0, b"\xff\xf9", "an AAC file"),
    (0, b"MAC ", "a Monkey's Audio file"),
    (0, b"wvpk", "a WavPack file"),
)


def _undecodable(path: str | Path, error: soundfile.LibsndfileError) -> str:
    with open(path, "rb") as f:
        head = f.read(inputs.POINTER_SIZE)
    if stand_in := inputs.stand_in(head):
        return f"{path}: is {stand_in}."
    for offset, beginning, name in OTHERS:
        if head[offset:].startswith(beginning):
            return (
                f"{path}: is {name}, which cannot be read. Convert it, as by ffmpeg -i x -ar 16000 "
                "x.wav."
            )
    return f"{path}: cannot be decoded as audio ({error.error_string})."
