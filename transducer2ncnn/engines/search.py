"""Streaming transducer search with sherpa-ncnn's rules, whatever computes the networks.

The encoder sees a segment at a time and carries its states; the joiner meets each of its frames
with the decoder's output for the tokens before, and at most one token comes out of a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from transducer2ncnn.engines.hotwords import Graph, Hotwords
from transducer2ncnn.families.contract import Architecture
from transducer2ncnn.formats.sherpa import BLANK, NEVER_EMITTED
from transducer2ncnn.speech.features import fbank, silence


class Transducer(Protocol):
    """A model's three networks; arrays are float32, in ncnn's shapes (no batch axis)."""

    architecture: Architecture[Any, Any]

    def encode(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """``architecture.encoder_inputs`` → (T', encoder_dim) frames, and the next states."""

    def decode(self, context: Sequence[int]) -> np.ndarray:
        """The last ``context_size`` token ids → (decoder_dim,)."""

    def join(self, frame: np.ndarray, decoder_out: np.ndarray) -> np.ndarray:
        """(encoder_dim,) and (decoder_dim,) → (vocab_size,) logits."""


@dataclass(frozen=True)
class Decoding:
    """How to search; sherpa-ncnn's names."""

    method: Literal["greedy_search", "modified_beam_search"] = "greedy_search"
    #: Of the beam search. Greedy search follows one path.
    num_active_paths: int = 1
    #: Of the beam search.
    hotwords: Hotwords | None = None
    #: Ids that do not become part of the text. sherpa-ncnn has no others than these.
    never_emitted: tuple[int, ...] = NEVER_EMITTED


GREEDY = Decoding()


@dataclass(frozen=True)
class Step:
    """One frame of a greedy search: what the joiner was given and what it made of it.

    Attributes:
        context: the last ``context_size`` token ids before the frame.
        frame: (encoder_dim,)
        decoder_out: (decoder_dim,), the decoder's output for the context.
        logits: (vocab_size,)
        never_emitted: ids that do not become part of the text.
    """

    context: tuple[int, ...]
    frame: np.ndarray
    decoder_out: np.ndarray
    logits: np.ndarray
    never_emitted: tuple[int, ...] = NEVER_EMITTED

    @property
    def token(self) -> int:
        """The frame's best token."""
        return int(self.logits.argmax())

    @property
    def emits(self) -> bool:
        """Whether the best token becomes part of the text."""
        return self.token not in self.never_emitted


def segments(transducer: Transducer, samples: np.ndarray, at_once: int = 1) -> Iterator[np.ndarray]:
    """The features that the encoder is given at a time, (segment, feature_dim) each.

    Args:
        samples: a recording, (n,) float32 in [−1, 1] at 16 kHz, without the silence behind it.
        at_once: segments that are given as one, longer; only of a network of any length.
    """
    architecture = transducer.architecture
    tail = silence(architecture.tail_seconds)
    features = fbank(np.concatenate([samples, tail]), architecture.sizes.feature_dim)
    # Like sherpa-ncnn, which waits for a frame beyond the segment: of a recording with just
    # enough frames for a last one, it leaves that out.
    starts = range(0, len(features) - architecture.segment, architecture.hop)
    for first in range(0, len(starts), at_once):
        own = starts[first : first + at_once]
        yield features[own[0] : own[-1] + architecture.segment]


def stream(
    transducer: Transducer, samples: np.ndarray, at_once: int = 1
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """The encoder's run over a recording: each segment's inputs, and the (T', encoder_dim) frames
    that come out. The states are carried from one segment to the next.

    Args:
        samples, at_once: as of ``segments``.
    """
    architecture = transducer.architecture
    states = architecture.initial_states()
    for segment in segments(transducer, samples, at_once):
        inputs = architecture.encoder_inputs(segment, states)
        frames, states = transducer.encode(inputs)
        yield inputs, frames


def encoded(transducer: Transducer, samples: np.ndarray, at_once: int = 1) -> Iterator[np.ndarray]:
    """The encoder's output frames for a recording, (encoder_dim,) each, as they come.

    Args:
        samples, at_once: as of ``segments``.
    """
    for _, frames in stream(transducer, samples, at_once):
        yield from frames


def greedy(
    transducer: Transducer,
    frames: Iterable[np.ndarray],
    never_emitted: tuple[int, ...] = NEVER_EMITTED,
) -> Iterator[Step]:
    """The path that takes the best token of each of the encoder's output frames."""
    context = (BLANK,) * transducer.architecture.sizes.context_size
    decoder_out = transducer.decode(list(context))
    for frame in frames:
        logits = transducer.join(frame, decoder_out)
        step = Step(context, frame, decoder_out, logits, never_emitted)
        yield step
        if step.emits:
            context = (*context[1:], step.token)
            decoder_out = transducer.decode(list(context))


def emitted(steps: Iterable[Step]) -> list[int]:
    """The token ids of a greedy search's text."""
    return [step.token for step in steps if step.emits]


def decode(transducer: Transducer, samples: np.ndarray, decoding: Decoding = GREEDY) -> list[int]:
    """Token ids of a recording: (n,) float32 samples in [−1, 1], 16 kHz."""
    frames = encoded(transducer, samples)
    if decoding.method == "greedy_search":
        return emitted(greedy(transducer, frames, decoding.never_emitted))
    paths = _BeamPaths(transducer, decoding)
    for frame in frames:
        paths.advance(frame)
    return paths.best()[transducer.architecture.sizes.context_size :]


class _BeamPaths:
    """The most probable paths; those that hold the same tokens are one, probabilities added.

    sherpa-ncnn ranks the continuations of all paths by their log-probability, in float32, and
    paths by that per token, the blanks that they start with counted. A path that takes a token
    which is never emitted stays as it is, at that token's probability. What hotwords gain is added
    to a path's logarithm once it has been chosen.
    """

    def __init__(self, transducer: Transducer, decoding: Decoding) -> None:
        self._transducer = transducer
        self._num_active_paths = decoding.num_active_paths
        self._never_emitted = decoding.never_emitted
        start = (BLANK,) * transducer.architecture.sizes.context_size
        self._log_probs = {start: 0.0}
        self._graph = None
        if decoding.hotwords:
            self._graph = Graph(decoding.hotwords.ids, decoding.hotwords.score)
            self._states = {start: self._graph.root}
        self._decoder_outs: dict[tuple[int, ...], np.ndarray] = {}

    def advance(self, frame: np.ndarray) -> None:
        paths = sorted(self._log_probs, key=self._rank, reverse=True)
        logits = np.stack([self._transducer.join(frame, self._decoder_out(p)) for p in paths])
        before = np.array([self._log_probs[p] for p in paths], dtype=np.float32)
        log_probs = log_softmax(logits) + before[:, None]
        best = np.argsort(-log_probs, axis=None, kind="stable")[: self._num_active_paths]
        self._log_probs = {}
        for row, token in zip(*np.unravel_index(best, log_probs.shape), strict=True):
            path, log_prob = paths[row], float(log_probs[row, token])
            if token not in self._never_emitted:
                path = (*path, int(token))
                log_prob += self._gain(paths[row], path)
            if path in self._log_probs:
                log_prob = float(np.logaddexp(self._log_probs[path], log_prob))
            self._log_probs[path] = log_prob

    def best(self) -> list[int]:
        best = max(self._log_probs, key=self._rank)
        return list(best)

    def _gain(self, before: tuple[int, ...], path: tuple[int, ...]) -> float:
        """What hotwords add to a path that goes on by a token."""
        if self._graph is None:
            return 0.0
        gain, self._states[path] = self._graph.step(self._states[before], path[-1])
        return gain

    def _rank(self, path: tuple[int, ...]) -> float:
        return self._log_probs[path] / len(path)

    def _decoder_out(self, path: tuple[int, ...]) -> np.ndarray:
        context = path[-self._transducer.architecture.sizes.context_size :]
        if context not in self._decoder_outs:
            self._decoder_outs[context] = self._transducer.decode(list(context))
        return self._decoder_outs[context]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the posteriors, over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
