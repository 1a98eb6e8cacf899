"""What a quantized precision costs: its files against the fp32 files, streamed over recordings.

Both run as sherpa-ncnn runs them, segment by segment, each with the states that it carries itself.
Then all joiners walk the same path, the tokens that fp32 finds, so that one differing token does
not make all that follows differ. Each part is swapped in by itself, and then all together.
Besides, the quantized model decodes freely, and its text is compared with fp32's. It does so once
more at ncnn's own options, which sherpa-ncnn leaves as they are, on a few seconds: all the rest is
computed with options that hold nothing in fp16.

Most frames of speech are blank, and a model that says nothing agrees in all of them. So frames are
counted in which fp32 or the other emits a token; those over all frames are for information.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS, Files
from transducer2ncnn.engines import search
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats.sherpa import NEVER_EMITTED
from transducer2ncnn.quantization.noise import Noise
from transducer2ncnn.speech.features import SAMPLE_RATE

#: Seconds of audio that are compared; what comes after that is left out.
SECONDS = 60
#: The same at ncnn's own options.
SECONDS_AS_RUN = 10


class NotFiniteError(UserError):
    """A part's output holds NaN or infinity."""


@dataclass(frozen=True)
class _Recording:
    """What fp32 makes of a recording."""

    name: str
    samples: np.ndarray
    steps: list[search.Step]


@dataclass(frozen=True)
class Compared:
    """Other files than fp32's on the same recordings.

    Attributes:
        figures: what ``compare`` returns.
        texts: the token ids that the other files decode freely, by recording.
    """

    figures: dict[str, Any]
    texts: dict[str, list[int]]


class Reference:
    """The fp32 files' run over recordings, which any number of other files are compared with.

    Args:
        files: param and bin of each part in fp32.
        description: what ``model.inspect`` found.
        recordings: (n,) float32 samples at 16 kHz each, by name.
        seconds: of audio that are compared; what comes after that is left out.

    Raises:
        NotFiniteError: naming part, recording and frame.
        UserError: ncnn cannot run the files.
    """

    def __init__(
        self,
        files: Files,
        description: dict[str, Any],
        recordings: Mapping[str, np.ndarray],
        seconds: int = SECONDS,
    ) -> None:
        self._architecture = described(description)
        self._transducer = NcnnTransducer(files, self._architecture)
        self._recordings: list[_Recording] = []
        left = seconds * SAMPLE_RATE
        for name, recorded in recordings.items():
            samples = recorded[:left]
            left -= len(samples)
            if not len(samples):
                break
            frames = _encode(self._transducer, samples, "fp32", name)
            steps = []
            for t, step in enumerate(search.greedy(self._transducer, frames)):
                _check_finite(step.decoder_out, "decoder", "fp32", name, t)
                _check_finite(step.logits, "joiner", "fp32", name, t)
                steps.append(step)
            self._recordings.append(_Recording(name, samples, steps))
        self._seconds = seconds - left / SAMPLE_RATE

    @property
    def texts(self) -> dict[str, list[int]]:
        """The token ids that fp32 finds, by recording."""
        return {x.name: search.emitted(x.steps) for x in self._recordings}

    def compare(self, files: Files, precision: str = "int8") -> Compared:
        """One precision's files against fp32's.

        Raises:
            NotFiniteError: naming part, recording and frame.
            UserError: ncnn cannot run the files.
        """
        reference, other = self._transducer, NcnnTransducer(files, self._architecture)
        as_run = _AsRun(NcnnTransducer(files, self._architecture, sherpa_options=True))
        found = {name: _Difference() for name in (*PARTS, "all")}
        encoder_out = Noise()
        texts: dict[str, list[int]] = {}
        for recording in self._recordings:
            name = recording.name
            frames = _encode(other, recording.samples, precision, name)
            decoder_outs: dict[tuple[int, ...], np.ndarray] = {}
            for t, (step, frame) in enumerate(zip(recording.steps, frames, strict=True)):
                encoder_out.add(frame, step.frame)
                if step.context not in decoder_outs:
                    decoder_out = other.decode(list(step.context))
                    _check_finite(decoder_out, "decoder", precision, name, t)
                    decoder_outs[step.context] = decoder_out
                decoder_out = decoder_outs[step.context]
                logits = {
                    "encoder": reference.join(frame, step.decoder_out),
                    "decoder": reference.join(step.frame, decoder_out),
                    "joiner": other.join(step.frame, step.decoder_out),
                    "all": other.join(frame, decoder_out),
                }
                for variant, values in logits.items():
                    _check_finite(values, "joiner", precision, name, t)
                    found[variant].add(step.logits, values)
            own = list(search.greedy(other, frames))
            texts[name] = search.emitted(own)
            as_run.add(recording, own, precision)
        expected = self.texts
        tokens = sum(map(len, expected.values()))
        edits = sum(Levenshtein.distance(expected[name], text) for name, text in texts.items())
        figures = {
            "recordings": len(self._recordings),
            "seconds": self._seconds,
            "frames": found["all"].frames,
            "fp32_tokens": tokens,
            "token_edits": edits,
            "token_edit_rate": edits / tokens if tokens else None,
            "encoder_snr_db": encoder_out.snr_db,
            "parts": {part: found[part].summary() for part in PARTS},
            "all": found["all"].summary(),
            "as_run": as_run.summary(),
        }
        return Compared(figures, texts)


