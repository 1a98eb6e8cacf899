"""A folder run by the real sherpa-ncnn before it is called ready.

sherpa-ncnn takes much on trust: the metadata's numbers, the names of states, the table of tokens.
Where one is wrong it crashes, or runs and recognises something else. So the folder is run twice, on
audio of the project's own:

- as it is, which it has to survive;
- with its joiner replaced by one that names every frame: a random projection of the encoder's
  output, whose largest value is never the blank's. The tokens are then what sherpa-ncnn made of the
  encoder, frame by frame, however little the model has to say about noise. They must be those of
  plain ncnn, whose files the verification has compared with PyTorch, given segments and states as
  the family states them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base import isolated
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import Files, delivered_files
from transducer2ncnn.engines import recognizer, search
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.families.contract import FRAME_SECONDS, Architecture
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import tokens as tokens_file
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.formats.param import Param, parse_layer
from transducer2ncnn.formats.sherpa import BLANK, NEVER_EMITTED
from transducer2ncnn.formats.weights import Block
from transducer2ncnn.speech.features import SAMPLE_RATE
from transducer2ncnn.speech.synthetic import bursts

#: Seconds of audio, at least, and segments. What is wrong with segments or states shows from the
#: second on.
SECONDS, SEGMENTS = 1.0, 6
#: Of it, those that the folder is run on as it is.
AS_IT_IS_SECONDS = 0.5
#: Tokens that the projection tells apart, at most. Of few, the best is further above the others.
NAMES = 16
#: A frame counts whose best value is above the second by this share of its own magnitude: the two
#: sides round differently, sherpa-ncnn with some weights in fp16.
MARGIN = 0.1
#: What no token that must not be emitted can reach.
NEVER = -1e4


def rehearse(folder: Path, files: Files, description: dict[str, Any]) -> None:
    """Run a folder by sherpa-ncnn, and compare with plain ncnn.

    Args:
        folder: a delivered model: six model files and tokens.txt.
        files: the plain ncnn files that it was made of.
        description: what ``model.inspect`` found.

    Raises:
        UserError: sherpa-ncnn or ncnn cannot run the model, or they do not agree.
    """
    architecture = described(description)
    sizes = architecture.sizes
    tokens_file.read(folder / "tokens.txt", sizes.vocab_size)
    seconds = max(SECONDS, SEGMENTS * architecture.hop * FRAME_SECONDS)
    samples = bursts(np.random.default_rng(0), round(seconds * SAMPLE_RATE))
    encoder = files["encoder"][0]
    try:
        frames = isolated.call(_encode, files, description, samples)
    except isolated.IsolatedError as e:
        raise UserError(f"{encoder}: plain ncnn cannot run it: {e}") from None
    weight, bias = _names(frames, sizes.vocab_size)
    logits = frames @ weight.T + bias
    expected = logits.argmax(axis=1)
    second, best = np.sort(logits, axis=1)[:, -2:].T
    clear = best - second > MARGIN * np.abs(best)
    if not clear.any():
        raise UserError(
            f"{encoder}: gives the same output for every frame of noise, or values that are not "
            "finite. Check that the checkpoint is a trained model."
        )
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as temporary:
        named = Path(temporary, "named")
        _with_joiner(folder, named, weight, bias)
        try:
            heard = isolated.call(_recognise, folder, named, samples, architecture.tail_seconds)
        except isolated.IsolatedError as e:
            raise UserError(f"sherpa-ncnn cannot run it: {e}") from None
    if len(heard) != len(expected):
        raise UserError(
            f"sherpa-ncnn makes {len(heard)} output frames of {seconds:g} s of audio, and plain "
            f"ncnn {len(expected)} with {encoder}. {_ADVICE}"
        )
    differ = np.flatnonzero(clear & (np.array(heard) != expected))
    if len(differ):
        raise UserError(
            f"In sherpa-ncnn the encoder computes something else than {encoder} in plain ncnn: of "
            f"{clear.sum()} output frames that are clear, {len(differ)} differ, number "
            f"{differ[0] + 1} first. {_ADVICE}"
        )


_ADVICE = "The sizes, segments or states that its metadata states are not those of the graph."


def _names(frames: np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """A linear layer that gives frames tokens: (vocab_size, encoder_dim) and (vocab_size,).

    Args:
        frames: (T, encoder_dim), what the encoder makes of the audio. What they have in common is
            taken away, or most would get the same token.
    """
    rng = np.random.default_rng(1)
    tokens = [token for token in range(vocab_size) if token not in NEVER_EMITTED]
    names = rng.permutation(tokens)[:NAMES]
    weight = np.zeros((vocab_size, frames.shape[1]), dtype=np.float32)
    weight[names] = rng.standard_normal((len(names), frames.shape[1]), dtype=np.float32)
    bias = np.full(vocab_size, NEVER, dtype=np.float32)
    bias[names] = -weight[names] @ frames.mean(axis=0)
    return weight, bias


def _with_joiner(folder: Path, named: Path, weight: np.ndarray, bias: np.ndarray) -> None:
    """The model in ``folder`` with a joiner that names frames, in the folder ``named``."""
    named.mkdir()
    joiner = delivered_files(folder)["joiner"]
    for file in folder.iterdir():
        if file not in joiner:
            (named / file.name).symlink_to(file.resolve())
    layers = (
        "Input in0 0 1 in0",
        "Input in1 0 1 in1",
        f"InnerProduct name 1 1 in0 out0 0={len(bias)} 1=1 2={weight.size}",
    )
    param, bin_ = (named / file.name for file in joiner)
    param_file.write(param, Param(tuple(map(parse_layer, layers)), 3))
    blocks = [Block.tagged("weight", weight.reshape(-1)), Block.bare("bias", bias)]
    weights_file.write(bin_, [[], [], blocks])


def _encode(files: Files, description: dict[str, Any], samples: np.ndarray) -> np.ndarray:
    """(T, encoder_dim): what plain ncnn's encoder gives, segment by segment."""
    print(f"ncnn runs {files['encoder'][0]}", file=sys.stderr, flush=True)
    transducer = _Frames(files, described(description))
    search.decode(transducer, samples)
    return np.stack(transducer.frames)


