"""The real sherpa-ncnn.

On a bad model it ends the process, so all of this is to be called in one of its own (``isolated``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import delivered_files
from transducer2ncnn.engines.search import GREEDY, Decoding
from transducer2ncnn.speech.features import SAMPLE_RATE, silence

if TYPE_CHECKING:
    import sherpa_ncnn


def load(folder: str | Path, threads: int, decoding: Decoding = GREEDY) -> sherpa_ncnn.Recognizer:
    """sherpa-ncnn with the model in a folder: six model files and tokens.txt."""
    import sherpa_ncnn

    files = {
        f"{part}_{kind}": str(path)
        for part, pair in delivered_files(folder).items()
        for kind, path in zip(("param", "bin"), pair, strict=True)
    }
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as temporary:
        hotwords = {}
        if decoding.hotwords:
            path = Path(temporary, "hotwords.txt")
            path.write_text(decoding.hotwords.text(), encoding="utf-8")
            score = decoding.hotwords.score
            hotwords = {"hotwords_file": str(path), "hotwords_score": score}
        return sherpa_ncnn.Recognizer(
            tokens=str(Path(folder, "tokens.txt")),
            num_threads=threads,
            decoding_method=decoding.method,
            num_active_paths=decoding.num_active_paths,
            **hotwords,
            **files,
        )


def start(recognizer: sherpa_ncnn.Recognizer) -> None:
    """Forget what was heard: the next samples are a new recording's."""
    recognizer.stream = recognizer.recognizer.create_stream()


def decode(
    recognizer: sherpa_ncnn.Recognizer, samples: np.ndarray, tail_seconds: float
) -> tuple[list[int], str]:
    """Token ids and text of one recording.

    Args:
        samples: (n,) float32 in [−1, 1] at 16 kHz.
        tail_seconds: silence to put behind it, as the model's architecture has it.

    Raises:
        UserError: the model's tokens.txt lacks a token that was recognised.
    """
    start(recognizer)
    recognizer.accept_waveform(SAMPLE_RATE, samples)
    recognizer.accept_waveform(SAMPLE_RATE, silence(tail_seconds))
    recognizer.input_finished()
    try:
        return recognizer.tokens, recognizer.text.strip()
    except IndexError:
        raise UserError(
            "the tokens.txt beside the model lacks a token that sherpa-ncnn recognised. It is cut "
            "off, or another model's: make the folder again."
        ) from None
