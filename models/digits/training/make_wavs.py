"""Makes the wavs that ship with the model, always the same ones.

    python models/digits/training/make_wavs.py models/digits

``test_wavs/`` with their transcripts, and ``calibration_wavs/``, which say other things in other
voices and have none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from synthesize import SAMPLE_RATE, WORDS, Voice, write_wav

#: (digits, voice, what the synthesiser reads between two digits, noise in dB below the speech)
TEST = [
    ("04719", Voice("espeak-ng", "en-us+m3", 45, 150), " ", None),
    ("826", Voice("espeak-ng", "en-gb+f2", 55, 130), ", ", None),
    ("3950172", Voice("espeak-ng", "en-us+Andy", 50, 170), " ", None),
    ("61840", Voice("espeak-ng", "en-gb-scotland+m7", 40, 150), " ", 25),
    ("7703", Voice("espeak-ng", "en-gb+f4", 60, 140), ", ", None),
    ("295864", Voice("espeak-ng", "en-us+klatt2", 35, 165), " ", None),
    ("13579", Voice("flite", "slt", 180, 1.0), ", ", None),
    ("8046", Voice("flite", "rms", 105, 1.1), ", ", 30),
    ("52198037", Voice("flite", "awb", 125, 0.95), " ", None),
    ("9604", Voice("flite", "kal16", 110, 1.15), ", ", None),
    ("357201", Voice("flite", "slt", 200, 1.1), " ", 25),
    ("468", Voice("flite", "rms", 95, 1.2), ", ", None),
]
CALIBRATION = [
    ("05283", Voice("espeak-ng", "en-us+m1", 50, 155), " ", None),
    ("914760", Voice("espeak-ng", "en-gb+f5", 60, 140), ", ", None),
    ("37281946", Voice("espeak-ng", "en-us+david", 40, 165), " ", 30),
    ("6058", Voice("espeak-ng", "en-gb-x-rp+m4", 45, 135), ", ", None),
    ("2471390", Voice("espeak-ng", "en-us-nyc+Alicia", 55, 150), " ", None),
    ("8365", Voice("espeak-ng", "en-gb-scotland+m2", 35, 145), " ", 25),
    ("190427", Voice("flite", "rms", 110, 1.0), ", ", None),
    ("5638072", Voice("flite", "slt", 190, 0.95), " ", None),
    ("74915", Voice("flite", "awb", 120, 1.1), ", ", 30),
    ("280634", Voice("flite", "kal", 105, 1.05), " ", None),
]


def strings() -> frozenset[str]:
    """The digit strings of the test wavs, which the training leaves out."""
    return frozenset(digits for digits, *_ in TEST)


def make(folder: Path, utterances: list[tuple], seed: int, transcripts: bool) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["wav\ttext"]
    for i, (digits, voice, between, noise_db) in enumerate(utterances):
        words = [WORDS[int(d)] for d in digits]
        samples = voice.speak(between.join(words).lower())
        # Half a second of silence to speak with, shared between start and end.
        start = int(rng.uniform(0.2, 0.3) * SAMPLE_RATE)
        samples = np.pad(samples, (start, SAMPLE_RATE // 2 - start))
        if noise_db is not None:
            level = np.sqrt(np.mean(samples**2)) * 10 ** (-noise_db / 20)
            samples = samples + level * rng.standard_normal(len(samples))
        write_wav(folder / f"{i}.wav", 0.5 * samples / np.abs(samples).max())
        lines.append(f"{i}.wav\t{' '.join(words)}")
    if transcripts:
        (folder / "transcripts.tsv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the model's")
    folder = parser.parse_args().folder
    make(folder / "test_wavs", TEST, seed=12, transcripts=True)
    make(folder / "calibration_wavs", CALIBRATION, seed=13, transcripts=False)
