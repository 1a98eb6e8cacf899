"""Connected digits made of real recordings that the training left out: the evaluation set.

Three to eight words with pauses between them, of one speaker or of several, the pauses digital
silence or low noise. Levels are left as recorded. The same folder gives the same utterances
every time. To look at them as files:

    python models/digits/training/test_set.py --fsdd DIR OUT
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import fsdd
import numpy as np
from synthesize import SAMPLE_RATE, WORDS, resample, write_wav


def connected_digits(
    folder: Path, count: int = 240, speaker: str | None = None, seed: int = 2024
) -> Iterator[tuple[str, np.ndarray, str]]:
    """Yields (id, samples, text): float32 at 16 kHz, upper-case words.

    Args:
        folder: of the Free Spoken Digit Dataset.
        count: how many utterances.
        speaker: only this one, with all his takes: for a model that was not trained on him. Without
            it, the speakers of the training, with the test takes alone.
        seed: of the choice of words, recordings and pauses.
    """
    if speaker is None:
        takes = fsdd.load(folder, test=True)
    else:
        takes = fsdd.load(folder, test=None, speakers=[speaker])
    speakers = sorted(takes)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        mixed, noisy = i % 2 == 1, i // 2 % 2 == 1
        one = str(rng.choice(speakers))
        digits = rng.integers(0, 10, rng.integers(3, 9)).tolist()
        words = []
        for digit in digits:
            recordings = takes[str(rng.choice(speakers)) if mixed else one][digit]
            words.append(
                resample(recordings[rng.integers(len(recordings))], SAMPLE_RATE / fsdd.RATE)
            )
        level = np.sqrt(np.mean(np.concatenate(words) ** 2)) * 10 ** (-rng.uniform(30, 50) / 20)

        def pause(low: float, high: float, level: float = level if noisy else 0.0) -> np.ndarray:
            length = int(rng.uniform(low, high) * SAMPLE_RATE)  # noqa: B023 - called in this turn
            return (level * rng.standard_normal(length)).astype(np.float32)  # noqa: B023

        parts = [pause(0.1, 0.5)]
        for word in words:
            parts += [word, pause(0.03, 0.6)]
        samples = np.concatenate(parts)
        kind = f"{'mixed' if mixed else one}-{'noise' if noisy else 'zeros'}"
        yield f"{i:04d}-{kind}", samples, " ".join(WORDS[d] for d in digits)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fsdd", type=Path, required=True)
    parser.add_argument("--speaker", help="only this speaker, with all takes")
    parser.add_argument("out", type=Path, help="folder for the wavs and transcripts.tsv")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines = ["wav\ttext"]
    for name, samples, text in connected_digits(args.fsdd, speaker=args.speaker):
        write_wav(args.out / f"{name}.wav", samples)
        lines.append(f"{name}.wav\t{text}")
    (args.out / "transcripts.tsv").write_text("\n".join(lines) + "\n")