class _Frames(NcnnTransducer):
    """An exported model that says nothing, and keeps the frames that its joiner is given."""

    def __init__(self, files: Files, architecture: Architecture[Any, Any]) -> None:
        super().__init__(files, architecture)
        self.frames: list[np.ndarray] = []
        self._logits = np.eye(1, architecture.sizes.vocab_size, k=BLANK, dtype=np.float32)[0]

    def encode(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        try:
            frames, states = super().encode(inputs)
        except ValueError as e:
            raise UserError(f"the graph's states are not of the sizes in model.json ({e}).") from e
        dim = self.architecture.sizes.encoder_dim
        if frames.shape[-1] != dim:
            raise UserError(
                f"the encoder's output is {frames.shape[-1]} wide, and {dim} by the sizes in "
                "model.json."
            )
        return frames, states

    def join(self, frame: np.ndarray, decoder_out: np.ndarray) -> np.ndarray:
        self.frames.append(frame)
        return self._logits


def _recognise(folder: Path, named: Path, samples: np.ndarray, tail_seconds: float) -> list[int]:
    """Run both models by sherpa-ncnn; the tokens of the second."""
    # Both have the same encoder, which all of the audio is for.
    beginning = samples[: round(AS_IT_IS_SECONDS * SAMPLE_RATE)]
    for model, audio in ((folder, beginning), (named, samples)):
        print(f"sherpa-ncnn loads {model}", file=sys.stderr, flush=True)
        loaded = recognizer.load(model, threads=1)
        seconds = len(audio) / SAMPLE_RATE
        print(f"sherpa-ncnn decodes {seconds:g} s of noise", file=sys.stderr, flush=True)
        tokens, _ = recognizer.decode(loaded, audio, tail_seconds)
        del loaded  # before the next is loaded: each is as large as the model
    return tokens
