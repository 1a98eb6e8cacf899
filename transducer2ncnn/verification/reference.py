"""PyTorch's side of the verification: inputs, blobs in the middle, and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from transducer2ncnn.base.files import replacing
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.engines.pytorch import from_torch, to_torch
from transducer2ncnn.families import Family
from transducer2ncnn.formats.layers import BY_MODULE
from transducer2ncnn.speech.features import SAMPLE_RATE, fbank
from transducer2ncnn.speech.synthetic import bursts
from transducer2ncnn.verification import digests, proof
from transducer2ncnn.verification.parity import Arrays

#: Pairs of inputs that the decoder and the joiner are compared on.
NUM_SAMPLES = 50


def make(model: nn.Module, family: Family, sizes: Any, lengths: list[int], segments: int) -> Arrays:
    """PyTorch's inputs, blobs and outputs for every case, on speech-like features; and digests of
    its weights.

    Args:
        lengths: numbers of frames of the single runs.
        segments: number of segments of the streaming run.
    """
    rng = np.random.default_rng(0)
    stream_frames = family.SEGMENT + (segments - 1) * family.HOP
    features = synthetic_features(rng, max([stream_frames, *lengths]), sizes.feature_dim)
    arrays: Arrays = {}
    states = family.initial_states(sizes)
    # The streaming run comes first: the states it ends with are the single runs' initial ones.
    for i in range(segments):
        segment = features[i * family.HOP :][: family.SEGMENT]
        outputs = _encode(model, family, segment, states)
        states = outputs[family.FIRST_STATE :]
        for j, output in enumerate(outputs):
            arrays[f"encoder/streaming/{i}/out{j}"] = output
    arrays["encoder/streaming/features"] = features[:stream_frames]

    for frames in lengths:
        case = f"encoder/{frames} frames"
        inputs = family.encoder_inputs(features[:frames], states)
        with _Probes(model.encoder) as probes:
            outputs = _encode(model, family, features[:frames], states)
        arrays |= {f"{case}/in{i}": a for i, a in enumerate(inputs)}
        arrays |= {f"{case}/{key}": a for key, a in probes.arrays.items()}
        arrays |= {f"{case}/out{i}": a for i, a in enumerate(outputs)}

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

    for part in PARTS:
        expected = digests.make(
            getattr(model, part), lambda i, part=part: _run_once(model, family, sizes, part, i)
        )
        arrays |= proof.to_arrays(part, expected)
    return arrays


def _run_once(model: nn.Module, family: Family, sizes: Any, part: str, seed: int) -> None:
    """Run one part on one segment; nothing of what goes in is the same for any two seeds."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    if part == "encoder":
        states = [normal(*state.shape) for state in family.initial_states(sizes)]
        _encode(model, family, normal(family.SEGMENT, sizes.feature_dim), states)
    elif part == "decoder":
        model.decoder(torch.arange(sizes.context_size)[None] + seed * sizes.context_size)
    else:
        embeddings = (normal(dim) for dim in (sizes.encoder_dim, sizes.decoder_dim))
        model.joiner(*(torch.from_numpy(x) for x in embeddings))


def synthetic_features(rng: np.random.Generator, frames: int, feature_dim: int) -> np.ndarray:
    """(frames, feature_dim) features of bursts of coloured noise between near-silences."""
    return fbank(bursts(rng, frames * SAMPLE_RATE // 100), feature_dim)[:frames]


def save(path: str | Path, arrays: Arrays) -> None:
    with replacing(path) as partial, open(partial, "wb") as f:
        np.savez(f, **arrays)


def _encode(
    model: nn.Module, family: Family, features: np.ndarray, states: list[np.ndarray]
) -> list[np.ndarray]:
    inputs = to_torch(family, family.encoder_inputs(features, states))
    return from_torch(family, model.encoder(*inputs))


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

    def _hook(self, name: str):
        def hook(layer: nn.Module, inputs: tuple, output: Any) -> None:
            key = f"probe/{self._num_layers}/{type(layer).__name__}/{name}"
            self._num_layers += 1
            if inputs[0].is_floating_point():  # token ids are the graph's input, unchanged
                self.arrays[f"{key}/input"] = inputs[0].numpy()
            first = output[0] if isinstance(output, tuple) else output
            self.arrays[f"{key}/output"] = first.numpy()

        return hook
