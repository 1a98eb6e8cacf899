"""PyTorch's side of the verification: inputs, blobs in the middle, and outputs."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from transducer2ncnn.base.files import replacing
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.engines.pytorch import run_encoder
from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.formats.layers import BY_MODULE
from transducer2ncnn.speech.features import SAMPLE_RATE, fbank
from transducer2ncnn.speech.synthetic import bursts
from transducer2ncnn.verification import conditioning, digests, proof
from transducer2ncnn.verification.parity import Arrays, error_of

#: Single runs from random states, of a network that takes one length alone.
NUM_RANDOM = 3

#: Pairs of inputs that the decoder and the joiner are compared on.
NUM_SAMPLES = 50

#: What is given each array, by its key.
_See = Callable[[str, np.ndarray], None]


def make(model: Transducer, lengths: Sequence[int], segments: int) -> Arrays:
    """PyTorch's inputs, blobs and outputs for every case, on speech-like features; and digests of
    its weights.

    Args:
        model: used up, for its encoder's weights are moved where they are: a second encoder may not
            fit into the memory. What needs the model later has to keep a copy.
        lengths: numbers of frames of the single runs, of which a network that cannot be cut
            anywhere takes its own alone. That is run on random states besides.
        segments: number of segments of the streaming run.
    """
    architecture = model.architecture
    lengths = architecture.lengths(lengths)
    sizes = architecture.sizes
    rng = np.random.default_rng(0)
    stream_frames = architecture.segment + (segments - 1) * architecture.hop
    features = synthetic_features(rng, max([stream_frames, *lengths]), sizes.feature_dim)
    # The streaming run comes first: the states it ends with are the single runs' initial ones.
    arrays: Arrays = {}
    _stream(model, features, segments, arrays.__setitem__)
    last = f"encoder/streaming/{segments - 1}"
    states = architecture.carried(
        [arrays[f"{last}/out{j}"] for j in range(len(architecture.batch_axes()))]
    )
    runs = {f"{frames} frames": (features[:frames], states) for frames in lengths}
    if not architecture.any_length:
        for i in range(NUM_RANDOM):
            at = rng.integers(len(features) - architecture.segment + 1)
            segment = features[at : at + architecture.segment]
            runs[f"random states {i}"] = (segment, architecture.random_states(rng))
    inputs = {
        f"encoder/{name}": architecture.encoder_inputs(stretch, before)
        for name, (stretch, before) in runs.items()
    }
    arrays |= {f"{case}/in{i}": a for case, given in inputs.items() for i, a in enumerate(given)}
    _run_once_each(model, inputs, arrays.__setitem__)
    arrays["encoder/streaming/features"] = features[:stream_frames]

    contexts = rng.integers(0, sizes.vocab_size, (NUM_SAMPLES, sizes.context_size))
    contexts[0] = 0  # what every utterance starts with
    embeddings = rng.standard_normal((NUM_SAMPLES, sizes.encoder_dim), dtype=np.float32)
    for i, (context, embedding) in enumerate(zip(contexts, embeddings, strict=True)):
        arrays[f"decoder/sample {i}/in0"] = context.astype(np.int32)
        with _probes(model.decoder, f"decoder/sample {i}", arrays.__setitem__):
            decoder_out = model.decoder(torch.from_numpy(context[None]))
        arrays[f"decoder/sample {i}/out0"] = decoder_out.numpy()
        arrays[f"joiner/sample {i}/in0"] = embedding
        arrays[f"joiner/sample {i}/in1"] = decoder_out.numpy()[0, 0]
        with _probes(model.joiner, f"joiner/sample {i}", arrays.__setitem__):
            logits = model.joiner(torch.from_numpy(embedding), decoder_out[0, 0])
        arrays[f"joiner/sample {i}/out0"] = logits.numpy()
    arrays |= digest_weights(model)
    # Last of all, for the weights are others then.
    moved = {
        stored: _effects(model, arrays, features, segments, inputs)
        for stored in _move(model.encoder)
    }
    del model.encoder
    return arrays | conditioning.to_arrays(moved)


def _effects(
    model: Transducer,
    arrays: Arrays,
    features: np.ndarray,
    segments: int,
    inputs: Mapping[str, Sequence[np.ndarray]],
) -> dict[str, float]:
    """How far the encoder, its weights moved, is off each of its blobs in the reference, by key.

    Args:
        inputs: of the single runs, by case.
    """
    found: dict[str, float] = {}

    def compare(key: str, array: np.ndarray) -> None:
        found[key] = error_of(array, arrays[key])

    if not model.architecture.any_length:
        _stream(model, features, segments, compare)
        _run_once_each(model, inputs, compare)
        return found
    # Wherever it is cut, it computes the same: what the longest run shows of a blob is taken for
    # all. The others are its beginnings, and the stream takes several times as long.
    longest = max(inputs, key=lambda case: len(inputs[case][0]))
    _run_once_each(model, {longest: inputs[longest]}, compare)
    of_place = {key.removeprefix(f"{longest}/"): error for key, error in found.items()}
    cases = [*inputs, *(f"encoder/streaming/{i}" for i in range(segments))]
    return {
        f"{case}/{place}": error
        for case in cases
        for place, error in of_place.items()
        if f"{case}/{place}" in arrays
    }


def _stream(model: Transducer, features: np.ndarray, segments: int, see: _See) -> None:
    """Run the encoder segment after segment; ``see`` is given its outputs."""
    architecture = model.architecture
    states = architecture.initial_states()
    for i in range(segments):
        segment = features[i * architecture.hop :][: architecture.segment]
        outputs = run_encoder(model, architecture.encoder_inputs(segment, states))
        states = architecture.carried(outputs)
        for j, output in enumerate(outputs):
            see(f"encoder/streaming/{i}/out{j}", output)


def _run_once_each(
    model: Transducer, inputs: Mapping[str, Sequence[np.ndarray]], see: _See
) -> None:
    """Run the encoder on each case's inputs; ``see`` is given blobs in the middle, and outputs."""
    for case, given in inputs.items():
        with _probes(model.encoder, case, see):
            outputs = run_encoder(model, given)
        for i, output in enumerate(outputs):
            see(f"{case}/out{i}", output)