def compare(
    fp32: Files,
    files: Files,
    description: dict[str, Any],
    recordings: Mapping[str, np.ndarray],
    precision: str = "int8",
) -> dict[str, Any]:
    """Differences of a quantized precision from fp32.

    Args:
        fp32: the reference.
        files: those delivered in the precision, some of which may be fp16 or fp32.
        description: what ``model.inspect`` found.
        recordings: (n,) float32 samples at 16 kHz each, by name.
        precision: its name, for messages.

    Returns:
        The number of "recordings", the "seconds" of audio and the "frames" compared. Of the texts
        decoded freely: "fp32_tokens", the "token_edits" from there, and these as a share
        ("token_edit_rate", None where fp32 has no token). "as_run", of how many "seconds" the
        precision decodes to how many "tokens", and how many "token_edits" its text at ncnn's own
        options is from there. "encoder_snr_db", the signal-to-noise
        ratio of the encoder's output, None where nothing differs. And for each of the "parts", and
        for "all" of them together, along fp32's path: the number of "emitting_frames", in which
        one of both emits a token, how many of them have another best token ("differing_frames"),
        and the "agreement", the share that has the same, None where there is none; "divergence",
        the mean Kullback-Leibler divergence of the posteriors in these frames, in nats; and over
        all frames "same_best_token", and of the logits "max_difference", "mean_difference" and
        "mean_square", that of the differences.

    Raises:
        NotFiniteError: naming part, recording and frame.
        UserError: ncnn cannot run the files.
    """
    return Reference(fp32, description, recordings).compare(files, precision).figures


def _encode(
    transducer: NcnnTransducer, samples: np.ndarray, precision: str, recording: str
) -> list[np.ndarray]:
    frames = []
    for t, frame in enumerate(search.encoded(transducer, samples)):
        _check_finite(frame, "encoder", precision, recording, t)
        frames.append(frame)
    return frames


def _check_finite(
    values: np.ndarray, part: str, precision: str, recording: str, frame: int
) -> None:
    if not np.isfinite(values).all():
        what = "logits" if part == "joiner" else "an output"
        raise NotFiniteError(
            f"{recording}: at frame {frame} of the encoder's output, the {part} in {precision} "
            f"gives {what} with NaN or infinity. Its weights or scales are damaged, or do not fit "
            "its graph."
        )


class _AsRun:
    """A precision at ncnn's own options, on the first seconds of the recordings."""

    def __init__(self, transducer: NcnnTransducer) -> None:
        self._transducer = transducer
        self._seconds = 0.0
        self._tokens = self._edits = 0

    def add(self, recording: _Recording, steps: Sequence[search.Step], precision: str) -> None:
        """Decode as much of a recording as there are seconds left, and compare.

        Args:
            steps: those of the same precision, computed in fp32.
        """
        seconds = len(recording.samples) / SAMPLE_RATE
        share = min(1.0, max(0.0, SECONDS_AS_RUN - self._seconds) / seconds)
        count = round(share * len(steps))
        if not count:
            return
        # What comes out of the first segments does not depend on what follows.
        frames = itertools.islice(search.encoded(self._transducer, recording.samples), count)
        own = []
        for t, step in enumerate(search.greedy(self._transducer, frames)):
            _check_finite(step.logits, "joiner", precision, recording.name, t)
            own.append(step)
        expected, found = (search.emitted(x) for x in (steps[:count], own))
        self._seconds += share * seconds
        self._tokens += len(expected)
        self._edits += Levenshtein.distance(expected, found)

    def summary(self) -> dict[str, float]:
        return {
            "seconds": self._seconds,
            "tokens": self._tokens,
            "token_edits": self._edits,
        }


class _Difference:
    """The differences of logits along fp32's path, gathered frame by frame."""

    def __init__(self) -> None:
        self.frames = 0
        self._emitting = self._differing = self._same = 0
        self._largest = self._sum = self._squares = self._divergence = 0.0

    def add(self, reference: np.ndarray, logits: np.ndarray) -> None:
        reference, logits = reference.astype(np.float64), logits.astype(np.float64)
        difference = np.abs(logits - reference)
        self.frames += 1
        self._largest = max(self._largest, float(difference.max()))
        self._sum += float(difference.mean())
        self._squares += float(np.mean(difference**2))
        expected, found = int(reference.argmax()), int(logits.argmax())
        self._same += expected == found
        if expected in NEVER_EMITTED and found in NEVER_EMITTED:
            return
        self._emitting += 1
        self._differing += expected != found
        self._divergence += divergence(reference, logits)

    def summary(self) -> dict[str, float | None]:
        emitting = self._emitting
        return {
            "emitting_frames": emitting,
            "differing_frames": self._differing,
            "agreement": 1 - self._differing / emitting if emitting else None,
            "divergence": self._divergence / emitting if emitting else None,
            "same_best_token": self._same / self.frames if self.frames else None,
            "max_difference": self._largest,
            "mean_difference": self._sum / self.frames if self.frames else 0.0,
            "mean_square": self._squares / self.frames if self.frames else 0.0,
        }


def divergence(reference: np.ndarray, logits: np.ndarray) -> float:
    """The Kullback-Leibler divergence of posteriors, in nats, from those of the reference.

    Args:
        reference, logits: (vocab_size,) float64
    """
    expected, found = search.log_softmax(reference), search.log_softmax(logits)
    return float(np.sum(np.exp(expected) * (expected - found)))
