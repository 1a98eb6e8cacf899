"""Transcribing recordings with an exported model: by sherpa-ncnn, and by plain ncnn beside it."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transducer2ncnn import isolated
from transducer2ncnn.errors import UserError
from transducer2ncnn.features import SAMPLE_RATE
from transducer2ncnn.files import replacing
from transducer2ncnn.greedy import TAIL_SILENCE
from transducer2ncnn.layout import delivered_files

if TYPE_CHECKING:
    import sherpa_ncnn


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


def sherpa_texts(folder: str | Path, recordings: dict[str, np.ndarray], threads: int) -> list[str]:
    """What sherpa-ncnn hears in each recording, in a process of its own.

    Args:
        folder: a delivered model: six model files and tokens.txt.
        recordings: (n,) float32 samples at 16 kHz, by name.

    Raises:
        UserError: sherpa-ncnn refused the model or crashed; with what it printed last.
    """
    try:
        return isolated.call(_sherpa_texts, str(folder), recordings, threads)
    except isolated.IsolatedError as e:
        raise UserError(f"sherpa-ncnn cannot run the model in {folder}: {e}") from None


def _sherpa_texts(folder: str, recordings: dict[str, np.ndarray], threads: int) -> list[str]:
    print(f"sherpa-ncnn loads {folder}", file=sys.stderr, flush=True)
    recognizer = load_recognizer(folder, threads)
    texts = []
    for name, samples in recordings.items():
        print(f"sherpa-ncnn decodes {name}", file=sys.stderr, flush=True)
        texts.append(decode(recognizer, samples))
    return texts


def load_recognizer(folder: str | Path, threads: int) -> sherpa_ncnn.Recognizer:
    """The real thing. On a bad model it ends the process: to be called in one of its own."""
    import sherpa_ncnn

    files = {
        f"{part}_{kind}": str(path)
        for part, pair in delivered_files(folder).items()
        for kind, path in zip(("param", "bin"), pair, strict=True)
    }
    return sherpa_ncnn.Recognizer(
        tokens=str(Path(folder, "tokens.txt")), num_threads=threads, **files
    )


def decode(recognizer: sherpa_ncnn.Recognizer, samples: np.ndarray) -> str:
    """What it hears in one recording: (n,) float32 samples at 16 kHz."""
    recognizer.stream = recognizer.recognizer.create_stream()
    recognizer.accept_waveform(SAMPLE_RATE, samples)
    silence = np.zeros(int(TAIL_SILENCE * SAMPLE_RATE), dtype=np.float32)
    recognizer.accept_waveform(SAMPLE_RATE, silence)
    recognizer.input_finished()
    return recognizer.text.strip()


def read_references(path: str | Path | None) -> dict[str, str]:
    """Texts by file name, from a table with the columns ``wav`` and ``text``.

    Raises:
        UserError: the file is missing or has other columns.
    """
    if path is None:
        return {}
    try:
        with open(path, encoding="utf-8", newline="") as f:
            rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read as a table of transcripts ({e}).") from None
    if not rows or not {"wav", "text"} <= rows[0].keys():
        raise UserError(
            f"{path}: expected a tab-separated table with the columns wav and text in its first "
            "line, and a recording a line below."
        )
    return {row["wav"]: row["text"] or "" for row in rows}


def write(path: str | Path, transcripts: list[Transcript]) -> None:
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as f:
        table = csv.writer(f, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        table.writerow(["wav", "reference", "sherpa-ncnn", "ncnn", "agree"])
        for t in transcripts:
            row = [t.wav, t.reference, t.sherpa_ncnn, t.ncnn, "yes" if t.agree else "no"]
            table.writerow(row)
