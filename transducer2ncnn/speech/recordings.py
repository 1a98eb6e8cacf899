"""Recordings to evaluate on: listened to once, so that what is wrong is known beforehand."""

from __future__ import annotations

import hashlib
import json
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


def check(manifest: str | Path) -> list[Utterance]:
    """The utterances of a manifest, in its order, each one listened to.

    Raises:
        UserError: one message with what is wrong: lines that cannot be read, missing
            recordings, empty transcripts, other rates than 16 kHz, what cannot be decoded,
            duplicate ids.
    """
    utterances: list[Utterance] = []
    wrong: list[str] = []
    seen: dict[str, str] = {}
    for entry in manifests.entries(manifest):
        if isinstance(entry, str):
            wrong.append(entry)
            continue
        if entry.id in seen:
            wrong.append(f"{entry.where}: id {entry.id!r} was given before, in {seen[entry.id]}")
        seen.setdefault(entry.id, entry.where)
        if not entry.text.strip():
            wrong.append(f"{entry.where}: {entry.id!r} has an empty transcript")
        try:
            samples = audio.segment(entry.wav, entry.start, entry.duration, entry.channel)
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
            )
        )
    if wrong:
        lines = "\n".join(f"  {shown(line, 300)}." for line in wrong[:MAX_WRONG])
        if len(wrong) > MAX_WRONG:
            lines += f"\n  and {len(wrong) - MAX_WRONG} more."
        raise UserError(f"{manifest}: {len(wrong)} wrong, to be corrected or left out:\n{lines}")
    if not utterances:
        raise UserError(f"{manifest}: holds no recordings.")
    return utterances


def read(utterance: Utterance) -> np.ndarray:
    """(n,) float32 samples at 16 kHz.

    Raises:
        UserError: they are not those that were checked.
    """
    samples = audio.segment(utterance.wav, utterance.start, utterance.duration, utterance.channel)
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
