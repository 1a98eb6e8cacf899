"""How long each format takes: each layer by itself, computed as in sherpa-ncnn, on this machine.

A layer is given what goes into it in fp32 while a recording is decoded, for one call: a segment in
the encoder, a frame in the joiner. The shortest of many runs counts, the formats taking turns, for
what else the machine does only ever makes a run longer. Times of layers are added up; what a whole
network does beside them, and what its layers do to each other's caches, is not in it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS, Files
from transducer2ncnn.engines.runtime import NcnnTransducer, Network
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.formats.param import Layer
from transducer2ncnn.formats.weights import Block
from transducer2ncnn.quantization.groups import Group, alone
from transducer2ncnn.quantization.layerwise import Quantized, by_itself
from transducer2ncnn.quantization.runs import Blobs, graph_inputs
from transducer2ncnn.speech.features import SAMPLE_RATE

#: Runs of a layer in each format.
RUNS = 50
#: Seconds of the recording that tells how often each network is called.
SECONDS = 20

#: By the parts and layers of a model: seconds of computing by format, for a second of audio.
Times = dict[str, dict[str, dict[str, float]]]


def measure(
    fp32: Files, description: dict[str, Any], samples: np.ndarray, groups: Sequence[Group]
) -> Times:
    """Seconds of computing for a second of audio, of each layer in each of its formats.

    Args:
        description: what ``model.inspect`` found.
        samples: (n,) float32 at 16 kHz, speech.

    Raises:
        UserError: ncnn cannot run the files.
    """
    samples = samples[: SECONDS * SAMPLE_RATE]
    inputs = graph_inputs(NcnnTransducer(fp32, described(description)), samples)
    found: Times = {}
    for part in PARTS:
        graph = param_file.read(fp32[part][0])
        blocks = weights_file.read(graph, fp32[part][1])
        layers = {x.name: (x, own) for x, own in zip(graph.layers, blocks, strict=True)}
        formats = {x: list(g.sizes) for g in groups if g.part == part for x in g.layers}
        names = list(dict.fromkeys(b for name in formats for b in layers[name][0].inputs))
        values = Network(*fp32[part]).run(inputs[part][-1], names)
        given = dict(zip(names, values, strict=True))
        calls = len(inputs[part]) * SAMPLE_RATE / len(samples)
        found[part] = {
            name: {
                format_: seconds * calls
                for format_, seconds in _timed(*layers[name], formats[name], given).items()
            }
            for name in formats
        }
    return found


def of_groups(times: Times, groups: Sequence[Group]) -> list[dict[str, float]]:
    """The time of each group's formats, in the groups' order.

    Raises:
        UserError: the times are of other layers.
    """
    try:
        return [
            {format_: sum(times[g.part][x][format_] for x in g.layers) for format_ in g.sizes}
            for g in groups
        ]
    except KeyError as e:
        raise UserError(
            f"the times that were measured are of other layers: {e} is not there."
        ) from e


def _timed(
    layer: Layer, blocks: list[Block], formats: Sequence[str], given: Blobs
) -> dict[str, float]:
    """Seconds of a call of one layer, by format."""
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
        networks = {}
        for name in formats:
            graph, stored = alone(layer, blocks, name)
            itself = Quantized(layer, list(zip(graph.layers, stored, strict=True)))
            networks[name] = by_itself(itself, Path(folder, name), sherpa_options=True)
    # An embedding's is a vector of tokens; a Gemm takes rows only.
    inputs = {
        blob: given[blob] if layer.type == "Embed" else np.atleast_2d(given[blob])
        for blob in layer.inputs
    }
    seconds = dict.fromkeys(formats, float("inf"))
    for _ in range(RUNS):
        for format_, network in networks.items():
            start = time.perf_counter()
            network.run(inputs, [layer.outputs[0]])
            seconds[format_] = min(seconds[format_], time.perf_counter() - start)
    return seconds
