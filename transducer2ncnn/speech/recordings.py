"""Recordings to evaluate on: listened to once, so that what is wrong is known beforehand."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from transducer2ncnn.base import reading
from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.files import write_text
from transducer2ncnn.speech import audio, manifests
from transducer2ncnn.speech.features import SAMPLE_RATE

#: What is wrong with a manifest, of which a message shows so many lines.
MAX_WRONG = 50
#: Characters of such a line; a command may be in it.
LINE_LENGTH = 800


@dataclass(frozen=True)
class Utterance:
    """A checked line of a manifest."""

    id: str
    wav: str
    text: str
    #: Seconds into the recording.
    start: float
    #: Seconds.
    duration: float
    #: Counted from 0; None: all channels, averaged.
    channel: int | None
    #: Of the samples.
    sha256: str
    #: Hz that the recording is resampled to before, one after the other.
    rates: tuple[int, ...] = ()


def check(manifest: str | Path, root: str | Path | None = None) -> list[Utterance]:
    """The utterances of a manifest, in its order, each one listened to.

    Args:
        root: where the corpus is, which relative paths lead from.

    Raises:
        UserError: one message with what is wrong: lines that cannot be read, missing
            recordings, empty transcripts, what cannot be decoded, duplicate ids.
    """
    utterances, wrong = examine(manifest, root)
    if wrong:
        raise UserError(listed(str(manifest), wrong))
    rates = Counter(audio.rate(wav) for wav in {u.wav for u in utterances})
    for rate, number in sorted(rates.items()):
        if rate != SAMPLE_RATE:
            print(
                f"{manifest}: {number} recordings at {rate} Hz, resampled to {SAMPLE_RATE} Hz",
                file=sys.stderr,
            )
    return utterances


def listed(what: str, wrong: list[str]) -> str:
    """A message with what is wrong, a line each."""
    lines = "\n".join(f"  {shown(line, LINE_LENGTH)}." for line in wrong[:MAX_WRONG])
    if len(wrong) > MAX_WRONG:
        lines += f"\n  and {len(wrong) - MAX_WRONG} more."
    return f"{what}: {len(wrong)} wrong, to be corrected or left out:\n{lines}"


def examine(
    manifest: str | Path, root: str | Path | None = None
) -> tuple[list[Utterance], list[str]]:
    """The utterances of a manifest, each one listened to, and what is wrong with the others.

    Raises:
        UserError: the manifest as a whole cannot be read, or holds nothing.
    """
    utterances: list[Utterance] = []
    wrong: list[str] = []
    seen: dict[str, str] = {}
    for entry in manifests.entries(manifest, root):
        if isinstance(entry, str):
            wrong.append(entry)
            continue
        if entry.id in seen:
            wrong.append(f"{entry.where}: id {entry.id!r} was given before, in {seen[entry.id]}")
        seen.setdefault(entry.id, entry.where)
        if not entry.text.strip():
            wrong.append(f"{entry.where}: {entry.id!r} has an empty transcript")
        try:
            samples = audio.segment(
                entry.wav, entry.start, entry.duration, entry.channel, entry.rates
            )
        except UserError as e:
            wrong.append(f"{entry.where}: {str(e).rstrip('.')}")
            continue
        utterances.append(
            Utterance(
                entry.id,
                str(entry.wav),
                entry.text.strip(),
                entry.start,
                len(samples) / SAMPLE_RATE,
                entry.channel,
                sha256(samples),
                entry.rates,
            )
        )
    if not utterances and not wrong:
        raise UserError(f"{manifest}: holds no recordings.")
    return utterances, wrong


def read(utterance: Utterance) -> np.ndarray:
    """(n,) float32 samples at 16 kHz.

    Raises:
        UserError: they are not those that were checked.
    """
    part = (utterance.start, utterance.duration, utterance.channel, utterance.rates)
    samples = audio.segment(utterance.wav, *part)
    if sha256(samples) != utterance.sha256:
        raise UserError(f"{utterance.wav}: changed since it was checked. Start the run again.")
    return samples


def sha256(samples: np.ndarray) -> str:
    return hashlib.sha256(samples.astype("<f4").tobytes()).hexdigest()


def write_checked(path: str | Path, utterances: list[Utterance]) -> None:
    """The normalised manifest: an utterance a line."""
    lines = (json.dumps(asdict(u), ensure_ascii=False) + "\n" for u in utterances)
    write_text(path, "".join(lines))


def read_checked(path: str | Path) -> list[Utterance]:
    """
    Raises:
        UserError: the file is missing or is not such a manifest; naming the line.
    """
    return reading.read_rows(path, Utterance)
