"""Training data: words joined into utterances, spoiled in many ways, as log-mel features.

Two stages. ``make_pool`` works on the sound (speed, rooms, noise, telephone bands) and is slow,
so it fills a pool once, before the training. ``distort`` works on the features (a longer or
shorter vocal tract, tempo, equalisers, masks); it is fast, and every time an utterance is drawn
from the pool it comes out different.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import fsdd
import numpy as np
import torch
from synthesize import SAMPLE_RATE, read_wav, resample

from transducer2ncnn.speech.features import FEATURE_DIM, fbank

#: The log energy of digital silence in a feature: the least there can be.
FLOOR = float(np.log(np.finfo(np.float32).eps))
#: Log energy for a decibel.
DB = np.log(10) / 10


@dataclass
class Speech:
    """What utterances are made of."""

    real: list[fsdd.Takes]  # a speaker each, 8 kHz
    synthetic: list[fsdd.Takes]  # a voice each, 16 kHz
    strings: list[tuple[np.ndarray, list[int]]]  # whole synthesised utterances, 16 kHz


@dataclass
class Utterance:
    features: np.ndarray  # (T, 80) float16
    digits: list[int]


def load_speech(folder: Path, synthetic: Path, leave_out: list[str]) -> Speech:
    speakers = [speaker for speaker in fsdd.SPEAKERS if speaker not in leave_out]
    real = list(fsdd.load(folder, test=False, speakers=speakers).values())
    voices: dict[str, fsdd.Takes] = {}
    for path in sorted((synthetic / "words").glob("*.wav")):
        voice, digit = path.stem.split("_")
        voices.setdefault(voice, [[] for _ in range(10)])[int(digit)].append(read_wav(path)[0])
    strings = []
    for path in sorted((synthetic / "strings").glob("*.wav")):
        strings.append((read_wav(path)[0], [int(d) for d in path.stem.split("_")[1]]))
    return Speech(real, list(voices.values()), strings)


# The pool: sound.


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x * x))) + 1e-7


def chance(rng: np.random.Generator, p: float) -> bool:
    return bool(rng.random() < p)


def at_speed(x: np.ndarray, rate: int, speed: float, linear: bool) -> np.ndarray:
    """At 16 kHz and ``speed`` times as fast and as high.

    Linear interpolation leaves images above the old band, as careless resamplers do.
    """
    ratio = SAMPLE_RATE / rate / speed
    if not linear:
        return resample(x, ratio)
    n = round(len(x) * ratio)
    return np.interp(np.arange(n) / ratio, np.arange(len(x)), x).astype(np.float32)


def fft_size(n: int) -> int:
    """At least n, and quick to transform."""
    return -(-n // 512) * 512


def noise(rng: np.random.Generator, n: int) -> np.ndarray:
    """n samples of noise of a random colour, its RMS 1."""
    size = fft_size(n)
    bins = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    gain = np.maximum(bins, 30.0) ** -rng.uniform(0, 1.2)
    if chance(rng, 0.3):  # a band of it stands out, a motor or a fan
        centre, width = rng.uniform(100, 4000), rng.uniform(50, 800)
        gain = gain * (1 + rng.uniform(1, 15) * np.exp(-(((bins - centre) / width) ** 2)))
    spectrum = gain * (rng.standard_normal(len(bins)) + 1j * rng.standard_normal(len(bins)))
    x = np.fft.irfft(spectrum, size)[:n]
    return (x / rms(x)).astype(np.float32)


def room(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """As if heard in a small room: some early echoes and an exponential tail."""
    n = int(SAMPLE_RATE * rng.uniform(0.1, 0.5))
    t = np.arange(n) / n
    echoes = rng.standard_normal(n) * np.exp(-6.9 * t) * (rng.random(n) < 0.05 + t)
    echoes *= rng.uniform(0.2, 0.9) / np.sqrt(np.sum(echoes**2))
    echoes[0] = 1.0
    size = fft_size(len(x) + n)
    return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(echoes, size), size)[: len(x)]


def equalise(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """A random smooth frequency response, with perhaps the ends of the band cut off."""
    size = fft_size(len(x) + 2000)
    bins = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    points = np.array([50, 150, 400, 1000, 2000, 3200, 5000, 8000])
    db = np.cumsum(rng.normal(0, 3, len(points)))
    db = np.interp(np.log(bins + 20), np.log(points), db - db.mean())
    if chance(rng, 0.4):  # a small loudspeaker, a telephone
        db -= 12 * np.log2(np.maximum(1, rng.uniform(100, 400) / (bins + 10))) * rng.uniform(0.5, 2)
    if chance(rng, 0.3):
        db -= 60 * np.log2(np.maximum(1, bins / rng.uniform(2800, 7000)))
    return np.fft.irfft(np.fft.rfft(x, size) * 10 ** (db / 20), size)[: len(x)]


def mu_law(x: np.ndarray) -> np.ndarray:
    y = np.sign(x) * np.log1p(255 * np.abs(np.clip(x, -1, 1))) / np.log(256)
    y = np.round(y * 127) / 127
    return np.sign(y) * (256 ** np.abs(y) - 1) / 255


def join(rng: np.random.Generator, speech: Speech, strings: float) -> tuple[np.ndarray, list[int]]:
    """Words of one voice or several with pauses; or, with that chance, a whole synthesised
    string."""
    linear = chance(rng, 0.25)
    speed = float(np.exp(rng.uniform(np.log(0.8), np.log(1.25)))) if chance(rng, 0.8) else 1.0
    if chance(rng, strings):
        samples, digits = speech.strings[rng.integers(len(speech.strings))]
        words, digits = [at_speed(samples, SAMPLE_RATE, speed, False)], list(digits)
    else:
        n = int(rng.choice(10, p=[0.02, 0.09, 0.11, 0.14, 0.16, 0.15, 0.13, 0.1, 0.06, 0.04]))
        digits = rng.integers(0, 10, n).tolist()
        synthetic = chance(rng, 0.22)
        kinds = (speech.synthetic, SAMPLE_RATE), (speech.real, fsdd.RATE)
        mixed, level_words = chance(rng, 0.35), chance(rng, 0.5)
        voices, rate = kinds[0] if synthetic else kinds[1]
        voice = voices[rng.integers(len(voices))]
        words = []
        for digit in digits:
            if mixed:
                voices, rate = kinds[0] if chance(rng, 0.25) else kinds[1]
                voice = voices[rng.integers(len(voices))]
                if chance(rng, 0.5):
                    speed = float(np.exp(rng.uniform(np.log(0.8), np.log(1.25))))
            word = voice[digit][rng.integers(len(voice[digit]))]
            word = at_speed(word, rate, speed * rng.uniform(0.95, 1.05), linear)
            if mixed and level_words:
                word = word * (0.1 / rms(word))
            words.append(word * 10 ** (rng.normal(0, 2) / 20))
    level = rms(np.concatenate(words)) if words else 0.1
    background = level * 10 ** (-rng.uniform(20, 60) / 20) if chance(rng, 0.5) else 0.0
    longest = rng.choice([0.1, 0.4, 0.8], p=[0.25, 0.5, 0.25])

    def pause(low: float, high: float) -> np.ndarray:
        length = int(rng.uniform(low, high) * SAMPLE_RATE)
        return (background * rng.standard_normal(length)).astype(np.float32)

    parts = [pause(0, 0.8)]
    for i, word in enumerate(words):
        parts += [word] if i == 0 else [pause(0, longest), word]
    # The last word needs some time after it, to be recognised in.
    parts.append(pause(0.3, 1.0) if words else pause(0.5, 3.0))
    return np.concatenate(parts), digits


def spoil(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    if chance(rng, 0.3):
        x = room(rng, x)
    if chance(rng, 0.5):
        x = equalise(rng, x)
    level = rms(x)
    if chance(rng, 0.5):
        x = x + level * 10 ** (-rng.uniform(5, 40) / 20) * noise(rng, len(x))
    peak = float(np.abs(x).max()) + 1e-7
    if chance(rng, 0.06):
        x = np.clip(x, -peak * rng.uniform(0.2, 0.7), peak * rng.uniform(0.2, 0.7))
    if chance(rng, 0.75):  # the peak anywhere from faint to full
        x = x / peak * 10 ** (rng.uniform(-32, 0) / 20)
    if chance(rng, 0.08):
        x = mu_law(x)
    return np.round(np.clip(x, -1, 1) * 32767) / 32768  # 16 bits


_speech: Speech
_strings: float


def _start(speech: Speech, strings: float) -> None:
    global _speech, _strings
    _speech, _strings = speech, strings
    torch.set_num_threads(1)


def _utterances(seeds: list[tuple[int, int]]) -> list[Utterance]:
    out = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        samples, digits = join(rng, _speech, _strings)
        features = fbank(spoil(rng, samples).astype(np.float32))
        out.append(Utterance(features.astype(np.float16), digits))
    return out


def make_pool(speech: Speech, count: int, seed: int, strings: float) -> list[Utterance]:
    """Utterances, of which a share of ``strings`` is synthesised in one go."""
    seeds = [(seed, i) for i in range(count)]
    chunks = [seeds[i : i + 200] for i in range(0, count, 200)]
    with ProcessPoolExecutor(
        os.cpu_count(), get_context("fork"), _start, (speech, strings)
    ) as processes:
        return [u for chunk in processes.map(_utterances, chunks) for u in chunk]


# The batches: features.

#: Centre frequency of every mel bin, in Hz, and the bins of an equaliser's points.
_MEL = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(7600 / 700), FEATURE_DIM + 2)[1:-1]
HZ = 700 * np.expm1(_MEL / 1127)


def distort(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Another tempo, vocal tract, microphone and noise; holes in time and frequency."""
    # Where each new frame and bin comes from, in the old ones.
    tempo = rng.uniform(0.82, 1.2) if chance(rng, 0.6) else 1.0
    rows = np.arange(0, len(x) - 1, tempo)
    warp = float(np.exp(rng.uniform(np.log(0.82), np.log(1.22)))) if chance(rng, 0.7) else 1.0
    columns = np.interp(HZ * warp, HZ, np.arange(FEATURE_DIM))
    i, j = rows.astype(int), np.minimum(columns.astype(int), FEATURE_DIM - 2)
    a, b = (rows - i)[:, None].astype(np.float32), (columns - j).astype(np.float32)
    x = x.astype(np.float32)
    if tempo != 1.0:
        x = x[i] * (1 - a) + x[i + 1] * a
    x = x[:, j] * (1 - b) + x[:, j + 1] * b

    if chance(rng, 0.6):  # gain and frequency response
        points = np.cumsum(rng.normal(0, 2.0, 8))
        db = np.interp(
            np.arange(FEATURE_DIM), np.linspace(0, FEATURE_DIM - 1, 8), points - points.mean()
        )
        x = x + (DB * (db + rng.normal(0, 4))).astype(np.float32)
    if chance(rng, 0.2):  # little or nothing above the telephone's band
        top = np.clip((HZ - rng.uniform(3300, 5000)) / 300, 0, 1)
        x = x - (rng.choice([3.0, 6.0, 16.0]) * top).astype(np.float32)
    if chance(rng, 0.3):  # a steady hiss under it
        loud = np.percentile(x.mean(axis=1), 90)
        hiss = loud - rng.uniform(1.0, 8.0) + np.cumsum(rng.normal(0, 0.3, FEATURE_DIM))
        flicker = np.log(rng.gamma(3.0, 1 / 3.0, x.shape) + 1e-3)
        x = np.logaddexp(x, (hiss + flicker).astype(np.float32))
    x = np.maximum(x, FLOOR)

    fill = x.mean() if chance(rng, 0.5) else FLOOR
    for _ in range(rng.integers(0, 3)):
        start, width = rng.integers(0, FEATURE_DIM - 12), rng.integers(1, 13)
        x[:, start : start + width] = fill
    for _ in range(rng.integers(0, 1 + len(x) // 100)):
        start, width = rng.integers(0, len(x)), rng.integers(1, 9)
        x[start : start + width] = fill
    return x


def batches(
    pool: list[Utterance], frames: int, rng: np.random.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[list[int]]]]:
    """Yields, without end, (N, T, 80) features, (N,) lengths and the digits; N·T ≤ ``frames``.

    Utterances of like lengths go together; an epoch's batches come in random order.
    """
    while True:
        lengths = np.array([len(u.features) for u in pool]) * rng.uniform(0.9, 1.1, len(pool))
        groups: list[list[int]] = [[]]
        for k in np.argsort(lengths):
            if (len(groups[-1]) + 1) * len(pool[k].features) * 1.25 > frames:
                groups.append([])
            groups[-1].append(int(k))
        for g in rng.permutation(len(groups)):
            features = [distort(rng, pool[k].features) for k in groups[g]]
            x = np.full((len(features), max(map(len, features)), FEATURE_DIM), FLOOR, np.float32)
            for row, f in zip(x, features, strict=True):
                row[: len(f)] = f
            sizes = torch.tensor([len(f) for f in features])
            yield torch.from_numpy(x), sizes, [pool[k].digits for k in groups[g]]
