"""Layers by their names, ncnn's and PyTorch's: paired, kept, listed, and missing ones refused."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import GOLDEN, ROOT, Export

from transducer2ncnn.base import files
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.engines import pytorch
from transducer2ncnn.families import model
from transducer2ncnn.formats import param
from transducer2ncnn.formats.layers import WEIGHTED
from transducer2ncnn.quantization import layerwise, pairing
from transducer2ncnn.quantization.recipes import Part
from transducer2ncnn.workflow import config, kept, targets

LAYERS = [("conv_1", "Convolution"), ("linear_2", "InnerProduct"), ("linear_3", "InnerProduct")]
MODULES = {
    "conv_1": "encoder.embed.conv",
    "linear_2": "encoder.layers.0.out",
    "linear_3": "encoder.layers.1.out",
}


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (("linear_2",), {"conv_1", "linear_3"}),
        (("encoder.layers.0.out",), {"conv_1", "linear_3"}),
        (("layers.0.out",), {"conv_1", "linear_3"}),
        (("encoder.layers.*",), {"conv_1"}),
        (("layers.?.out", "conv_1"), set()),
        (("linear_*",), {"conv_1"}),
    ],
)
def test_a_layer_is_kept_by_any_of_its_names(keep: tuple[str, ...], left: set[str]) -> None:
    part = Part({"Convolution": "int8", "InnerProduct": "int8"}, keep=keep)
    assert set(part.assign(LAYERS, MODULES)) == left


def test_pytorchs_names_select_formats_too() -> None:
    changes = {"encoder.layers.*": "fp16", "layers.1.out": "fp32", "InnerProduct#1": "int8"}
    assigned = Part({}, changes).assign(LAYERS, MODULES)
    assert assigned == {"linear_2": "int8", "linear_3": "fp32"}


@pytest.mark.parametrize(
    "part", [Part({}, keep=("encoder.layers.2.out",)), Part({}, {"encoder.layers.2.out": "fp16"})]
)
def test_a_name_that_no_layer_has_is_answered_with_those_that_there_are(part: Part) -> None:
    with pytest.raises(UserError, match=r"encoder\.layers\.2\.out") as caught:
        part.assign(LAYERS, MODULES)
    rows = [line.split() for line in str(caught.value).splitlines()[1:]]
    assert rows == [[name, type_, MODULES[name]] for name, type_ in LAYERS]


def described(exported: Export) -> dict[str, Any]:
    executed = pytorch.executed(exported.network)
    return {"modules": {part: [f"{k} {name}" for k, name in of] for part, of in executed.items()}}


def test_layers_are_paired_as_the_verification_pairs_them(exported: Export) -> None:
    for part in PARTS:
        graph = param.read(exported.files("fp32")[part][0])
        probed = layerwise.pytorch_names(exported.reference, part, graph)
        found = pairing.modules(graph, described(exported), part)
        assert found == {layer: f"{part}.{name}" for layer, (_, name) in probed.items()}
        assert set(found) == {layer.name for layer in graph.layers if layer.type in WEIGHTED}


def test_those_of_another_model_are_not_paired(exported: Export) -> None:
    graph = param.read(exported.files("fp32")["encoder"][0])
    description = described(exported)
    assert pairing.modules(graph, {}, "encoder") == {}
    for changed in (
        description["modules"]["encoder"][1:],
        ["LSTM x", *description["modules"]["encoder"][1:]],
    ):
        with pytest.raises(UserError, match="the modules of the encoder .* are not those of"):
            pairing.modules(graph, {"modules": {"encoder": changed}}, "encoder")


@pytest.mark.parametrize("converted", [False, True])
def test_names_are_looked_for_before_a_run(exported: Export, converted: bool) -> None:
    folder = exported.folder / "fp32" if converted else exported.folder / "nowhere"
    modules = model.weighted_modules(GOLDEN / exported.name / "pretrained.pt", "lstm")
    graph = param.read(exported.files("fp32")["encoder"][0])
    name = next(layer.name for layer in graph.layers if layer.type == "LSTM")

    def check(*keep: str, **changes: str) -> None:
        how = Part({}, changes, keep=keep)
        kept.check(modules, {"mine": {"encoder": how}}, folder)

    check("encoder.encoder.layers.0.lstm", "encoder.layers.1.*", name, LSTM="fp16")
    for wrong in ("encoder.encoder.layers.9.lstm", "output_linear", "joiner.output_linear"):
        with pytest.raises(UserError, match=rf"precisions.mine, the encoder: .* {wrong!r}") as e:
            check(wrong)
        assert "\n  encoder.encoder.layers.0.lstm" in str(e.value)
        assert (f"\n  {name}\n" in str(e.value)) == converted
    # What only ncnn can tell is told once the model is converted.
    if converted:
        with pytest.raises(UserError, match="no layer with weights is called 'linear_99'"):
            check("linear_99")
    else:
        check("linear_99", "linear_9*")
    # Files of another model tell nothing.
    fewer = {"encoder": modules["encoder"][1:]}
    kept.check(fewer, {"mine": {"encoder": Part({}, keep=("linear_99",))}}, folder)


def test_they_are_listed(exported: Export, tmp_path: Path) -> None:
    files.write_json(tmp_path / "model.json", described(exported))
    command = [sys.executable, "-m", "workflow_scripts.tabulate_layers"]
    for part, pair in exported.files("fp32").items():
        command += [f"--{part}", *map(str, pair)]
    command += ["--description", str(tmp_path / "model.json"), "--output", str(tmp_path / "x.tsv")]
    subprocess.run(command, cwd=ROOT, check=True)
    with open(tmp_path / "x.tsv", encoding="utf-8") as f:
        rows = list(csv.DictReader(f, delimiter="\t"))
    assert {row["part"] for row in rows} == set(PARTS)
    (output,) = [row for row in rows if row["PyTorch"] == "joiner.output_linear"]
    sizes = exported.sizes
    assert output["type"] == "InnerProduct"
    assert int(output["weights"]) == (sizes.joiner_dim + 1) * sizes.vocab_size


@pytest.fixture
def stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Config:
    monkeypatch.chdir(tmp_path)
    for name in ("x.pt", "tokens.txt", "a.wav"):
        (tmp_path / name).touch()
    mine = {"checkpoint": "x.pt", "tokens": "tokens.txt", "test_wavs": "a.wav"}
    release = {"version": "1", "license": "mit", "language": "en"}
    theirs = mine | {"on_request": True, "precisions": ["fp16"], "release": release}
    models = {"mine": mine, "theirs": theirs}
    own = {"small": {"recipe": "int8-small"}, "fp16": {}}
    return config.parse({"models": models, "precisions": own})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mine", "Ask for the model as results/mine."),
        ("./results/mine", "Ask for it as results/mine."),
        ("{here}/results/mine/sherpa-ncnn/fp16", "Ask for it as results/mine/sherpa-ncnn/fp16."),
        (
            "results/theirs/release/published.json",
            "models.theirs.release.repo_id: missing. Expected",
        ),
        ("results", "Expected results/<model>. Models: mine, theirs."),
        ("results/mien", "no model 'mien'. Did you mean 'mine'? Models: mine, theirs."),
        ("results/nosuch/sherpa-ncnn/fp16", "no model 'nosuch'. Models: mine, theirs."),
        (
            "results/mine/sherpa-ncnn/smal/",
            "no precision 'smal'. Did you mean 'small'? Precisions: fp32, fp16, int8, "
            "int8-accurate, int8-small, int8-table, small; mine is exported in small, fp16.",
        ),
        ("results/mine/nosuch.bin", "Of mine there are results/mine, results/mine/sherpa-ncnn/<p"),
        ("nosuch", "or one of all, list_models. Models: mine, theirs."),
        ("x" * 5000, "nothing makes this"),
    ],
)
def test_what_nothing_makes_is_answered_with_what_there_is(
    stated: config.Config, target: str, message: str
) -> None:
    target = target.replace("{here}", str(Path.cwd()))
    said = targets.explain(target, stated, ["list_models", "all"])
    assert message in said and len(said) < 1000


def test_models_and_precisions_are_listed(stated: config.Config) -> None:
    said = "\n".join(targets.listing(stated))
    assert "  mine                     lstm; file; in small, fp16\n" in said
    assert "only where a target names it" in said
    assert "made of int8-small; takes test_wavs or calibration_wavs" in said
    assert "int8-table               takes calibration_wavs; not in the configuration" in said
