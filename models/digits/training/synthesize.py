"""Synthesises spoken digits with espeak-ng and flite: single words, and whole strings of them.

``synthesize(folder)`` fills a folder with 16 kHz wavs, once; the training draws from it.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16000
WORDS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")

ACCENTS = (
    "en-us en-us en-us en-us-nyc en-gb en-gb en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd "
    "en-gb-x-rp en-029"
)
#: espeak-ng variants, several of them made after a person's voice; the robots are left out.
VARIANTS = (
    "adam Alex Alicia Andrea Andy anika Annie antonio aunty belinda benjamin boris david Denis "
    "Diogo ed edward f1 f2 f3 f4 f5 Gene grandma Henrique Hugo iven john klatt klatt2 klatt4 Lee "
    "linda m1 m2 m3 m4 m5 m6 m7 m8 marcelo Marco Mario max Michael michel miguel Mike Nguyen "
    "norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 travis victor zac"
)
FLITE_VOICES = ("kal", "awb", "rms", "slt", "kal16")

NUM_ESPEAK_VOICES = 300
NUM_FLITE_VOICES = 60
NUM_STRINGS = 1600


@dataclass(frozen=True)
class Voice:
    """A synthesiser's voice and the way it speaks."""

    engine: str
    name: str
    pitch: int  # espeak-ng: 0…99; flite: the mean in Hz
    speed: float  # espeak-ng: words a minute; flite: the stretch of every sound

    def speak(self, text: str) -> np.ndarray:
        """The text at 16 kHz, the silence around it cut off."""
        if self.engine == "espeak-ng":
            command = ["espeak-ng", "--stdout", "-v", self.name, "-p", str(self.pitch)]
            command += ["-s", str(round(self.speed)), text]
        else:
            command = ["flite", "-voice", self.name, "--setf", f"duration_stretch={self.speed:.2f}"]
            command += [
                "--setf",
                f"int_f0_target_mean={self.pitch}",
                "-t",
                text,
                "-o",
                "/dev/stdout",
            ]
        return trim(*parse_wav(run(command)))


def run(command: list[str]) -> bytes:
    if shutil.which(command[0]) is None:
        raise SystemExit(
            f"{command[0]} is not installed; the training synthesises part of its speech with it. "
            f"On Debian and Ubuntu: apt-get install {command[0]}"
        )
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode != 0 or len(result.stdout) < 1000:
        raise SystemExit(f"{' '.join(command)} gave no speech: {result.stderr.decode().strip()}")
    return result.stdout


def parse_wav(data: bytes) -> tuple[np.ndarray, int]:
    """Samples in [−1, 1] and their rate, of a 16-bit mono wav.

    Whatever length the header claims: a synthesiser that writes to a pipe cannot know it.
    """
    with wave.open(io.BytesIO(data)) as wav:
        rate = wav.getframerate()
        if wav.getsampwidth() != 2 or wav.getnchannels() != 1:
            raise ValueError("not a 16-bit mono wav")
        raw = wav.readframes(wav.getnframes())
    return np.frombuffer(raw[: len(raw) // 2 * 2], "<i2").astype(np.float32) / 32768, rate


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    return parse_wav(path.read_bytes())


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        wav.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


def resample(samples: np.ndarray, ratio: float) -> np.ndarray:
    """``ratio`` times as many samples, through the spectrum (so without images or aliases)."""
    padded = np.pad(samples, (0, 400))  # the spectrum wraps round: let it wrap into silence
    n_out = max(1, round(len(padded) * ratio))
    spectrum = np.fft.rfft(padded)
    out = np.fft.irfft(spectrum[: n_out // 2 + 1], n_out) * (n_out / len(padded))
    return out[: round(len(samples) * ratio)].astype(np.float32)


def trim(samples: np.ndarray, rate: int) -> np.ndarray:
    """At 16 kHz, without the silence before and after."""
    samples = resample(samples, SAMPLE_RATE / rate)
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    margin = SAMPLE_RATE // 50
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]


def random_voice(rng: np.random.Generator, engine: str) -> Voice:
    if engine == "espeak-ng":
        name = f"{rng.choice(ACCENTS.split())}+{rng.choice(VARIANTS.split())}"
        return Voice(engine, name, int(rng.integers(20, 85)), float(rng.uniform(120, 240)))
    name = str(rng.choice(FLITE_VOICES))
    mean = 180 if name == "slt" else 110
    return Voice(engine, name, int(mean * rng.uniform(0.8, 1.35)), float(rng.uniform(0.75, 1.35)))


def spoken(digits: list[int], rng: np.random.Generator) -> str:
    """The digits as text for a synthesiser; a comma here and there makes it pause."""
    words = [WORDS[d].lower() for d in digits]
    commas = rng.random(len(words)) < rng.choice([0.0, 0.3, 1.0])
    text = [word + "," * comma for word, comma in zip(words, commas.tolist(), strict=True)]
    return " ".join(text).rstrip(",")


def synthesize(folder: Path, seed: int = 1, avoid: frozenset[str] = frozenset()) -> None:
    """Makes ``words/{voice}_{digit}.wav`` and ``strings/{number}_{digits}.wav`` in ``folder``.

    Does nothing where an earlier call has finished. ``avoid`` holds digit strings to leave out.
    """
    done = folder / "done"
    if done.exists():
        return
    rng = np.random.default_rng(seed)
    for name in ("words", "strings"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    jobs: list[tuple[Voice, str, Path]] = []
    engines = ["espeak-ng"] * NUM_ESPEAK_VOICES + ["flite"] * NUM_FLITE_VOICES
    for i, engine in enumerate(engines):
        voice = random_voice(rng, engine)
        for digit, word in enumerate(WORDS):
            jobs.append((voice, word.lower(), folder / "words" / f"{i:04d}_{digit}.wav"))
    for i in range(NUM_STRINGS):
        digits = rng.integers(0, 10, rng.integers(2, 9)).tolist()
        string = "".join(map(str, digits))
        voice = random_voice(rng, "flite" if i % 4 == 0 else "espeak-ng")
        if string not in avoid:
            jobs.append((voice, spoken(digits, rng), folder / "strings" / f"{i:04d}_{string}.wav"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: write_wav(job[2], job[0].speak(job[1])), jobs))
    done.touch()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    synthesize(parser.parse_args().folder)
