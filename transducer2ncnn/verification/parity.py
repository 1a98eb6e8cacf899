"""Proof that a converted model is the trained one: ncnn against PyTorch, blob by blob.

PyTorch's side is computed once a model (``reference.py``); every precision's ncnn files are then
compared with it. The weights are compared first, to the last bit (``proof.py``). The runs then show
that the graph is the model's: compared are the outputs of the three networks and, in between, what
goes into and comes out of every layer with weights. Convolution, linear layer, LSTM and embedding
occur in the same order on both sides, which pairs them without any name.

The encoder is compared at single runs of several lengths with states that are not zero, and
streaming: segment after segment, each side carrying its own states.

The error of a blob is its largest difference, relative to the largest magnitude in the
reference's blob where that is above 1. It is held to the tolerance, or to what rounding alone makes
of the blob (``conditioning.py``).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base.layout import PARTS, Files
from transducer2ncnn.engines.runtime import Network
from transducer2ncnn.families.contract import Architecture
from transducer2ncnn.formats import blobs as names_of
from transducer2ncnn.formats import npz, sherpa
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats.layers import WEIGHTED
from transducer2ncnn.verification import conditioning, proof
from transducer2ncnn.verification.proof import Mismatch

OUTPUT = "output of the graph"

#: Reference arrays by key: "<part>/<case>/<what>".
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Blob:
    """One blob of one case, compared."""

    case: str
    name: str
    #: Where it stands in the graph, on both sides.
    place: str
    error: float
    #: Its key in the reference, below the part's and the case's.
    key: str


def compare(
    reference: str | Path,
    architecture: Architecture[Any, Any],
    files: Files,
    stored: str,
    tolerance: float,
) -> dict[str, Any]:
    """Compare ncnn files with the reference; return what was found, by part and case.

    Of each part that is, among others, its "max_error", the largest of a blob, and what was
    "allowed" of that blob.

    Args:
        reference: file written by ``reference.save``.
        architecture: the model's.
        files: (param, bin) of each part.
        stored: "fp32" or "fp16", what the weights are stored as.
        tolerance: the largest error that passes, but where rounding alone makes as much.

    Raises:
        Mismatch: naming the weights that are not the checkpoint's, or else the first blob that is
            off by more than the tolerance, and by how much.
        UserError: a graph has layers that sherpa-ncnn cannot create, or ncnn cannot load it.
    """
    for param, _ in files.values():
        sherpa.check_layers(param_file.read(param), str(param))
    found: dict[str, Any] = {}
    with npz.opened(reference, "PyTorch's outputs") as arrays:
        proven = {
            part: proof.check(*files[part], proof.from_arrays(arrays, part), stored)
            for part in PARTS
        }
        rounding = conditioning.from_arrays(arrays)
        for part in PARTS:
            cases = _group(arrays, part)
            param, bin_ = files[part]
            # ncnn may crash on it: what was printed last then says on which.
            print(f"ncnn runs {param}", file=sys.stderr, flush=True)
            network = Network(param, bin_)
            weighted = [x for x in param_file.read(param).layers if x.type in WEIGHTED]
            blobs: list[Blob] = []
            allowances: list[float] = []
            beyond: list[dict[str, Any]] = []
            # Single runs first: what is wrong in the graph is then found where it is wrong.
            for case, values in sorted(cases.items(), key=lambda item: item[0] == "streaming"):
                if case == "streaming":
                    compared = _compare_streaming(network, architecture, values, str(param))
                else:
                    compared = _compare_single(network, weighted, case, values)
                for blob in compared:
                    key = f"{part}/{case}/{blob.key}"
                    allowed = rounding.allowed(key, tolerance, stored)
                    if not blob.error <= allowed:
                        raise Mismatch(_part_ways(part, param, blob, blobs, tolerance, allowed))
                    if blob.error > tolerance:
                        beyond.append(_entry(blob) | {"error": blob.error, "allowed": allowed})
                    blobs.append(blob)
                    allowances.append(allowed)
            found[part] = _summary(blobs, allowances)
            found[part] |= {"beyond_tolerance": beyond, "weights_proven": proven[part]}
    return found


def _part_ways(
    part: str, param: Path, blob: Blob, before: list[Blob], tolerance: float, allowed: float
) -> str:
    same_case = [b.error for b in before if b.case == blob.case]
    agree = (
        f"The {len(same_case)} blobs compared before it in that run agree to {max(same_case):.1e}."
        if same_case
        else "It is the first blob compared in that run."
    )
    how_far = (
        "another shape or values that are not finite"
        if np.isinf(blob.error)
        else f"an error of {blob.error:.3g}"
    )
    rounding = f", and rounding alone explains {allowed:.3g}" if allowed > tolerance else ""
    return (
        f"{param}: the {part} in ncnn is not the PyTorch model. In the run {blob.case!r}, they "
        f"part first at blob {blob.name!r} ({blob.place}), with {how_far}; the tolerance is "
        f"{tolerance:g}{rounding}. {agree}"
    )


def _summary(blobs: list[Blob], allowances: list[float]) -> dict[str, Any]:
    worst, allowed = max(zip(blobs, allowances, strict=True), key=lambda pair: pair[0].error)
    runs: dict[str, float] = {}
    for blob in blobs:
        run = "samples" if blob.case.startswith("sample ") else blob.case
        runs[run] = max(runs.get(run, 0.0), blob.error)
    return {
        "max_error": worst.error,
        "allowed": allowed,
        "worst_blob": _entry(worst),
        "max_output_error": max(b.error for b in blobs if b.place.startswith(OUTPUT)),
        "blobs_compared": len(blobs),
        "max_error_by_run": runs,
    }


def _entry(blob: Blob) -> dict[str, Any]:
    return {"run": blob.case, "blob": blob.name, "place": blob.place}


def _group(arrays: Any, part: str) -> dict[str, Arrays]:
    """Arrays of one part by case, in the order in which they were made."""
    cases: dict[str, Arrays] = {}
    for key in arrays:
        if key.startswith(part + "/"):
            _, case, rest = key.split("/", 2)
            cases.setdefault(case, {})[rest] = arrays[key]
    return cases


def _compare_single(
    network: Network, weighted: list[param_file.Layer], case: str, values: Arrays
) -> list[Blob]:
    probes = {key: a for key, a in values.items() if key.startswith("probe/")}
    blobs = []  # name, place, key, reference
    for key, array in probes.items():
        _, n, kind, module, end = key.split("/")
        layer = weighted[int(n)]
        name = layer.inputs[0] if end == "input" else layer.outputs[0]
        blobs.append(
            (name, f"{end} of {layer.type} {layer.name}, {kind} {module} in PyTorch", key, array)
        )
    for key, array in values.items():
        if key.startswith("out"):
            blobs.append((key, OUTPUT, key, array))
    inputs = {key: a for key, a in values.items() if key.startswith("in")}
    results = network.run(inputs, [name for name, *_ in blobs])
    return [
        Blob(case, name, place, error_of(result, array), key)
        for (name, place, key, array), result in zip(blobs, results, strict=True)
    ]


def _compare_streaming(
    network: Network, architecture: Architecture[Any, Any], values: Arrays, param: str
) -> list[Blob]:
    features = values.pop("features")
    segments = 1 + max(int(key.split("/")[0]) for key in values)
    names = sorted({key.split("/")[1] for key in values}, key=lambda n: int(n[3:]))
    states = architecture.initial_states()
    blobs = []
    for i in range(segments):
        segment = features[i * architecture.hop :][: architecture.segment]
        inputs = names_of.inputs(architecture.encoder_inputs(segment, states))
        results = network.run(inputs, names)
        _check_states(architecture, results, param)
        states = architecture.carried(results)
        for name, result in zip(names, results, strict=True):
            key = f"{i}/{name}"
            error = error_of(result, values[key])
            blobs.append(Blob("streaming", name, f"{OUTPUT}, segment {i}", error, key))
    return blobs


def _check_states(
    architecture: Architecture[Any, Any], outputs: list[np.ndarray], param: str
) -> None:
    """Check that sherpa-ncnn can hand the states back, which it does by shape."""
    if len(outputs) != len(architecture.batch_axes()):
        raise Mismatch(
            f"{param}: the encoder has {len(outputs)} outputs, expected "
            f"{len(architecture.batch_axes())}: {architecture.first_state} and the states."
        )
    returned = enumerate(outputs[architecture.first_state :], start=architecture.first_state)
    for (i, array), state in zip(returned, architecture.states(), strict=True):
        if array.shape != state.returned_shape:
            raise Mismatch(
                f"{param}: the state {state.name} comes back as blob 'out{i}' in the shape "
                f"{array.shape}, and sherpa-ncnn takes {state.returned_shape} alone. The model's "
                "graph has to reshape it, which the family's code decides."
            )


def error_of(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the reference's magnitude where that is above 1.

    Infinite where the shapes differ (axes of one aside, which ncnn drops) or a value of either is
    not finite.
    """
    actual, expected = actual.squeeze(), expected.squeeze()
    finite = np.isfinite(actual).all() and np.isfinite(expected).all()
    if actual.shape != expected.shape or not finite:
        return float("inf")
    expected = expected.astype(np.float64)
    return float(np.abs(actual - expected).max() / max(1.0, np.abs(expected).max()))
