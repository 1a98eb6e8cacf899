"""The figures of each quantized layer, against what numpy makes of the same numbers by hand."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from by_table import by_table
from conftest import GOLDEN, ROOT, stored

from transducer2ncnn.base import layout
from transducer2ncnn.families.model import inspect, load
from transducer2ncnn.formats import param, scale_table, weights
from transducer2ncnn.formats.param import Param, parse_layer
from transducer2ncnn.formats.scale_table import ScaleTable
from transducer2ncnn.formats.weights import Block
from transducer2ncnn.quantization import apply, layerwise, quantize
from transducer2ncnn.quantization.recipes import SHIPPED
from transducer2ncnn.quantization.statistics import Histogram
from transducer2ncnn.speech import audio
from transducer2ncnn.verification import reference

INT8 = GOLDEN / "int8"

#: Two linear layers, of 10 to 6 to 4 values.
LINES = [
    "Input in0 0 1 in0",
    "InnerProduct first 1 1 in0 1 0=6 1=1 2=60",
    "InnerProduct second 1 1 1 out0 0=4 1=0 2=24",
]
INPUT_SCALES = {"first": 50.0, "second": 9.0}


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[tuple[Path, Path], tuple[Path, Path], list[np.ndarray]]:
    """fp32 and int8 files of the network, and its weights: W1, b1, W2."""
    rng = np.random.default_rng(0)
    w1, b1, w2 = (rng.standard_normal(s).astype(np.float32) for s in ((6, 10), 6, (4, 6)))
    graph = Param(tuple(map(parse_layer, LINES)), 3)
    blocks = [
        [],
        [Block.tagged("weight", w1.reshape(-1)), Block.bare("bias", b1)],
        [Block.tagged("weight", w2.reshape(-1))],
    ]
    table = ScaleTable(quantize.weight_scales(graph, blocks, {"InnerProduct"}), INPUT_SCALES)
    quantized, quantized_blocks = by_table(graph, blocks, table, rest="fp32")
    for name, g, b in (("fp32", graph, blocks), ("int8", quantized, quantized_blocks)):
        param.write(tmp_path / f"{name}.param", g)
        weights.write(tmp_path / f"{name}.bin", b)
    fp32, int8 = (
        (tmp_path / f"{name}.param", tmp_path / f"{name}.bin") for name in ("fp32", "int8")
    )
    return fp32, int8, [w1, b1, w2]


def int8_linear(x: np.ndarray, w: np.ndarray, scale: float) -> np.ndarray:
    """x wᵀ with both rounded to int8, by hand."""
    w_scales = 127 / np.abs(w).max(axis=1)
    x8 = np.clip(np.round(x.astype(np.float64) * scale), -127, 127)
    w8 = np.round(w.astype(np.float64) * w_scales[:, None])
    return x8 @ w8.T / (scale * w_scales)


def by_hand(actual: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    signal, noise = np.mean(expected**2), np.mean((actual - expected) ** 2)
    return {"snr_db": 10 * np.log10(signal / noise), "relative_error": np.sqrt(noise / signal)}


def test_errors_by_hand(pairs: tuple) -> None:
    fp32, int8, (w1, b1, w2) = pairs
    rng = np.random.default_rng(1)
    runs = [rng.standard_normal((n, 10)).astype(np.float32) for n in (7, 40)]
    found = layerwise.part_errors(fp32, int8, [[{"in0": x}] for x in runs])

    x = np.concatenate(runs)
    first, first8 = x @ w1.T + b1, int8_linear(x, w1, 50) + b1
    second = first @ w2.T
    expected = {
        "first": {"alone": by_hand(first8, first), "accumulated": by_hand(first8, first)},
        "second": {
            "alone": by_hand(int8_linear(first, w2, 9), second),
            "accumulated": by_hand(int8_linear(first8, w2, 9), second),
        },
    }
    for layer, kinds in expected.items():
        for kind, error in kinds.items():
            assert found[layer][kind] == pytest.approx(error, rel=1e-3), (layer, kind)
    # The case tells the two kinds apart.
    alone, accumulated = (found["second"][kind]["snr_db"] for kind in ("alone", "accumulated"))
    assert alone > accumulated + 0.1


def test_the_int8_network_carries_its_own_states(tmp_path: Path) -> None:
    """What goes into the layer is a run's input and what came out of it in the run before."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((6, 6)).astype(np.float32) / 3
    lines = [
        "Input in0 0 1 in0",
        "Input in1 0 1 in1",
        "BinaryOp add 2 1 in0 in1 sum 0=0",
        "InnerProduct fc 1 1 sum y 0=6 1=0 2=36",
        "Split split 1 2 y out0 out1",
    ]
    graph = Param(tuple(map(parse_layer, lines)), 6)
    blocks = [[], [], [], [Block.tagged("weight", w.reshape(-1))], []]
    table = ScaleTable(quantize.weight_scales(graph, blocks, {"InnerProduct"}), {"fc": 25.0})
    quantized, quantized_blocks = by_table(graph, blocks, table, rest="fp32")
    for name, g, b in (("fp32", graph, blocks), ("int8", quantized, quantized_blocks)):
        param.write(tmp_path / f"{name}.param", g)
        weights.write(tmp_path / f"{name}.bin", b)
    recordings = [rng.standard_normal((n, 6)).astype(np.float32) for n in (5, 9)]
    runs, expected, alone, accumulated = [], [], [], []
    for frames in recordings:
        state = own = np.zeros(6, np.float32)
        runs.append([])
        for x in frames:
            runs[-1].append({"in0": x, "in1": state})
            alone.append(int8_linear(x + state, w, 25.0))
            own = int8_linear(x + own, w, 25.0)
            state = (x + state) @ w.T
            expected.append(state)
            accumulated.append(own)
    found = layerwise.part_errors(
        (tmp_path / "fp32.param", tmp_path / "fp32.bin"),
        (tmp_path / "int8.param", tmp_path / "int8.bin"),
        runs,
        {"out1": ("in1", (6,))},
    )["fc"]
    for kind, values in (("alone", alone), ("accumulated", accumulated)):
        by_hand_ = by_hand(np.array(values), np.array(expected))
        assert found[kind] == pytest.approx(by_hand_, rel=2e-3), kind
    # The case tells the two kinds apart.
    assert abs(found["alone"]["snr_db"] - found["accumulated"]["snr_db"]) > 0.15


