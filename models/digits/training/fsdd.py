"""The recordings of the Free Spoken Digit Dataset: ``{digit}_{speaker}_{take}.wav``, 8 kHz."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from synthesize import read_wav

RATE = 8000
#: The speakers of the training; the published dataset has had others since.
SPEAKERS = ("george", "jackson", "nicolas", "yweweler")
#: Takes that no training sees, of every speaker and digit.
TEST_TAKES = range(5)

#: Of one speaker: for every digit, its recordings.
Takes = list[list[np.ndarray]]


def find(folder: Path) -> dict[str, list[Path]]:
    """The wavs of every speaker."""
    # The published repository keeps them one level down.
    root = folder / "recordings" if (folder / "recordings").is_dir() else folder
    speakers: dict[str, list[Path]] = {}
    for path in sorted(root.glob("[0-9]_*_*.wav")):
        speakers.setdefault(path.stem.split("_")[1], []).append(path)
    if not speakers:
        raise SystemExit(
            f"{folder}: no recordings named DIGIT_SPEAKER_TAKE.wav here. Get the Free Spoken Digit "
            "Dataset: git clone https://github.com/Jakobovski/free-spoken-digit-dataset"
        )
    return speakers


def load(folder: Path, test: bool | None, speakers: Iterable[str] = SPEAKERS) -> dict[str, Takes]:
    """Recordings by speaker and digit: the test takes (True), the others (False), all (None)."""
    takes: dict[str, Takes] = {}
    found = find(folder)
    for speaker in speakers:
        if speaker not in found:
            raise SystemExit(f"{folder}: no speaker {speaker} here, only {', '.join(found)}")
        digits: Takes = [[] for _ in range(10)]
        for path in found[speaker]:
            digit, _, take = path.stem.split("_")
            if test is None or (int(take) in TEST_TAKES) == test:
                samples, rate = read_wav(path)
                if rate != RATE:
                    raise SystemExit(f"{path}: {rate} Hz, where the dataset has {RATE}")
                digits[int(digit)].append(samples)
        missing = [d for d in range(10) if not digits[d]]
        if missing:
            raise SystemExit(f"{folder}: speaker {speaker} has no such takes of {missing}")
        takes[speaker] = digits
    return takes
