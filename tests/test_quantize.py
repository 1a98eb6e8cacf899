"""int8 files: byte for byte those of the real ncnn2int8, and what ncnn computes with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from by_table import by_table
from conftest import GOLDEN

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines.runtime import Network
from transducer2ncnn.formats import param, scale_table, weights
from transducer2ncnn.formats.param import Param, parse_layer
from transducer2ncnn.formats.scale_table import ScaleTable
from transducer2ncnn.formats.weights import Block
from transducer2ncnn.quantization import quantize

INT8 = GOLDEN / "int8"

#: fp32 network, scale table, and what ncnn2int8 made of them.
CASES = [
    ("encoder.ncnn", "encoder-scale-table.txt", "encoder.int8"),
    ("encoder.ncnn", "encoder-scale-table-lstm.txt", "encoder.int8-lstm"),
    ("joiner.ncnn", "joiner-scale-table.txt", "joiner.int8"),
]
PAIRS = ["encoder.ncnn", "decoder.ncnn", "joiner.ncnn", *(made for _, _, made in CASES)]


def read_pair(name: str) -> tuple[Param, weights.Weights]:
    graph = param.read(INT8 / f"{name}.param")
    return graph, weights.read(graph, INT8 / f"{name}.bin")


def without_defaults(layer: param.Layer) -> tuple:
    """A layer as ncnn understands it: parameters that say what is so anyway left out."""
    values = {key: float(v) if "," not in v else v for key, v in layer.params.items()}
    same_as = {11: 1, 12: 2, 13: 3} if layer.type == "Convolution" else {}
    defaults = {
        "Convolution": {2: 1, 3: 1, 4: 0, 14: 0, 12: 1, 13: 1},
        "LSTM": {2: 0},
        "BinaryOp": {0: 0},
        "Concat": {0: 0},
        "UnaryOp": {0: 0},
        "Reduction": {0: 0},
    }.get(layer.type, {})
    kept = {
        key: value
        for key, value in values.items()
        if value != values.get(same_as.get(key)) and value != defaults.get(key)
    }
    return layer.type, layer.name, layer.inputs, layer.outputs, kept


@pytest.mark.parametrize("name", PAIRS)
def test_any_pair_is_written_as_it_was_read(name: str, tmp_path: Path) -> None:
    graph, blocks = read_pair(name)
    param.write(tmp_path / "x.param", graph)
    weights.write(tmp_path / "x.bin", blocks)
    assert (tmp_path / "x.param").read_bytes() == (INT8 / f"{name}.param").read_bytes()
    assert (tmp_path / "x.bin").read_bytes() == (INT8 / f"{name}.bin").read_bytes()


@pytest.mark.parametrize(("network", "table", "_made"), CASES)
def test_weight_scales_are_the_tools_to_the_printed_digits(
    network: str, table: str, _made: str, tmp_path: Path
) -> None:
    types = {"Convolution", "InnerProduct"} | ({"LSTM"} if "lstm" in table else set())
    scales = quantize.weight_scales(*read_pair(network), types)
    scale_table.write(tmp_path / "x.txt", ScaleTable(weights=scales))
    golden = (INT8 / table).read_text().splitlines()
    assert (tmp_path / "x.txt").read_text().splitlines() == [x for x in golden if "_param_" in x]


@pytest.mark.parametrize(("network", "table", "made"), CASES)
def test_quantized_files_are_the_tools(network: str, table: str, made: str, tmp_path: Path) -> None:
    quantized, blocks = by_table(*read_pair(network), scale_table.read(INT8 / table), rest="fp16")
    weights.write(tmp_path / "x.bin", blocks)
    assert (tmp_path / "x.bin").read_bytes() == (INT8 / f"{made}.bin").read_bytes()
    golden, _ = read_pair(made)
    assert quantized.num_blobs == golden.num_blobs
    assert [without_defaults(x) for x in quantized.layers] == [
        without_defaults(x) for x in golden.layers
    ]


def test_the_rest_may_stay_fp32(tmp_path: Path) -> None:
    graph, blocks = read_pair("encoder.ncnn")
    table = scale_table.read(INT8 / "encoder-scale-table.txt")
    _, quantized = by_table(graph, blocks, table, rest="fp32")
    for layer, before, after in zip(graph.layers, blocks, quantized, strict=True):
        if layer.type == "LSTM":
            for a, b in zip(before, after, strict=True):
                np.testing.assert_array_equal(a.values, b.values)


def test_rounding_by_hand() -> None:
    values = np.array([[0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, 126.6, 300.0, -300.0]], np.float32)
    expected = [1, -1, 2, 3, -3, 0, 127, 127, -127]
    assert quantize.to_int8(values, np.array([1.0], np.float32)).tolist() == expected
    two = np.array([[1.0, 2.0], [1.0, 2.0]], np.float32)
    assert quantize.to_int8(two, np.array([1, 10], np.float32)).tolist() == [1, 2, 10, 20]


def make_network(folder: Path, lines: list[str], blocks: list[list[Block]]) -> tuple:
    blobs = {
        blob for line in lines for blob in (*parse_layer(line).inputs, *parse_layer(line).outputs)
    }
    graph = Param(tuple(parse_layer(line) for line in lines), len(blobs))
    folder.mkdir(exist_ok=True)
    param.write(folder / "x.param", graph)
    weights.write(folder / "x.bin", blocks)
    return graph, weights.read(graph, folder / "x.bin")


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


LAYERS = {
    "InnerProduct": (
        "InnerProduct l 1 1 in0 out0 0=6 1=1 2=60",
        [Block.tagged("weight", normal(60)), Block.bare("bias", normal(6))],
        normal(10),
    ),
    "Gemm": (
        "Gemm l 1 1 in0 out0 3=1 5=1 6=1 8=6 9=10 10=4",
        [Block.tagged("b", normal(60)), Block.tagged("c", normal(6))],
        normal(5, 10),
    ),
    "Embed": (
        "Embed l 1 1 in0 out0 0=8 1=5 3=40",
        [Block.tagged("weight", normal(40))],
        np.array([0, 3, 4], np.int32),
    ),
    "LSTM": (
        "LSTM l 1 1 in0 out0 0=4 1=240 3=6",
        [
            Block.tagged("weight_xc", normal(240)),
            Block.tagged("bias", normal(24)),
            Block.tagged("weight_hc", normal(96)),
            Block.tagged("weight_hr", normal(24)),
        ],
        normal(5, 10),
    ),
}


@pytest.mark.parametrize("kind", list(LAYERS))
def test_ncnn_computes_with_every_kind_of_quantized_layer(kind: str, tmp_path: Path) -> None:
    line, blocks, x = LAYERS[kind]
    graph, read = make_network(tmp_path / "fp32", ["Input in0 0 1 in0", line], [[], blocks])
    table = ScaleTable(quantize.weight_scales(graph, read, {kind}))
    if kind in quantize.CALIBRATED:
        table.inputs["l"] = 127 / float(np.abs(x).max())
    quantized, int8 = by_table(graph, read, table, rest="fp16")
    param.write(tmp_path / "int8.param", quantized)
    weights.write(tmp_path / "int8.bin", int8)
    (expected,) = Network(tmp_path / "fp32/x.param", tmp_path / "fp32/x.bin").run(
        {"in0": x}, ["out0"]
    )
    (actual,) = Network(tmp_path / "int8.param", tmp_path / "int8.bin").run({"in0": x}, ["out0"])
    assert actual.shape == expected.shape
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    assert 0 < error < 0.05
    # And what was written is read again.
    again = weights.read(param.read(tmp_path / "int8.param"), tmp_path / "int8.bin")
    assert any(block.tag == weights.INT8_TAG for block in again[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.weights.update(other_param_0=np.ones(3, np.float32)), "no layer other"),
        (lambda t: t.inputs.pop("linear_2"), "linear_2"),
        (lambda t: t.inputs.update(nowhere=1.0), "nowhere"),
        (lambda t: t.weights.pop("linear_1_param_0"), "linear_1"),
        (
            lambda t: t.weights.update(linear_1_param_0=np.ones(3, np.float32)),
            "linear_1_param_0 has 3 scales, and layer linear_1 needs 48",
        ),
    ],
)
def test_a_table_that_does_not_fit(change, message: str) -> None:
    table = scale_table.read(INT8 / "joiner-scale-table.txt")
    change(table)
    with pytest.raises(UserError, match=f"does not fit.*{message}"):
        by_table(*read_pair("joiner.ncnn"), table, rest="fp16")


def test_a_network_that_is_int8_already() -> None:
    table = scale_table.read(INT8 / "joiner-scale-table.txt")
    with pytest.raises(UserError, match="linear_1 is int8 already"):
        by_table(*read_pair("joiner.int8"), table, rest="fp16")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda b: b[:-4], "ends within the bias of layer linear_3"),
        (lambda b: b + bytes(8), "8 bytes are left"),
        (lambda b: b"\1\2\3\4" + b[4:], "unknown tag 0x04030201"),
        (lambda b: b"", "ends within the weight of layer linear_1"),
    ],
)
def test_a_bin_that_does_not_fit(edit, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(edit((INT8 / "joiner.ncnn.bin").read_bytes()))
    with pytest.raises(UserError, match=message):
        weights.read(param.read(INT8 / "joiner.ncnn.param"), tmp_path / "x.bin")