def dynamic_linear(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x wᵀ for a frame, with both rounded to int8, x by a scale of its own."""
    return int8_linear(x, w, 127 / float(np.abs(x).max()))


def test_a_layer_that_was_rewritten_is_one_layer(pairs: tuple, tmp_path: Path) -> None:
    """One in groups and one as it is; both get vectors in fp32, and rows where they are Gemms."""
    fp32, _, (w1, b1, w2) = pairs
    graph = param.read(fp32[0])
    formats = {"first": "int8-grouped", "second": "int8-dynamic"}
    stored, blocks = apply.apply(graph, weights.read(graph, fp32[1]), formats, "fp32")
    int8 = (tmp_path / "gemm.param", tmp_path / "gemm.bin")
    param.write(int8[0], stored)
    weights.write(int8[1], blocks)
    read = weights.read(param.read(int8[0]), int8[1])
    found = layerwise.quantized(graph, param.read(int8[0]), read)
    assert [(x.layer.name, x.stored_as) for x in found] == [("first", "6 Gemm"), ("second", "Gemm")]

    frames = np.random.default_rng(1).standard_normal((30, 10)).astype(np.float32)
    errors = layerwise.part_errors(fp32, int8, [[{"in0": x} for x in frames]])
    cuts = [2, 4, 6, 8, 9]
    shares = np.split(w1, cuts, axis=1)
    first = frames @ w1.T + b1
    first8 = np.stack(
        [sum(map(dynamic_linear, np.split(x, cuts), shares), start=b1) for x in frames]
    )
    assert errors["first"]["alone"] == pytest.approx(by_hand(first8, first), rel=1e-3)
    second = first @ w2.T
    for kind, given in (("alone", first), ("accumulated", first8)):
        second8 = np.stack([dynamic_linear(x, w2) for x in given])
        assert errors["second"][kind] == pytest.approx(by_hand(second8, second), rel=1e-3)


def test_an_error_after_the_norm_that_follows(tmp_path: Path) -> None:
    """What was rounded away of quiet frames counts behind a norm, and hardly does before it. What
    the norm gets besides, of a residual connection, is fp32's."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((10, 10)).astype(np.float32) / 3
    size, eps = 10, 0.25
    lines = [
        "Input in0 0 1 in0",
        "Split residual 1 2 in0 a b",
        "InnerProduct fc 1 1 a y 0=10 1=0 2=100",
        "BinaryOp add 2 1 y b sum 0=0",
        "Split split 1 2 sum s0 s1",
        f"Padding padded 1 1 s0 p 0=0 1=0 2=0 3=1 4=0 5={np.sqrt(size * eps):.9e}",
        f"Reduction root 1 1 p r 0=8 2={1 / np.sqrt(size):.9e} 1=0 -23303=1,-1 4=1 5=1",
        "BinaryOp norm 2 1 s1 r out0 0=3",
        "InnerProduct last 1 1 out0 out1 0=10 1=0 2=100",
    ]
    graph = Param(tuple(map(parse_layer, lines)), 11)
    own = [Block.tagged("weight", w.reshape(-1))]
    blocks = [own if layer.type == "InnerProduct" else [] for layer in graph.layers]
    scales = {"fc": 12.0, "last": 50.0}
    table = ScaleTable(quantize.weight_scales(graph, blocks, {"InnerProduct"}), scales)
    quantized, quantized_blocks = by_table(graph, blocks, table, rest="fp32")
    for name, g, b in (("fp32", graph, blocks), ("int8", quantized, quantized_blocks)):
        param.write(tmp_path / f"{name}.param", g)
        weights.write(tmp_path / f"{name}.bin", b)
    x = rng.standard_normal((60, 10)).astype(np.float32) * np.geomspace(0.05, 5, 60)[:, None]
    x = x.astype(np.float32)
    fp32, int8 = (
        (tmp_path / f"{name}.param", tmp_path / f"{name}.bin") for name in ("fp32", "int8")
    )
    found = layerwise.part_errors(fp32, int8, [[{"in0": x}]])

    def normed(values: np.ndarray) -> np.ndarray:
        return values / np.sqrt((values**2).mean(axis=1, keepdims=True) + eps)

    y, y8 = x @ w.T, int8_linear(x, w, 12.0)
    assert found["fc"]["alone"] == pytest.approx(by_hand(y8, y), rel=1e-3)
    after = by_hand(normed(y8 + x), normed(y + x))
    assert found["fc"]["after_norm"] == pytest.approx(after, rel=1e-3)
    assert found["fc"]["alone"]["snr_db"] > after["snr_db"] + 3
    assert found["last"]["after_norm"] is None


def test_no_difference_has_no_ratio(pairs: tuple) -> None:
    _, int8, _ = pairs
    x = np.ones((3, 10), np.float32)
    found = layerwise.part_errors(int8, int8, [[{"in0": x}]])
    assert found["first"]["accumulated"] == {"snr_db": None, "relative_error": 0.0}


def test_input_figures_by_hand() -> None:
    values = np.concatenate([np.zeros(50), np.linspace(0.001, 3.999, 4000), [-8.0]])
    histogram = Histogram("Linear", "encoder.x")
    histogram.add(values.astype(np.float32))
    layer = parse_layer("InnerProduct linear_1 1 1 in0 out0 0=6 1=1 2=60 8=2")
    table = ScaleTable({"linear_1_param_0": np.array([1, 9, 5], np.float32)}, {"linear_1": 127 / 3})
    itself = layerwise.Quantized(layer, [(layer, [])])
    found = layerwise.figures("encoder", itself, ("Linear", "x"), table, histogram)
    assert found["weight_scales"] == {"0": {"scales": 3, "smallest": 1.0, "largest": 9.0}}
    assert found["input"]["absmax"] == 8
    assert found["input"]["threshold"] == pytest.approx(3)
    # A quarter of the 4000 lies beyond 3, and the one at 8.
    assert found["input"]["clipped"] == pytest.approx(1001 / 4051, abs=1e-3)
    shares = np.array(found["input"]["histogram"])
    assert shares.shape == (layerwise.BINS,)
    assert shares.sum() == pytest.approx(4001 / 4051)
    assert shares[:32] == pytest.approx(125 / 4051, rel=0.02)
    assert shares[32:-1].max() < 1e-4 and shares[-1] == pytest.approx(1 / 4051)


def test_a_real_model_layer_by_layer(tmp_path: Path) -> None:
    network = load(INT8 / "pretrained.pt", "lstm")
    reference.save(tmp_path / "r.npz", reference.make(copy.deepcopy(network), [9], segments=3))
    graph = param.read(INT8 / "encoder.int8-lstm.param")
    names = layerwise.pytorch_names(tmp_path / "r.npz", "encoder", graph)
    plain = param.read(INT8 / "encoder.ncnn.param")
    found = layerwise.quantized(plain, graph, weights.read(graph, INT8 / "encoder.int8-lstm.bin"))
    assert all(x.stored_as == x.layer.type and not x.rewritten for x in found)
    layers = [x.layer for x in found]
    table = scale_table.read(INT8 / "encoder-scale-table-lstm.txt")
    assert {f"{layer.name}_param_0" for layer in layers} <= table.weights.keys()
    kinds = {"Convolution": "Conv2d", "InnerProduct": "Linear", "LSTM": "LSTM"}
    modules = dict(network.encoder.named_modules())
    for layer in layers:
        kind, name = names[layer.name]
        assert kind == kinds[layer.type] == type(modules[name]).__name__

    files = {
        part: (INT8 / f"{part}.ncnn.param", INT8 / f"{part}.ncnn.bin")
        for part in ("encoder", "decoder", "joiner")
    }
    int8 = {
        "encoder": (INT8 / "encoder.int8-lstm.param", INT8 / "encoder.int8-lstm.bin"),
        "joiner": (INT8 / "joiner.int8.param", INT8 / "joiner.int8.bin"),
    }
    description = inspect(INT8 / "pretrained.pt", "lstm")[1]
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    found = layerwise.errors(files, int8, description, [noise[:100], noise])
    assert found["recordings"] == 2 and found["seconds"] == pytest.approx(1.00625)
    assert list(found["layers"]["encoder"]) == [layer.name for layer in layers]
    first = layers[0].name  # nothing comes before it
    assert found["layers"]["encoder"][first]["alone"] == pytest.approx(
        found["layers"]["encoder"][first]["accumulated"]
    )
    for errors in [*found["layers"]["encoder"].values(), *found["layers"]["joiner"].values()]:
        assert 10 < errors["alone"]["snr_db"] < 100


def test_every_layer_of_an_encoder_has_a_norm_behind_it(digits: Path, tmp_path: Path) -> None:
    fp32 = layout.ncnn_files(digits / "fp32")
    int8 = stored(fp32, SHIPPED["int8"], tmp_path)
    description = inspect(ROOT / "models" / "digits" / "pretrained.pt", "lstm")[1]
    samples = audio.read(ROOT / "models" / "digits" / "test_wavs" / "0.wav")
    quantized = {part: int8[part] for part in ("encoder", "joiner")}
    found = layerwise.errors(fp32, quantized, description, [samples])["layers"]
    assert len(found["encoder"]) == 7
    assert all(20 < x["after_norm"]["snr_db"] < 80 for x in found["encoder"].values())
    assert all(x["after_norm"] is None for x in found["joiner"].values())