def _move(network: nn.Module) -> Iterator[str]:
    """Move a network's weights in place: first as far as rounding moves what is stored in fp32, up
    or down at random, and then to what fp16 holds. Yields what they were moved as far as."""
    weights = [x for x in network.state_dict().values() if x.is_floating_point()]
    generator = torch.Generator().manual_seed(0)
    # Enough for the largest, and the same for all: random numbers take longer than all the rest.
    count = max(x.numel() for x in weights)
    up = torch.randint(0, 2, (count,), generator=generator, dtype=torch.bool)
    by = conditioning.MOVES["fp32"]
    factors = torch.where(up, 1 + by, 1 - by)
    for weight in weights:
        weight.mul_(factors[: weight.numel()].view(weight.shape))
    yield "fp32"
    for weight in weights:
        # What fp16 cannot hold is refused elsewhere, and says nothing of rounding.
        weight.copy_(weight.clamp(-65504, 65504).half())
    yield "fp16"


def digest_weights(model: Transducer) -> Arrays:
    """What the weights of each part are to be, for ``proof``."""
    arrays: Arrays = {}
    for part in PARTS:
        expected = digests.make(model.part(part), _run_once(model, part))
        arrays |= proof.to_arrays(part, expected)
    return arrays


def _run_once(model: Transducer, part: str) -> Callable[[int], None]:
    """Runs one part on one segment; nothing of what goes in is the same for any two numbers."""
    architecture = model.architecture
    sizes = architecture.sizes

    def run(number: int) -> None:
        rng = np.random.default_rng(number)

        def normal(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape, dtype=np.float32)

        if part == "encoder":
            states = [normal(*state.shape) for state in architecture.initial_states()]
            features = normal(architecture.segment, sizes.feature_dim)
            run_encoder(model, architecture.encoder_inputs(features, states))
        elif part == "decoder":
            first = number * sizes.context_size
            model.decoder(torch.arange(first, first + sizes.context_size)[None])
        else:
            embeddings = (normal(dim) for dim in (sizes.encoder_dim, sizes.decoder_dim))
            model.joiner(*(torch.from_numpy(x) for x in embeddings))

    return run


def synthetic_features(rng: np.random.Generator, frames: int, feature_dim: int) -> np.ndarray:
    """(frames, feature_dim) features of bursts of coloured noise between near-silences."""
    return fbank(bursts(rng, frames * SAMPLE_RATE // 100), feature_dim)[:frames]


def save(path: str | Path, arrays: Arrays) -> None:
    with replacing(path) as partial, open(partial, "wb") as f:
        np.savez(f, allow_pickle=False, **arrays)


@contextmanager
def _probes(module: nn.Module, case: str, see: _See) -> Iterator[None]:
    """``see`` is given what goes into and comes out of every layer with weights, as executed."""
    executed = itertools.count()

    def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any, name: str) -> None:
        key = f"{case}/probe/{next(executed)}/{type(layer).__name__}/{name}"
        if inputs[0].is_floating_point():  # token ids are the graph's input, unchanged
            see(f"{key}/input", inputs[0].numpy())
        first = output[0] if isinstance(output, tuple) else output
        see(f"{key}/output", first.numpy())

    handles = [
        layer.register_forward_hook(functools.partial(hook, name=name))
        for name, layer in module.named_modules()
        if type(layer).__name__ in BY_MODULE
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
