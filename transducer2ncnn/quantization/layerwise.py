"""What int8 does, layer by layer: the scale of each layer's input, and the error of its output.

The error of a layer *alone* is what its own quantization brings: a network of just that layer, or
of those that it was rewritten as, out of the int8 files, is given what goes into the layer in fp32,
and its output is compared with fp32's. *After the norm* is the same error where the next norm has
been computed of it in fp32: a norm amplifies what is quiet, and with it what rounding did to it,
which the output by itself does not show. The *accumulated* error is that of the same blob in the
whole int8 network: what the layers before it brought is in it as well, and what the states hold
that the network carries from segment to segment.

All are taken over all values of the blob in all recordings, decoded by greedy search in
fp32. Networks run as sherpa-ncnn runs them: the encoder on a segment at a time, the decoder on a
context and the joiner on a frame.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import Files
from transducer2ncnn.engines.runtime import NcnnTransducer, Network
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import blobs, npz
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.formats.layers import WEIGHTED
from transducer2ncnn.formats.param import Layer, Param, parse_layer
from transducer2ncnn.formats.scale_table import INT8_MAX, ScaleTable
from transducer2ncnn.formats.weights import INT8_TAG, Block
from transducer2ncnn.quantization import norms_behind
from transducer2ncnn.quantization.noise import Noise
from transducer2ncnn.quantization.runs import Blobs, graph_inputs
from transducer2ncnn.quantization.statistics import Histogram
from transducer2ncnn.quantization.thresholds import coarse
from transducer2ncnn.speech.features import SAMPLE_RATE

#: Seconds of audio that are compared; what comes after that is left out.
SECONDS = 60

#: Inputs with their shapes, by the output of the run before that goes into them.
Carried = Mapping[str, tuple[str, tuple[int, ...]]]

#: Bins of a histogram that is to be looked at.
BINS = 64

#: Kinds of error.
KINDS = ("alone", "after_norm", "accumulated")
#: See ``part_errors``.
Error = dict[str, float | None]


def holding_int8(
    layers: Iterable[tuple[Layer, list[Block]]],
) -> list[tuple[Layer, list[Block]]]:
    """Those of some layers, each with its weights, that hold int8 weights."""
    return [(layer, own) for layer, own in layers if any(block.tag == INT8_TAG for block in own)]


@dataclass(frozen=True)
class Quantized:
    """A layer of the fp32 network whose weights are int8.

    Attributes:
        layer: as it is in fp32.
        pieces: what stands in its place, in order, each with its weights: itself, or the layers
            that it was rewritten as.
    """

    layer: Layer
    pieces: list[tuple[Layer, list[Block]]]

    @property
    def rewritten(self) -> bool:
        """Whether other layers stand in its place."""
        return [layer.type for layer, _ in self.pieces] != [self.layer.type]

    @property
    def stored_as(self) -> str:
        """The layers that hold the int8 weights, by type; several are like "3 Gemm"."""
        types = Counter(layer.type for layer, _ in holding_int8(self.pieces))
        return ", ".join(f"{n} {type_}" if n > 1 else type_ for type_, n in types.items())


def quantized(fp32: Param, graph: Param, blocks: weights_file.Weights) -> list[Quantized]:
    """The layers of a network that int8 holds the weights of, in order.

    A layer that was rewritten is found by its blobs, which keep their names.

    Args:
        fp32: the network's graph before.
        graph, blocks: the quantized network.
    """
    pieces = list(zip(graph.layers, blocks, strict=True))
    makers = {blob: i for i, (layer, _) in enumerate(pieces) for blob in layer.outputs}
    found = []
    for layer in fp32.layers:
        if layer.type not in WEIGHTED:
            continue
        between: set[int] = set()
        wanted = set(layer.outputs)
        while wanted:
            maker = makers[wanted.pop()]
            between.add(maker)
            before = set(pieces[maker][0].inputs) - {*layer.inputs}
            wanted |= {blob for blob in before if makers[blob] not in between}
        own = Quantized(layer, [pieces[i] for i in sorted(between)])
        if own.stored_as:
            found.append(own)
    return found


def errors(
    fp32: Files, int8: Files, description: dict[str, Any], recordings: list[np.ndarray]
) -> dict[str, Any]:
    """The error of every quantized layer's output.

    Args:
        fp32: the reference; all parts.
        int8: the quantized parts.
        description: what ``model.inspect`` found.
        recordings: (n,) float32 samples at 16 kHz each.

    Returns:
        The number of "recordings" and the "seconds" of audio compared, and the "layers": by part
        and layer name, what ``part_errors`` returns.

    Raises:
        UserError: ncnn cannot run the files, or a layer's output is not finite.
    """
    architecture = described(description)
    transducer = NcnnTransducer(fp32, architecture)
    runs, left = [], SECONDS * SAMPLE_RATE
    for samples in recordings:
        samples = samples[:left]
        left -= len(samples)
        if len(samples):
            runs.append(graph_inputs(transducer, samples))
    states = enumerate(architecture.states(), start=architecture.first_state)
    carried = {
        "encoder": {blobs.output_name(i): (blobs.input_name(i), state.shape) for i, state in states}
    }
    return {
        "recordings": len(runs),
        "seconds": SECONDS - left / SAMPLE_RATE,
        "layers": {
            part: part_errors(fp32[part], pair, [run[part] for run in runs], carried.get(part, {}))
            for part, pair in int8.items()
        },
    }


def part_errors(
    fp32: tuple[Path, Path],
    int8: tuple[Path, Path],
    runs: Iterable[Iterable[Blobs]],
    carried: Carried | None = None,
) -> dict[str, dict[str, Error | None]]:
    """The error of each quantized layer's output, by layer name: "alone"; "after_norm", None where
    no norm follows in the network; and "accumulated".

    An error is: the signal-to-noise ratio "snr_db", 10·log10 of the mean square of fp32's output
    over that of the difference, None where there is no difference; and "relative_error", the root
    mean square of the difference over fp32's.

    Args:
        fp32, int8: param and bin of one graph.
        runs: the graph's inputs in fp32, by recording, run by run.
        carried: of outputs that the next run is given, which input they are there, in which
            shape. The int8 network is given its own, except at the start of a recording.

    Raises:
        UserError: naming a layer whose output is not finite.
    """
    carried = carried or {}
    graph, plain = param_file.read(int8[0]), param_file.read(fp32[0])
    layers = quantized(plain, graph, weights_file.read(graph, int8[1]))
    norms = {x.layer.name: norms_behind.following(plain, x.layer) for x in layers}
    reference, whole = Network(*fp32), Network(*int8)
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
        alone = {x.layer.name: by_itself(x, Path(folder, str(i))) for i, x in enumerate(layers)}
        found = {name: {kind: Noise() for kind in KINDS} for name in alone}
        names = list(
            dict.fromkeys(
                [b for x in layers for b in (*x.layer.inputs, x.layer.outputs[0])]
                + [b for norm in norms.values() if norm for b in (*norm.beside, norm.output)]
            )
        )
        outputs = [x.layer.outputs[0] for x in layers]
        for recording in runs:
            own: Blobs = {}
            for inputs in recording:
                expected = dict(zip(names, reference.run(inputs, names), strict=True))
                results = whole.run(inputs | own, [*outputs, *carried])
                own = {
                    name: state.reshape(shape)
                    for (name, shape), state in zip(
                        carried.values(), results[len(outputs) :], strict=True
                    )
                }
                for x, piled_up in zip(layers, results, strict=False):
                    name, output = x.layer.name, x.layer.outputs[0]
                    own_inputs = {blob: expected[blob] for blob in x.layer.inputs}
                    if x.rewritten:
                        # A vector in fp32 is a row there.
                        own_inputs = {k: np.atleast_2d(v) for k, v in own_inputs.items()}
                    (own_output,) = alone[name].run(own_inputs, [output])
                    own_output = own_output.reshape(expected[output].shape)
                    compared = [("alone", own_output, output), ("accumulated", piled_up, output)]
                    if norm := norms[name]:
                        beside = {blob: expected[blob] for blob in norm.beside}
                        (normed,) = reference.run(beside | {output: own_output}, [norm.output])
                        compared.append(("after_norm", normed, norm.output))
                    for kind, values, blob in compared:
                        if not np.isfinite(values).all():
                            raise UserError(
                                f"{int8[0]}: layer {name} gives NaN or infinity in int8. Its "
                                "weights or scales are damaged, or do not fit its graph."
                            )
                        found[name][kind].add(values.reshape(expected[blob].shape), expected[blob])
    return {
        name: {
            kind: {"snr_db": noise.snr_db, "relative_error": noise.relative_error}
            if kind != "after_norm" or norms[name]
            else None
            for kind, noise in kinds.items()
        }
        for name, kinds in found.items()
    }


def by_itself(quantized_layer: Quantized, folder: Path, sherpa_options: bool = False) -> Network:
    """A network of one layer, whose blobs keep their names; its files go to ``folder``.

    Args:
        sherpa_options: of ``Network``.
    """
    inputs = [parse_layer(f"Input {blob} 0 1 {blob}") for blob in quantized_layer.layer.inputs]
    layers = [*inputs, *(layer for layer, _ in quantized_layer.pieces)]
    folder.mkdir()
    param, bin_ = folder / "layer.param", folder / "layer.bin"
    param_file.write(param, Param(tuple(layers), sum(len(layer.outputs) for layer in layers)))
    weights_file.write(bin_, [blocks for _, blocks in quantized_layer.pieces])
    return Network(param, bin_, sherpa_options=sherpa_options)


def figures(
    part: str,
    quantized_layer: Quantized,
    pytorch: tuple[str, str],
    table: ScaleTable,
    histogram: Histogram | None,
) -> dict[str, Any]:
    """What is known of a quantized layer without running it.

    Args:
        pytorch: its type and name in PyTorch.
        histogram: of its input's magnitudes; None where the input has no scale.

    Returns:
        "part", "name", "type", "pytorch_type" and "pytorch_name"; "stored_as", the layers
        that hold its int8 weights; of a scale table, "weight_scales", by array the
        number of scales, the smallest and the largest; and "input", None or: "absmax" and
        "threshold", "scale", the share of values "clipped" for lying beyond the threshold, and
        the "histogram", (BINS,) shares of all values in bins of equal width over [0, absmax],
        zeros left out.
    """
    layer = quantized_layer.layer
    prefix = f"{layer.name}_param_"
    scales = {key: x for key, x in table.weights.items() if key.startswith(prefix)}
    return {
        "part": part,
        "name": layer.name,
        "type": layer.type,
        "pytorch_type": pytorch[0],
        "pytorch_name": pytorch[1],
        "stored_as": quantized_layer.stored_as,
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
