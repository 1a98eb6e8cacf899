"""What int8 does, layer by layer: the scale of each layer's input, and the error of its output.

The error of a layer *alone* is what its own quantization brings: a network of just that layer, out
of the int8 files, is given what goes into the layer in fp32, and its output is compared with
fp32's. The *accumulated* error is that of the same blob in the whole int8 network, which is given
fp32's inputs: what the layers before it brought is in it as well. An LSTM alone still runs on the
hidden states that it computes itself, so its error builds up along a recording.

Both are taken over all values of the layer's output in all recordings, decoded by greedy search in
fp32.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import Files
from transducer2ncnn.engines.runtime import Network
from transducer2ncnn.families.contract import Architecture
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import npz
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.formats.layers import WEIGHTED
from transducer2ncnn.formats.param import Layer, Param, parse_layer
from transducer2ncnn.formats.scale_table import INT8_MAX, ScaleTable
from transducer2ncnn.formats.sherpa import BLANK, NEVER_EMITTED
from transducer2ncnn.formats.weights import INT8_TAG, Block
from transducer2ncnn.quantization.statistics import Histogram
from transducer2ncnn.quantization.thresholds import coarse
from transducer2ncnn.speech.features import SAMPLE_RATE, fbank

#: Seconds of audio that are compared; what comes after that is left out.
SECONDS = 60

#: Bins of a histogram that is to be looked at.
BINS = 64

#: Blobs of a graph by name.
Blobs = dict[str, np.ndarray]


def quantized(graph: Param, blocks: weights_file.Weights) -> list[tuple[Layer, list[Block]]]:
    """The layers of a network that hold int8 weights, in order, each with its weights."""
    return [
        (layer, own)
        for layer, own in zip(graph.layers, blocks, strict=True)
        if any(block.tag == INT8_TAG for block in own)
    ]


def errors(
    fp32: Files, int8: Files, description: dict[str, Any], recordings: list[np.ndarray]
) -> dict[str, Any]:
    """The error of every quantized layer's output.

    Args:
        fp32: the reference; all parts.
        int8: the quantized parts.
        description: what ``model.describe`` found.
        recordings: (n,) float32 samples at 16 kHz each.

    Returns:
        The number of "recordings" and the "seconds" of audio compared, and the "layers": by part
        and layer name, what ``part_errors`` returns.

    Raises:
        UserError: ncnn cannot run the files, or the recordings hold not one segment.
    """
    architecture = described(description)
    sizes = architecture.sizes
    networks = {part: Network(*pair) for part, pair in fp32.items()}
    runs, left = [], SECONDS * SAMPLE_RATE
    for samples in recordings:
        samples = samples[:left]
        features = fbank(samples, sizes.feature_dim)
        if len(features) >= architecture.segment:
            runs.append(_graph_inputs(networks, architecture, features))
            left -= len(samples)
    if not runs:
        raise UserError("the recordings to compare int8's layers on are shorter than one segment.")
    return {
        "recordings": len(runs),
        "seconds": SECONDS - left / SAMPLE_RATE,
        "layers": {
            part: part_errors(fp32[part], pair, [run[part] for run in runs])
            for part, pair in int8.items()
        },
    }


def part_errors(
    fp32: tuple[Path, Path], int8: tuple[Path, Path], runs: Iterable[Blobs]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """The error of each quantized layer's output, "alone" and "accumulated", by layer name.

    An error is: the signal-to-noise ratio "snr_db", 10·log10 of the mean square of fp32's output
    over that of the difference, None where there is no difference; and "relative_error", the root
    mean square of the difference over fp32's.

    Args:
        fp32, int8: param and bin of one graph.
        runs: the graph's inputs, run by run.
    """
    graph = param_file.read(int8[0])
    layers = quantized(graph, weights_file.read(graph, int8[1]))
    reference, whole = Network(*fp32), Network(*int8)
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
        alone = {
            layer.name: single_layer(layer, blocks, Path(folder, str(i)))
            for i, (layer, blocks) in enumerate(layers)
        }
        found = {layer.name: {"alone": _Error(), "accumulated": _Error()} for layer, _ in layers}
        names = list(dict.fromkeys(b for x, _ in layers for b in (*x.inputs, x.outputs[0])))
        outputs = [layer.outputs[0] for layer, _ in layers]
        for inputs in runs:
            expected = dict(zip(names, reference.run(inputs, names), strict=True))
            accumulated = whole.run(inputs, outputs)
            for (layer, _), piled_up in zip(layers, accumulated, strict=True):
                own_inputs = {name: expected[name] for name in layer.inputs}
                (by_itself,) = alone[layer.name].run(own_inputs, [layer.outputs[0]])
                found[layer.name]["alone"].add(by_itself, expected[layer.outputs[0]])
                found[layer.name]["accumulated"].add(piled_up, expected[layer.outputs[0]])
    return {
        name: {kind: error.summary() for kind, error in kinds.items()}
        for name, kinds in found.items()
    }


def single_layer(layer: Layer, blocks: list[Block], folder: Path) -> Network:
    """A network of one layer, whose blobs keep their names; its files go to ``folder``."""
    inputs = tuple(parse_layer(f"Input {blob} 0 1 {blob}") for blob in layer.inputs)
    folder.mkdir()
    param, bin_ = folder / "layer.param", folder / "layer.bin"
    param_file.write(param, Param((*inputs, layer), len(layer.inputs) + len(layer.outputs)))
    weights_file.write(bin_, [blocks])
    return Network(param, bin_)


def figures(
    part: str,
    layer: Layer,
    pytorch: tuple[str, str],
    table: ScaleTable,
    histogram: Histogram | None,
) -> dict[str, Any]:
    """What is known of a quantized layer without running it.

    Args:
        pytorch: its type and name in PyTorch.
        histogram: of its input's magnitudes; None where the input has no scale.

    Returns:
        "part", "name", "type", "pytorch_type" and "pytorch_name"; "weight_scales", by array the
        number of scales, the smallest and the largest; and "input", None or: "absmax" and
        "threshold", "scale", the share of values "clipped" for lying beyond the threshold, and
        the "histogram", (BINS,) shares of all values in bins of equal width over [0, absmax],
        zeros left out.
    """
    prefix = f"{layer.name}_param_"
    scales = {key: x for key, x in table.weights.items() if key.startswith(prefix)}
    return {
        "part": part,
        "name": layer.name,
        "type": layer.type,
        "pytorch_type": pytorch[0],
        "pytorch_name": pytorch[1],
        "weight_scales": {
            key.removeprefix(prefix): {
                "scales": len(x),
                "smallest": float(x.min()),
                "largest": float(x.max()),
            }
            for key, x in scales.items()
        },
        "input": _input_figures(histogram, table.inputs[layer.name]) if histogram else None,
    }


def _input_figures(histogram: Histogram, scale: float) -> dict[str, Any]:
    threshold = INT8_MAX / scale
    counts = coarse(histogram)
    edges = np.linspace(0, histogram.absmax, len(counts) + 1)
    below = np.interp(threshold, edges, np.concatenate([[0], np.cumsum(counts)]))
    return {
        "absmax": histogram.absmax,
        "threshold": threshold,
        "scale": scale,
        "clipped": float((counts.sum() - below) / histogram.seen),
        "histogram": (counts.reshape(BINS, -1).sum(axis=1) / histogram.seen).tolist(),
    }


def pytorch_names(reference: str | Path, part: str, graph: Param) -> dict[str, tuple[str, str]]:
    """PyTorch's type and name of every layer with weights, by its name in ncnn.

    Args:
        reference: file written by ``reference.save``, whose probes name PyTorch's layers in
            order. That ncnn has them in the same order is what the verification found.
    """
    modules: dict[int, tuple[str, str]] = {}
    with npz.opened(reference, "PyTorch's outputs") as arrays:
        for key in arrays:
            words = key.split("/")
            if words[0] == part and words[2] == "probe":
                modules[int(words[3])] = (words[4], words[5])
    layers = [layer.name for layer in graph.layers if layer.type in WEIGHTED]
    return dict(zip(layers, (modules[i] for i in sorted(modules)), strict=True))


def _graph_inputs(
    networks: dict[str, Network], architecture: Architecture[Any, Any], features: np.ndarray
) -> dict[str, Blobs]:
    """What goes into each part's graph while a recording is decoded by greedy search.

    All frames are given to the joiner at once, and to the decoder all tokens.
    """
    sizes = architecture.sizes
    states = architecture.initial_states()
    inputs = {f"in{i}": x for i, x in enumerate(architecture.encoder_inputs(features, states))}
    (encoder_out,) = networks["encoder"].run(inputs, ["out0"])
    tokens = [BLANK] * sizes.context_size
    met = []
    for frame, decoder_out in _search(networks, encoder_out, tokens, sizes.context_size):
        met.append((frame, decoder_out))
    frames, decoder_outs = (np.stack(arrays) for arrays in zip(*met, strict=True))
    return {
        "encoder": inputs,
        "decoder": {"in0": np.array(tokens, dtype=np.int32)},
        "joiner": {"in0": frames, "in1": decoder_outs},
    }


def _search(
    networks: dict[str, Network], encoder_out: np.ndarray, tokens: list[int], context_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each frame and the decoder's output that it meets; ``tokens`` grows by what is found."""

    def decode() -> np.ndarray:
        context = np.array(tokens[-context_size:], dtype=np.int32)
        return networks["decoder"].run({"in0": context}, ["out0"])[0].reshape(-1)

    decoder_out = decode()
    for frame in encoder_out:
        yield frame, decoder_out
        (logits,) = networks["joiner"].run({"in0": frame, "in1": decoder_out}, ["out0"])
        token = int(logits.argmax())
        if token not in NEVER_EMITTED:
            tokens.append(token)
            decoder_out = decode()


class _Error:
    """The difference of a layer's outputs, gathered run by run."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, actual: np.ndarray, expected: np.ndarray) -> None:
        expected = expected.astype(np.float64)
        self._signal += float(np.sum(expected**2))
        self._noise += float(np.sum((actual - expected) ** 2))

    def summary(self) -> dict[str, float | None]:
        if not (self._signal and self._noise):
            return {"snr_db": None, "relative_error": 0.0}
        ratio = self._signal / self._noise
        return {"snr_db": 10 * math.log10(ratio), "relative_error": ratio**-0.5}
