"""Recipes: which layer gets which format, and that the default one is what the tools make."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import GOLDEN, ROOT

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats import param, scale_table, weights
from transducer2ncnn.formats.scale_table import ScaleTable
from transducer2ncnn.quantization import quantize
from transducer2ncnn.quantization.layer_formats import FORMATS
from transducer2ncnn.quantization.recipes import SHIPPED, Part, Recipe, Table, type_of

INT8 = GOLDEN / "int8"

#: Name and type of each layer of a network.
LAYERS = [
    ("in0", "Input"),
    ("conv_1", "Convolution"),
    ("relu_1", "ReLU"),
    ("conv_2", "Convolution"),
    ("linear_1", "InnerProduct"),
    ("linear_10", "InnerProduct"),
    ("lstm_1", "LSTM"),
]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({}, {}),
        ({"Convolution": "fp32"}, {"conv_1": "fp32", "conv_2": "fp32"}),
        # Layers without weights have no format.
        (
            {"*": "fp32"},
            dict.fromkeys(("conv_1", "conv_2", "linear_1", "linear_10", "lstm_1"), "fp32"),
        ),
        # A pattern counts more than a type, wherever it stands; of patterns, the last does.
        ({"linear_*": "fp32", "InnerProduct": "fp16"}, {"linear_1": "fp32", "linear_10": "fp32"}),
        ({"linear_1?": "fp32", "linear_*": "fp16"}, {"linear_1": "fp16", "linear_10": "fp16"}),
        ({"linear_*": "fp16", "linear_1?": "fp32"}, {"linear_1": "fp16", "linear_10": "fp32"}),
        # A type with a number counts more than a pattern, and a name most of all.
        ({"InnerProduct#2": "fp32", "linear_*": "fp16"}, {"linear_1": "fp16", "linear_10": "fp32"}),
        ({"conv_1": "fp32", "Convolution#1": "fp16", "*": "int8"}, None),
        # A type that a network has no layer of is no mistake, as recipes name all that they know.
        ({"Gemm": "int8-dynamic"}, {}),
    ],
)
def test_which_layer_gets_which_format(
    layers: dict[str, str], expected: dict[str, str] | None
) -> None:
    found = Part(layers).assign(LAYERS)
    if expected is None:
        assert found["conv_1"] == "fp32"
        expected = found | {"conv_1": "fp32"}
    assert found == expected


def test_what_is_kept_is_the_rest_whatever_selects_it() -> None:
    part = Part({"Convolution": "int8-table", "conv_2": "int8-table"}, keep=("conv_2",))
    assert part.assign(LAYERS) == {"conv_1": "int8-table"}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part({"linear_9": "fp16"}), "linear_9: no layer with weights is called so"),
        (Part({"relu_1": "fp16"}), "relu_1: no layer with weights"),
        (Part({"Convolutio": "fp16", "conv_*": "fp16"}), "^Convolutio: no layer"),
        (Part({"Convolution#3": "fp16"}), "Convolution#3: no layer"),
        (Part({"gemm_*": "fp16"}), r"gemm_\*: no layer"),
        (Part({}, keep=("linear_9",)), "keep: no layer with weights is called linear_9"),
    ],
)
def test_a_selector_that_fits_nothing(part: Part, message: str) -> None:
    with pytest.raises(UserError, match=message):
        part.assign(LAYERS)


@pytest.mark.parametrize(
    ("layers", "has_table", "calibrated"),
    [
        ({"InnerProduct": "int8-dynamic", "LSTM": "int8"}, False, False),
        # An LSTM's scales can be of a table, but none is of its input.
        ({"InnerProduct": "int8-dynamic", "LSTM": "int8-table"}, True, False),
        ({"Embed": "int8-table"}, True, False),
        ({"InnerProduct#1": "int8-table"}, True, True),
        # By a name alone it might be any layer.
        ({"linear_*": "int8-table"}, True, True),
    ],
)
def test_what_takes_a_table_and_what_takes_recordings(
    layers: dict[str, str], has_table: bool, calibrated: bool
) -> None:
    part = Part(layers)
    assert (part.has_table, part.calibrated) == (has_table, calibrated)
    # A part that is taken from the plain files takes neither.
    assert Recipe({"encoder": part}, {"decoder": "fp16", "joiner": "fp16"}).calibrated == calibrated
    assert not Recipe(
        {"encoder": part}, dict.fromkeys(("encoder", "decoder", "joiner"), "fp16")
    ).calibrated


def test_a_table_depends_on_what_is_in_it_alone() -> None:
    part = SHIPPED["int8"].quantized["encoder"]
    assert replace(part, rest="fp32").for_table() == part.for_table()
    dynamic, plain = (replace(part, layers={**part.layers, "LSTM": x}) for x in ("int8", "fp16"))
    assert dynamic.for_table() == plain.for_table() != part.for_table()
    other = replace(part, table=Table("percentile"))
    assert other.for_table() != part.for_table()
    # The quantized files depend on the rest, and on these options by the table only.
    assert other.for_layers() == part.for_layers()
    assert replace(part, rest="fp32").for_layers() != part.for_layers()


def test_parts_survive_json() -> None:
    part = Part({"linear_*": "int8-table"}, ("conv_1",), "fp32", Table("percentile", 99.0, True))
    assert Part.from_json(part.to_json()) == part


@pytest.mark.parametrize("recipe", list(SHIPPED))
def test_recipes_that_ship_name_formats_that_can_store_their_layers(recipe: str) -> None:
    for part in SHIPPED[recipe].quantized.values():
        for selector, name in part.layers.items():
            types = FORMATS[name].TYPES
            assert types is None or type_of(selector) in types


@pytest.mark.parametrize("part", ["encoder", "joiner"])
def test_the_default_int8_is_what_ncnns_tools_make(part: str, tmp_path: Path) -> None:
    """By the scripts themselves, with the input scales that the tool found."""
    lstm = "-lstm" if part == "encoder" else ""
    golden = scale_table.read(INT8 / f"{part}-scale-table{lstm}.txt")
    recipe = SHIPPED["int8"].quantized[part]
    graph = param.read(INT8 / f"{part}.ncnn.param")
    tabled = recipe.assign((layer.name, layer.type) for layer in graph.layers)
    found = quantize.weight_scales(
        graph,
        weights.read(graph, INT8 / f"{part}.ncnn.bin"),
        set(quantize.QUANTIZED),
        [layer.name for layer in graph.layers if layer.name not in tabled],
    )
    scale_table.write(tmp_path / "table.txt", ScaleTable(found, golden.inputs))
    expected = (INT8 / f"{part}-scale-table{lstm}.txt").read_bytes()
    assert (tmp_path / "table.txt").read_bytes() == expected
    command = [sys.executable, "-m", "workflow_scripts.quantize", "--precision", "int8"]
    command += ["--part", part, "--recipe", recipe.to_json(), "--table", tmp_path / "table.txt"]
    command += ["--network", *(INT8 / f"{part}.ncnn.{kind}" for kind in ("param", "bin"))]
    command += ["--output", *(tmp_path / f"x.{kind}" for kind in ("param", "bin"))]
    subprocess.run(command, cwd=ROOT, check=True)
    made = (INT8 / f"{part}.int8{lstm}.bin").read_bytes()
    assert (tmp_path / "x.bin").read_bytes() == made
