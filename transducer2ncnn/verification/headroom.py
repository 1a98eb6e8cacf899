"""How near a network's numbers come to the largest that fp16 holds.

ncnn computes in fp16 where the processor can, as ARMv8.2 does, whatever the weights are stored as,
and sherpa-ncnn leaves it at that. What is larger than 65,504 is then infinite, and what follows is
wrong without an error. On x86 nothing of it shows. So the largest magnitude of every blob is
recorded while the fp32 files recognise speech with sherpa-ncnn's segments, or several of them at
once where that is the same: the states are those that speech leads to.

Sums inside a layer are not seen, such as a matrix product's before its last term.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS, Files
from transducer2ncnn.engines import search
from transducer2ncnn.engines.runtime import NcnnTransducer, Network
from transducer2ncnn.export.norms import ROOT
from transducer2ncnn.families.contract import Architecture
from transducer2ncnn.formats import blobs as names
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats.layers import WEIGHTED
from transducer2ncnn.formats.param import Layer
from transducer2ncnn.speech.features import SAMPLE_RATE
from transducer2ncnn.speech.synthetic import bursts
from transducer2ncnn.verification.proof import check_pairing

#: The largest number that fp16 holds.
LIMIT = 65504.0
#: With less headroom there is a warning: another voice or microphone may reach further.
WARN_BELOW = 4.0
#: Blobs that are warned of one by one, at most; all are in the result.
WARNINGS = 3
#: Seconds of audio that are run; what comes after that is left out.
SECONDS = 60
#: Seconds that are made up where a model has no recordings.
MADE_UP_SECONDS = 5

#: Segments that a network of any length is run on at once, in less than half of the time. Between
#: them an LSTM's cell states are not seen, and with each they grow by one at most.
AT_ONCE = 16

#: Layers that compute nothing: what they put out is measured where it was computed.
MOVING = frozenset(
    """
    Concat Crop Dropout ExpandDims Flatten Flip Packing Padding Permute Reshape Slice Split Squeeze
    """.split()  # noqa: SIM905, a table rather than a column of strings
)
#: What a layer puts out, in words; its type where it has no entry.
KINDS = {
    "Convolution": "convolution",
    "Convolution1D": "convolution",
    "ConvolutionDepthWise1D": "convolution",
    "Embed": "embedding",
    "Gemm": "linear layer",
    "InnerProduct": "linear layer",
    "Input": "input",
    "LSTM": "output of an LSTM",
    "MatMul": "matrix product",
    "MemoryData": "constant",
} | dict.fromkeys(("GELU", "GLU", "ReLU", "Sigmoid", "Softmax", "TanH"), "activation")
#: The same of BinaryOp's operations.
OPERATIONS = {0: "sum", 1: "sum", 2: "product", 3: "quotient", 6: "power"}
#: Softmax's parameters for rows.
OVER_ROWS = (-1, 1)
#: Which of an LSTM's outputs is its cell state.
CELL = 2

#: A figure of one blob, for JSON.
Entry = dict[str, Any]


@dataclass(frozen=True)
class Blob:
    """A blob of a graph, and where it stands.

    Attributes:
        kind: what it is, in words.
        layer: type and name of the layer that puts it out.
        module: PyTorch's module with weights that this is, or the last one before it.
        normed: whether a norm takes its square, which ncnn computes in fp32.
        scores: whether a softmax takes it, over rows, and nothing else does. Of each row the
            largest counts then: what is infinitely below it gets the weight that it should, zero.
    """

    name: str
    kind: str
    layer: str
    module: str
    normed: bool
    scores: bool


def measure(
    files: Files,
    architecture: Architecture[Any, Any],
    modules: Mapping[str, Sequence[tuple[str, str]]],
    recordings: Sequence[tuple[str, np.ndarray]],
) -> dict[str, Any]:
    """The largest magnitudes of all blobs of a model's three networks.

    Args:
        files: param and bin of each part, fp32.
        architecture: the model's.
        modules: of each part, PyTorch's modules with weights in order of execution: kind, name.
        recordings: name and (n,) float32 samples at 16 kHz of each; made-up ones if there is none.

    Returns:
        What it was measured on; the largest of each of the "kinds"; "near", the blobs with little
        headroom, and of the first ones "warnings"; and all "blobs", in the order of the graphs.

    Raises:
        UserError: ncnn cannot run the files, or their layers are not PyTorch's modules.
    """
    blobs = {part: describe(files[part][0], part, modules[part]) for part in PARTS}
    watched = _Watched(files, architecture, blobs)
    at_once = AT_ONCE if architecture.any_length else 1
    seconds = 0.0
    for name, samples in recordings or [("made-up audio", _made_up())]:
        samples = samples[: round((SECONDS - seconds) * SAMPLE_RATE)]
        if len(samples):
            print(f"{name}: {len(samples) / SAMPLE_RATE:.1f} s", file=sys.stderr, flush=True)
            watched.runs_on(name)
            search.emitted(search.greedy(watched, search.encoded(watched, samples, at_once)))
            seconds += len(samples) / SAMPLE_RATE
    entries = [
        _entry(part, blob, *watched.parts[part].largest[blob.name])
        for part in PARTS
        for blob in blobs[part]
    ]
    by_size = sorted(entries, key=lambda entry: -entry["largest"])
    near = [entry for entry in by_size if entry["largest"] * WARN_BELOW > LIMIT]
    return {
        "limit": LIMIT,
        "warn_below": WARN_BELOW,
        "speech": bool(recordings),
        "seconds": seconds,
        "kinds": _largest_by_kind(by_size),
        "near": near,
        "warnings": [_warning(entry) for entry in near[:WARNINGS]],
        "blobs": entries,
    }


def check(found: Mapping[str, Any], name: str) -> None:
    """Refuse a model of which a blob is larger than fp16 holds.

    Args:
        found: by ``measure``.
        name: of the model's files, for the message.

    Raises:
        UserError: naming the first such blob, and how large it is.
    """
    for entry in found["blobs"]:
        if entry["largest"] > LIMIT:
            raise UserError(
                f"{name}: {in_words(entry)}, and fp16 holds {LIMIT:,.0f}. Where the processor "
                "computes in fp16, as ARMv8.2 does with fp32 files too, it becomes infinite, and "
                "the model recognises something else without an error. Expected values below. "
                "Where a norm follows, the weights before it can be made smaller, and the square "
                "of its epsilon's root with them, and the model stays the same function."
            )


def in_words(entry: Entry) -> str:
    """Where the largest magnitude of a blob was, and how large it is."""
    return (
        f"blob {entry['blob']!r} of the {entry['part']} ({entry['kind']}; {entry['layer']}, "
        f"{entry['module']} in PyTorch) reaches {entry['largest']:,.0f} on {entry['recording']}"
    )


def describe(param: Path, part: str, modules: Sequence[tuple[str, str]]) -> list[Blob]:
    """The blobs that a graph computes, in its order.

    Raises:
        Mismatch: the layers with weights are not PyTorch's modules.
    """
    graph = param_file.read(param)
    check_pairing([x for x in graph.layers if x.type in WEIGHTED], modules, param)
    copied = {
        y: x.inputs[0] for x in graph.layers if x.type in ("Split", "Padding") for y in x.outputs
    }
    normed = set()
    for layer in graph.layers:
        if layer.type == "Reduction" and layer.integer(0) == ROOT:
            (blob,) = layer.inputs
            while blob in copied:
                blob = copied[blob]
            normed.add(blob)
    taken: dict[str, list[Layer]] = {}
    for layer in graph.layers:
        for blob in layer.inputs:
            taken.setdefault(blob, []).append(layer)
    scores = {
        blob
        for blob, by in taken.items()
        if [(x.type, x.integer(0), x.integer(1)) for x in by] == [("Softmax", *OVER_ROWS)]
    }
    left = iter(modules)
    where = "what comes before the first module"
    blobs = []
    for layer in graph.layers:
        if layer.type in WEIGHTED:
            where = " ".join(next(left))
        elif not where.startswith(("what", "after")):
            where = f"after {where}"
        if layer.type not in MOVING:
            blobs += [
                Blob(
                    blob,
                    _kind(layer, i, part),
                    f"{layer.type} {layer.name}",
                    where,
                    blob in normed,
                    blob in scores,
                )
                for i, blob in enumerate(layer.outputs)
                # Token ids are not computed with.
                if (part, blob) != ("decoder", names.INPUT)
            ]
    return blobs


def _kind(layer: Layer, output: int, part: str) -> str:
    if part == "joiner" and layer.outputs[output] == names.OUTPUT:
        return "logits"
    if layer.type == "LSTM" and output == CELL:
        return "cell state of an LSTM"
    if layer.type == "Reduction":
        return "root of a norm" if layer.integer(0) == ROOT else "sum"
    if layer.type == "BinaryOp":
        return OPERATIONS.get(layer.integer(0), layer.type)
    return KINDS.get(layer.type, layer.type)


def _entry(part: str, blob: Blob, largest: float, recording: str) -> Entry:
    return {
        "part": part,
        "blob": blob.name,
        "kind": blob.kind,
        "layer": blob.layer,
        "module": blob.module,
        "normed": blob.normed,
        "largest": largest,
        "recording": recording,
    } | ({"square": largest**2} if blob.normed else {})


def _warning(entry: Entry) -> str:
    return (
        f"{in_words(entry)}, and fp16 holds {LIMIT:,.0f}. Where the processor computes in fp16, "
        "other speech may become infinite there"
    )


def _largest_by_kind(by_size: Sequence[Entry]) -> list[Entry]:
    """The largest blob of each kind, and of those that a norm squares, the largest first."""
    found: dict[str, Entry] = {}
    for entry in by_size:
        if entry["normed"]:
            found.setdefault("input of a norm", entry)
        found.setdefault(entry["kind"], entry)
    return [entry | {"kind": kind} for kind, entry in found.items()]


def _made_up() -> np.ndarray:
    return bursts(np.random.default_rng(0), MADE_UP_SECONDS * SAMPLE_RATE)


class _Part(Network):
    """A network, and the largest magnitude of each of its blobs with what led to it.

    Attributes:
        recording: what it runs on now.
    """

    def __init__(self, param: Path, bin_: Path, blobs: Sequence[Blob]) -> None:
        print(f"ncnn runs {param}", file=sys.stderr, flush=True)
        super().__init__(param, bin_)
        self._scores = {blob.name for blob in blobs if blob.scores}
        self.recording = ""
        self.largest = {blob.name: (0.0, "") for blob in blobs}

    def run(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        results = super().run(inputs, [*outputs, *self.largest])
        blobs = results[len(outputs) :]
        for (name, (before, _)), blob in zip(self.largest.items(), blobs, strict=True):
            counts = blob.max(axis=-1) if name in self._scores else blob
            largest = float(np.abs(counts).max())
            if not largest <= before:
                largest = largest if np.isfinite(largest) else np.inf
                self.largest[name] = (largest, self.recording)
        return results[: len(outputs)]


class _Watched(NcnnTransducer):
    """An exported model, every blob of its networks looked at."""

    def __init__(
        self, files: Files, architecture: Architecture[Any, Any], blobs: Mapping[str, list[Blob]]
    ) -> None:
        self._blobs = blobs
        self.parts: dict[str, _Part] = {}
        super().__init__(files, architecture)

    def load(self, part: str, param: Path, bin_: Path) -> Network:
        self.parts[part] = _Part(param, bin_, self._blobs[part])
        return self.parts[part]

    def encode(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        features, states = inputs[0], inputs[self.architecture.first_state :]
        # The numbers beside the features are those of one segment, as sherpa-ncnn has them, however
        # many there are at once: where all lengths are the same function, nothing else follows.
        segment = self.architecture.encoder_inputs(features[: self.architecture.segment], states)
        return super().encode([features, *segment[1:]])

    def runs_on(self, recording: str) -> None:
        for part in self.parts.values():
            part.recording = recording
