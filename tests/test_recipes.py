"""Recipes: which layer gets which format, and that the default one is what the tools make."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import GOLDEN, ROOT, stored

from transducer2ncnn.base import layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import write_json
from transducer2ncnn.families import model
from transducer2ncnn.formats import param, scale_table, weights
from transducer2ncnn.formats.scale_table import ScaleTable
from transducer2ncnn.quantization import agreement, quantize
from transducer2ncnn.quantization.layer_formats import FORMATS
from transducer2ncnn.quantization.recipes import SHIPPED, Part, Recipe, Table, type_of
from transducer2ncnn.speech import audio

INT8 = GOLDEN / "int8"
DIGITS = ROOT / "models" / "digits"

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


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"linear_1": "int8-grouped", "linear_10": "int8-dynamic", "lstm_1": "int8"}),
        # A user's type counts more than a recipe's number.
        (
            {"InnerProduct": "fp16"},
            {"linear_1": "fp16", "linear_10": "fp16", "lstm_1": "int8"},
        ),
        (
            {"*": "fp16", "InnerProduct#2": "int8-dynamic"},
            {x: "fp16" for x in ("conv_1", "conv_2", "linear_1", "lstm_1")}
            | {"linear_10": "int8-dynamic"},
        ),
    ],
)
def test_what_is_changed_counts_more_than_the_recipe(
    changes: dict[str, str], expected: dict[str, str]
) -> None:
    assert replace(SHIPPED["int8"].quantized["encoder"], changes=changes).assign(LAYERS) == expected


def test_a_recipe_fits_networks_that_lack_some_of_its_layers() -> None:
    assert SHIPPED["int8"].quantized["encoder"].assign(LAYERS[:4]) == {}


def test_what_is_kept_is_the_rest_whatever_selects_it() -> None:
    part = Part({"Convolution": "int8-table", "conv_2": "int8-table"}, keep=("conv_2",))
    assert part.assign(LAYERS) == {"conv_1": "int8-table"}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part({}, {"linear_9": "fp16"}), "linear_9: no layer with weights is called so"),
        (Part({}, {"relu_1": "fp16"}), "relu_1: no layer with weights"),
        (Part({}, {"Convolutio": "fp16", "conv_*": "fp16"}), "^Convolutio: no layer"),
        (Part({}, {"Convolution#3": "fp16"}), "Convolution#3: no layer"),
        (Part({}, {"gemm_*": "fp16"}), r"gemm_\*: no layer"),
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
    part = SHIPPED["int8-table"].quantized["encoder"]
    assert replace(part, rest="fp32").for_table() == part.for_table()
    dynamic, plain = (replace(part, layers={**part.layers, "LSTM": x}) for x in ("int8", "fp16"))
    assert dynamic.for_table() == plain.for_table() != part.for_table()
    other = replace(part, table=Table("percentile"))
    assert other.for_table() != part.for_table()
    # The quantized files depend on the rest, and on these options by the table only.
    assert other.for_layers() == part.for_layers()
    assert replace(part, rest="fp32").for_layers() != part.for_layers()


def test_parts_survive_json() -> None:
    table = Table("percentile", 99.0, True)
    part = Part({"InnerProduct": "fp16"}, {"linear_*": "int8-table"}, ("conv_1",), "fp32", table)
    assert Part.from_json(part.to_json()) == part


@pytest.mark.parametrize("recipe", list(SHIPPED))
def test_recipes_that_ship_name_formats_that_can_store_their_layers(recipe: str) -> None:
    for part in SHIPPED[recipe].quantized.values():
        for selector, name in part.layers.items():
            types = FORMATS[name].TYPES
            assert types is None or type_of(selector) in types


@pytest.mark.parametrize("part", ["encoder", "joiner"])
def test_int8_table_is_what_ncnns_tools_make(part: str, tmp_path: Path) -> None:
    """By the scripts themselves, with the input scales that the tool found."""
    lstm = "-lstm" if part == "encoder" else ""
    golden = scale_table.read(INT8 / f"{part}-scale-table{lstm}.txt")
    recipe = SHIPPED["int8-table"].quantized[part]
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
    done = store(tmp_path, part, recipe, "lstm", "--table", str(tmp_path / "table.txt"))
    assert done.returncode == 0, done.stderr
    made = (INT8 / f"{part}.int8{lstm}.bin").read_bytes()
    assert (tmp_path / "x.bin").read_bytes() == made


def store(
    folder: Path, part: str, recipe: Part, family: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run the script on a golden LSTM, which is said to be of a family."""
    golden = {"lstm": INT8, "zipformer": GOLDEN / "zipformer"}[family] / "pretrained.pt"
    settings = {"decode_chunk_len": 32, "num_left_chunks": 4} if family == "zipformer" else {}
    write_json(folder / "model.json", model.inspect(golden, family, settings=settings)[1])
    command = [sys.executable, "-m", "workflow_scripts.quantize", "--precision", "p"]
    command += ["--part", part, "--recipe", recipe.to_json(), *options]
    command += ["--description", str(folder / "model.json")]
    command += ["--network", *(str(INT8 / f"{part}.ncnn.{kind}") for kind in ("param", "bin"))]
    command += ["--output", *(str(folder / f"x.{kind}") for kind in ("param", "bin"))]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_an_lstm_that_is_taken_apart_for_several_frames_is_refused(tmp_path: Path) -> None:
    """There is no such family yet: the graph is an LSTM's, and a Zipformer's chunk is of 8."""
    recipe = SHIPPED["int8-small"].quantized["encoder"]
    done = store(tmp_path, "encoder", recipe, "zipformer")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert re.search(r"precisions\.p, the encoder, of .*: layer lstm_\d+: .* Use int8", done.stderr)
    assert not (tmp_path / "x.bin").exists()
    done = store(tmp_path, "encoder", recipe, "lstm")
    assert done.returncode == 0, done.stderr
    types = {layer.type for layer in param.read(tmp_path / "x.param").layers}
    assert "Gemm" in types and not types & {"InnerProduct", "LSTM"}


@pytest.mark.parametrize(
    ("recipe", "snr", "kib"),
    [("int8", 40, 1230), ("int8-accurate", 42, 1520), ("int8-small", 40, 1180)],
)
def test_how_close_they_come_on_real_words(
    recipe: str, snr: float, kib: float, digits: Path, tmp_path: Path
) -> None:
    """On the model that ships, which was never calibrated."""
    fp32 = layout.ncnn_files(digits / "fp32")
    files = stored(fp32, SHIPPED[recipe], tmp_path)
    description = model.inspect(DIGITS / "pretrained.pt", "lstm")[1]
    wavs = sorted((DIGITS / "test_wavs").glob("*.wav"))
    found = agreement.compare(fp32, files, description, {f.name: audio.read(f) for f in wavs})
    assert found["encoder_snr_db"] > snr
    assert found["all"]["emitting_frames"] > 50
    assert found["all"]["differing_frames"] == found["token_edits"] == 0
    assert files["encoder"][1].stat().st_size <= kib * 1024
