"""Transcribing recordings with an exported model: by sherpa-ncnn, and by plain ncnn beside it."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transducer2ncnn.base import isolated
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import replacing
from transducer2ncnn.base.reading import REMAKE, read_text
from transducer2ncnn.engines import recognizer
from transducer2ncnn.speech.manifests import read_table


@dataclass(frozen=True)
class Transcript:
    wav: str
    #: What was said, where it is known.
    reference: str
    sherpa_ncnn: str
    ncnn: str

    @property
    def agree(self) -> bool:
        return self.sherpa_ncnn == self.ncnn


def sherpa_texts(
    folder: str | Path, recordings: dict[str, np.ndarray], threads: int, tail_seconds: float
) -> list[str]:
    """What sherpa-ncnn recognises in each recording, in a process of its own.

    Args:
        folder: a delivered model: six model files and tokens.txt.
        recordings: (n,) float32 samples at 16 kHz, by name.
        tail_seconds: silence to put behind each, as the model's architecture has it.

    Raises:
        UserError: sherpa-ncnn refused the model or crashed; with what it printed last.
    """
    try:
        return isolated.call(_sherpa_texts, str(folder), recordings, threads, tail_seconds)
    except isolated.IsolatedError as e:
        raise UserError(f"sherpa-ncnn cannot run the model in {folder}: {e}") from None


def _sherpa_texts(
    folder: str, recordings: dict[str, np.ndarray], threads: int, tail_seconds: float
) -> list[str]:
    print(f"sherpa-ncnn loads {folder}", file=sys.stderr, flush=True)
    loaded = recognizer.load(folder, threads)
    texts = []
    for name, samples in recordings.items():
        print(f"sherpa-ncnn decodes {name}", file=sys.stderr, flush=True)
        _, text = recognizer.decode(loaded, samples, tail_seconds)
        texts.append(text)
    return texts


def read_references(path: str | Path | None) -> dict[str, str]:
    """Texts by file name, from a table with the columns ``wav`` and ``text``.

    Raises:
        UserError: the file is missing or has other columns.
    """
    if path is None:
        return {}
    return {row["wav"]: row["text"] or "" for _, row in read_table(path)}


def write(path: str | Path, transcripts: list[Transcript]) -> None:
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as f:
        table = csv.writer(f, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        table.writerow(["wav", "reference", "sherpa-ncnn", "ncnn", "agree"])
        for t in transcripts:
            row = [t.wav, t.reference, t.sherpa_ncnn, t.ncnn, "yes" if t.agree else "no"]
            table.writerow(row)


def read_texts(path: str | Path) -> list[str]:
    """What sherpa-ncnn recognised in each recording, of a table that ``write`` wrote.

    Raises:
        UserError: it is no such table.
    """
    text = read_text(path, "a table")
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        return [row["sherpa-ncnn"] for row in rows]
    except KeyError:
        raise UserError(f"{path}: has no column sherpa-ncnn. {REMAKE}") from None
