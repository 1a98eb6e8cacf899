"""PyTorch's side of the verification: inputs, blobs in the middle, and outputs."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def make(model: Transducer, lengths: Sequence[int], segments: int) -> Arrays:
    """PyTorch's inputs, blobs and outputs for every case, on speech-like features; and digests of
    its weights.

    Args:
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
    arrays: Arrays = dict(_streamed(model, features, segments))
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
    arrays |= _single(model, inputs)
    moved = {
        stored: {
            key: error_of(array, arrays[key])
            for key, array in itertools.chain(
                _streamed(other, features, segments), _single(other, inputs)
            )
        }
        for stored, other in _moved(model)
    }
    arrays |= conditioning.to_arrays(moved)
    arrays["encoder/streaming/features"] = features[:stream_frames]

    contexts = rng.integers(0, sizes.vocab_size, (NUM_SAMPLES, sizes.context_size))
    contexts[0] = 0  # what every utterance starts with
    embeddings = rng.standard_normal((NUM_SAMPLES, sizes.encoder_dim), dtype=np.float32)
    for i, (context, embedding) in enumerate(zip(contexts, embeddings, strict=True)):
        with _Probes(model.decoder) as probes:
            decoder_out = model.decoder(torch.from_numpy(context[None]))
        arrays[f"decoder/sample {i}/in0"] = context.astype(np.int32)
        arrays |= {f"decoder/sample {i}/{key}": a for key, a in probes.arrays.items()}
        arrays[f"decoder/sample {i}/out0"] = decoder_out.numpy()
        with _Probes(model.joiner) as probes:
            logits = model.joiner(torch.from_numpy(embedding), decoder_out[0, 0])
        arrays[f"joiner/sample {i}/in0"] = embedding
        arrays[f"joiner/sample {i}/in1"] = decoder_out.numpy()[0, 0]
        arrays |= {f"joiner/sample {i}/{key}": a for key, a in probes.arrays.items()}
        arrays[f"joiner/sample {i}/out0"] = logits.numpy()
    return arrays | digest_weights(model)


def _streamed(
    model: Transducer, features: np.ndarray, segments: int
) -> Iterator[tuple[str, np.ndarray]]:
    """The encoder's outputs, segment after segment, by key."""
    architecture = model.architecture
    states = architecture.initial_states()
    for i in range(segments):
        segment = features[i * architecture.hop :][: architecture.segment]
        outputs = run_encoder(model, architecture.encoder_inputs(segment, states))
        states = architecture.carried(outputs)
        for j, output in enumerate(outputs):
            yield f"encoder/streaming/{i}/out{j}", output


def _single(
    model: Transducer, inputs: Mapping[str, Sequence[np.ndarray]]
) -> Iterator[tuple[str, np.ndarray]]:
    """What the encoder computes in single runs, by key: blobs in the middle, and outputs."""
    for case, given in inputs.items():
        with _Probes(model.encoder) as probes:
            outputs = run_encoder(model, given)
        yield from ((f"{case}/{key}", a) for key, a in probes.arrays.items())
        yield from ((f"{case}/out{i}", a) for i, a in enumerate(outputs))


def _moved(model: Transducer) -> Iterator[tuple[str, Transducer]]:
    """The same model, its weights moved by as much as rounding moves what is stored in fp32, up or
    down at random, and then rounded to fp16."""
    moved = copy.deepcopy(model)
    pairs = [
        pair
        for pair in zip(model.state_dict().values(), moved.state_dict().values(), strict=True)
        if pair[0].is_floating_point()
    ]
    generator = torch.Generator().manual_seed(0)
    for original, other in pairs:
        signs = torch.randint(0, 2, original.shape, generator=generator) * 2 - 1
        other.copy_(original * (1 + conditioning.MOVES["fp32"] * signs))
    yield "fp32", moved
    for original, other in pairs:
        # What fp16 cannot hold is refused elsewhere, and says nothing of rounding.
        other.copy_(original.clamp(-65504, 65504).half())
    yield "fp16", moved


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


class _Probes:
    """Records what goes into and comes out of every layer with weights, in order of execution."""

    def __init__(self, module: nn.Module) -> None:
        self.arrays: Arrays = {}
        self._num_layers = 0
        self._handles = [
            layer.register_forward_hook(self._hook(name))
            for name, layer in module.named_modules()
            if type(layer).__name__ in BY_MODULE
        ]

    def __enter__(self) -> _Probes:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], Any], None]:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
            key = f"probe/{self._num_layers}/{type(layer).__name__}/{name}"
            self._num_layers += 1
            if inputs[0].is_floating_point():  # token ids are the graph's input, unchanged
                self.arrays[f"{key}/input"] = inputs[0].numpy()
            first = output[0] if isinstance(output, tuple) else output
            self.arrays[f"{key}/output"] = first.numpy()

        return hook
