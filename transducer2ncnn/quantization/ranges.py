"""Whether the ranges that int8 gives to the layers' inputs are those of real audio.

A layer's input scale maps the magnitudes up to a threshold to int8, and clips those beyond. If it
was observed on audio that is nothing like the model's speech, or damaged since, the threshold
is far from what goes into the layer. So each input is taken from the fp32 network on recordings,
and quantized by the layer's scale: what is left is a signal-to-noise ratio.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base.layout import Files
from transducer2ncnn.engines.runtime import NcnnTransducer, Network
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.formats.scale_table import INT8_MAX
from transducer2ncnn.quantization.noise import Noise
from transducer2ncnn.quantization.runs import Blobs, graph_inputs

#: The block of a layer that holds its input's scale.
INPUT_SCALE = "input_scale"


@dataclass
class Range:
    """A layer's input: its scale, and what it meets."""

    scale: float
    absmax: float = 0.0
    noise: Noise = field(default_factory=Noise)

    @property
    def is_a_scale(self) -> bool:
        """Whether it is a positive number at all."""
        return bool(np.isfinite(self.scale)) and self.scale > 0

    @property
    def threshold(self) -> float:
        """The largest magnitude that is not clipped."""
        return INT8_MAX / self.scale

    def reproduces(self, snr_db: float) -> bool:
        """Whether int8 leaves at least so much signal of what it meets."""
        return self.is_a_scale and (
            self.absmax == 0 or self.noise.relative_error <= 10 ** (-snr_db / 20)
        )

    def add(self, values: np.ndarray) -> None:
        self.absmax = max(self.absmax, float(np.abs(values).max()))
        if self.is_a_scale:
            self.noise.add(quantized(values, self.scale), values)


def quantized(values: np.ndarray, scale: float) -> np.ndarray:
    """What is left of values of any shape, as ncnn makes int8 of them."""
    scaled = values.astype(np.float64) * scale
    rounded = np.trunc(scaled + np.copysign(0.5, scaled))
    return np.clip(rounded, -INT8_MAX, INT8_MAX) / scale


def measure(
    fp32: Files, int8: Files, description: dict[str, Any], recordings: Iterable[np.ndarray]
) -> dict[str, dict[str, Range]]:
    """The range of every input that has a scale, by part and layer.

    Args:
        fp32: the reference; all parts.
        int8: the other files. Inputs that fp32's graphs have no blob for are left out.
        description: what ``model.inspect`` found.
        recordings: (n,) float32 samples at 16 kHz each.

    Raises:
        UserError: ncnn cannot run the files.
    """
    transducer = NcnnTransducer(fp32, described(description))
    scales = {part: input_scales(*pair) for part, pair in int8.items()}
    for part, of_part in scales.items():
        blobs = {b for layer in param_file.read(fp32[part][0]).layers for b in layer.outputs}
        scales[part] = {name: x for name, x in of_part.items() if x[0] in blobs}
    networks = {part: Network(*fp32[part]) for part, of_part in scales.items() if of_part}
    found = {
        part: {layer: Range(scale) for layer, (_, scale) in of_part.items()}
        for part, of_part in scales.items()
    }
    for samples in recordings:
        runs = graph_inputs(transducer, samples)
        for part, network in networks.items():
            _add(network, runs[part], scales[part], found[part])
    return found


def _add(
    network: Network,
    runs: Iterable[Blobs],
    scales: dict[str, tuple[str, float]],
    found: dict[str, Range],
) -> None:
    blobs = list(dict.fromkeys(blob for blob, _ in scales.values()))
    for inputs in runs:
        values = dict(zip(blobs, network.run(inputs, blobs), strict=True))
        for layer, (blob, _) in scales.items():
            found[layer].add(values[blob])


def input_scales(param: Path, bin_: Path) -> dict[str, tuple[str, float]]:
    """The input blob and its scale, of every layer of a graph that has one."""
    graph = param_file.read(param)
    return {
        layer.name: (layer.inputs[0], float(block.values[0]))
        for layer, blocks in zip(graph.layers, weights_file.read(graph, bin_), strict=True)
        for block in blocks
        if block.name == INPUT_SCALE
    }
