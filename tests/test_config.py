"""config.yaml: what is wrong is named by its key, with what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.quantization.recipes import SHIPPED, Part, Table
from transducer2ncnn.workflow import config


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wavs").mkdir()
    (tmp_path / "exp").mkdir()
    for name in ("exp/epoch-1.pt", "exp/epoch-2.pt"):
        (tmp_path / name).touch()
    for name in ("x.pt", "tokens.txt", "texts.tsv", "empty.txt", "wavs/b.wav", "wavs/a.wav"):
        (tmp_path / name).touch()


def minimal(**model: Any) -> dict[str, Any]:
    return {"models": {"m": {"checkpoint": "x.pt", "tokens": "tokens.txt"} | model}}


def exp_dir(**model: Any) -> dict[str, Any]:
    keys = {"source": "exp_dir", "exp_dir": "exp", "tokens": "tokens.txt"}
    return {"models": {"m": keys | model}}


def hub(**model: Any) -> dict[str, Any]:
    keys = {"repo_id": "a/b", "checkpoint": "exp/x.pt", "tokens": "tokens.txt"}
    return {"models": {"m": {"source": "huggingface"} | keys | model}}


def test_defaults() -> None:
    parsed = config.parse(minimal())
    assert parsed.precisions_of("m") == ["fp32", "fp16"]
    assert parsed.models["m"].family == "lstm"
    assert parsed.models["m"].test_wavs == []


def test_each_source_has_its_keys() -> None:
    trained = config.parse(exp_dir(epoch=2, avg=2)).models["m"]
    assert trained.checkpoints() == ["exp/epoch-1.pt", "exp/epoch-2.pt"]
    # What is in a repository is not looked for here.
    remote = config.parse(hub(test_wavs="wavs/*.wav")).models["m"]
    assert (remote.revision, remote.test_wavs) == ("main", ["wavs/*.wav"])


def test_a_model_may_choose_its_precisions_and_wavs() -> None:
    parsed = config.parse(minimal(precisions=["fp16"], test_wavs=["wavs/*.wav", "wavs/a.wav"]))
    assert parsed.precisions_of("m") == ["fp16"]
    assert parsed.models["m"].test_wavs == ["wavs/a.wav", "wavs/b.wav"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "models: missing. Expected"),
        ({"models": {}}, "models: .*at least 1 item"),
        (minimal() | {"precision": {}}, "precision: unknown key. Did you mean `precisions`"),
        (minimal(chekpoint="x.pt"), "models.m.chekpoint: unknown key. Did you mean `checkpoint`"),
        ({"models": {"m": {"tokens": "tokens.txt"}}}, "models.m.checkpoint: missing. Expected the"),
        (minimal(checkpoint="y.pt"), "models.m.checkpoint: there is no file 'y.pt'"),
        (minimal(checkpoint=3), "models.m.checkpoint: .*valid string; found 3"),
        (minimal(family="gru"), "models.m.family: expected one of .*lstm.*; found 'gru'"),
        (
            minimal(test_wavs="s3://bucket/*.wav"),
            "models.m.test_wavs: expected an address such as s3://bucket/folder/file; found",
        ),
        (minimal(checkpoint="s3://bucket"), "models.m.checkpoint: expected an address such as"),
        (minimal(test_wavs="nowhere/*.wav"), "models.m.test_wavs: no file matches 'nowhere"),
        (
            minimal(sizes={"encoder_dim": "big"}),
            "models.m.sizes.encoder_dim: .*integer; found 'big'",
        ),
        (minimal(precisions=["int4"]), "models.m.precisions: 'int4' is not configured. Expected"),
        (minimal() | {"precisions": {"fp32": {"tolerence": 1}}}, "fp32.tolerence: .*`tolerance`"),
        (minimal() | {"precisions": {"fp32": {"tolerance": 0}}}, "tolerance: .*greater than 0"),
        (minimal() | {"verification": {"lengths": [5]}}, "lengths.0: .*greater than or equal to 9"),
        (minimal() | {"transcription": {"threads": True}}, "transcription.threads: .*integer"),
        ({"models": {"../m": minimal()["models"]["m"]}}, "'../m' cannot name a model"),
        ({"models": {"a/b": minimal()["models"]["m"]}}, "'a/b' cannot name a model"),
        ({"models": [1]}, "models: .*dict"),
        (minimal() | {"precisions": {}}, "precisions: empty"),
        (minimal(tokens=None), "models.m.tokens: missing. Expected the model's tokens.txt, or in"),
        (minimal(source="git"), "models.m.source: expected one of file, exp_dir, huggingface; f"),
        (minimal(source=["file"]), r"models.m.source: expected one of .*found \['file'\]"),
        ({"models": {"m": "x.pt"}}, "models.m: .*dictionary.*found 'x.pt'"),
        (minimal(repo_id="a/b"), "models.m.repo_id: unknown key. .*Known here: family"),
        (exp_dir(), "models.m: expected one of `epoch` and `iter`; found neither"),
        (exp_dir(epoch=1, iter=1), "models.m: expected one of `epoch` and `iter`; found both"),
        (exp_dir(epoch=3), "models.m.epoch: exp has no epoch-3.pt. There: epoch-1.pt, epoch-2.pt"),
        (exp_dir(iter=9), "models.m.iter: exp has 0 of the 1 checkpoints"),
        (exp_dir(epoch=0), "models.m.epoch: .*greater than or equal to 1"),
        (exp_dir(epoch=1, exp_dir="nowhere"), "models.m.exp_dir: there is no folder 'nowhere'"),
        (exp_dir(epoch=1, use_averaged_model=1), "models.m.use_averaged_model: .*boolean; found 1"),
        (hub(repo_id="x"), "models.m.repo_id: expected <owner>/<name>.*found 'x'"),
        (hub(repo_id="../../x"), "models.m.repo_id: expected <owner>/<name>"),
        (hub(checkpoint="/x.pt"), "models.m.checkpoint: expected a path in the repository"),
        (hub(tokens="../x"), "models.m.tokens: expected a path in the repository"),
        (hub(test_wavs=["a/../*.wav"]), "models.m.test_wavs.0: expected a path in the repository"),
        (
            minimal() | {"precisions": {"mine": {}}},
            "precisions.mine.recipe: missing. Expected the recipe that mine starts from, one",
        ),
        (
            minimal() | {"precisions": {"mine": {"recipe": "int4"}}},
            "precisions.mine.recipe: found 'int4'. Expected the recipe",
        ),
        (minimal() | {"precisions": {"mine": 3}}, "precisions: expected for mine keys .*found 3"),
        (minimal() | {"precisions": {"a/b": {"recipe": "int8"}}}, "'a/b' cannot name a precision"),
        (
            minimal() | {"precisions": {"headroom": {"recipe": "int8"}}},
            "'headroom' cannot name a precision: it names other files",
        ),
        (
            minimal() | {"precisions": {"target-max": {"recipe": "int8"}}},
            "'target-max' cannot name a precision: it names other files",
        ),
        (minimal() | {"targets": ["pentium"]}, "targets.0: input should be 'cortex-a53'"),
        (minimal() | {"precisions": {"speed": {"recipe": "fp16"}}}, "'speed' cannot name a prec"),
        (minimal() | {"precisions": {"fp16": {"recipe": "int8"}}}, "fp16 is plain fp16 and cannot"),
        (minimal() | {"precisions": {"int8": {"tolerance": 0.1}}}, "int8.tolerance: unknown key"),
        (minimal() | {"precisions": {"int8": {"encoder": "int4"}}}, "int8.encoder: .*found 'int4'"),
        (
            minimal() | {"precisions": {"int8": {"encoder": {"Convolution": "int4"}}}},
            "precisions.int8.encoder: expected for Convolution one of fp32.*; found 'int4'",
        ),
        (
            minimal() | {"precisions": {"int8": {"joiner": {"LSTM#2": "int8-dynamic"}}}},
            "precisions.int8.joiner: LSTM cannot be stored as int8-dynamic; expected one of fp32",
        ),
        (
            minimal() | {"precisions": {"int8": {"encoder": {"Convolution#0": "fp16"}}}},
            "precisions.int8.encoder: expected a type and a number from 1 on.*'Convolution#0'",
        ),
        (minimal() | {"precisions": {"int8": {"keep": {"encode": ["x"]}}}}, "keep.encode: .*'enc"),
        (
            minimal() | {"precisions": {"int8": {"shards": 3}}, "calibration": {"shards": 2}},
            "precisions.int8.shards is 3, calibration.shards is 2",
        ),
        (
            minimal() | {"precisions": {"int8": {"thresholds": "percentile"}}},
            "precisions.int8.thresholds: int8 has no scale table. Expected .* recipe int8-table",
        ),
        (minimal() | {"precisions": {"int8": {"rest": "int4"}}}, "precisions.int8.rest: .*'int4'"),
        (
            minimal() | {"precisions": {"mine": {"auto": {}}}},
            "precisions.mine.auto: expected a budget, one or more of max_differing_frames, min_agr",
        ),
        (
            minimal() | {"precisions": {"mine": {"auto": {"max_rises": 0.1}}}},
            "precisions.mine.auto.max_rises: unknown key. Did you mean `max_rise`.*minimise, sec",
        ),
        (
            minimal() | {"precisions": {"mine": {"auto": {"max_rise": 0.1}, "recipe": "int8"}}},
            "precisions.mine.recipe: unknown key. Known here: min_agreement",
        ),
        (
            minimal() | {"precisions": {"fp16": {"auto": {"max_rise": 0.1}}}},
            "fp16 is plain fp16 and cannot",
        ),
        (
            minimal(test_wavs="wavs/*.wav") | {"precisions": {"mine": {"auto": {"max_rise": 0.2}}}},
            "precisions.mine.auto.max_rise: m has no `evaluation`.* max_differing_frames or min_",
        ),
        (minimal(calibration_wavs="empty.txt"), "calibration_wavs: no file matches 'empty.txt'"),
        (minimal(evaluation="gone.tsv"), "models.m.evaluation: there is no file or folder 'gone"),
        (minimal(evaluation="x.pt"), "models.m.evaluation: x.pt: expected a table"),
        (minimal(evaluation="wavs"), "models.m.evaluation: wavs: is a folder, but not Kaldi's"),
        (minimal() | {"evaluation": {"decoding": "beam"}}, "evaluation.decoding: .*found 'beam'"),
        (minimal() | {"evaluation": {"shard": 2}}, "evaluation.shard: .*mean `shards`"),
        (minimal() | {"evaluation": {"max_rise": {"fp16": -1.0}}}, "max_rise.fp16: .*equal to 0"),
        (minimal() | {"evaluation": {"max_rise": {"int4": 1.0}}}, "max_rise.int4: no model is ev"),
        (
            minimal() | {"evaluation": {"max_rise": {"fp16": 1.0}}},
            "evaluation.max_rise.fp16: no model is evaluated in fp16",
        ),
    ],
)
def test_what_is_wrong_is_named(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.parse(raw)


def test_an_evaluation() -> None:
    gated = {"evaluation": {"max_rise": {"fp16": 0.5}}}
    parsed = config.parse(minimal(evaluation="texts.tsv") | gated)
    assert parsed.models["m"].evaluation == "texts.tsv"
    assert parsed.evaluation.max_rise == {"fp16": 0.5}
    assert parsed.evaluation.decoding == "greedy_search"
    assert config.parse(minimal()).models["m"].evaluation is None


@pytest.mark.parametrize(
    ("wavs", "found"),
    [
        ("wavs", ["wavs/a.wav", "wavs/b.wav"]),
        ("list.txt", ["wavs/b.wav"]),
        (["wavs/a*", "list.txt"], ["wavs/a.wav", "wavs/b.wav"]),
    ],
)
def test_wavs_are_a_pattern_a_folder_or_a_list(tmp_path: Path, wavs: Any, found: list[str]) -> None:
    (tmp_path / "list.txt").write_text("wavs/b.wav\n\n")
    assert config.parse(minimal(calibration_wavs=wavs)).models["m"].calibration_wavs == found


def test_what_is_in_a_storage_is_not_looked_for_here(tmp_path: Path) -> None:
    address = "s3://bucket/folder/x"
    (tmp_path / "list.txt").write_text(f"wavs/b.wav\n{address}\n")
    parsed = config.parse(minimal(checkpoint=address, calibration_wavs="list.txt")).models["m"]
    assert parsed.checkpoints() == [address]
    assert not parsed.here()
    assert parsed.calibration_wavs == [address, "wavs/b.wav"]


def test_test_wavs_are_as_many_as_a_command_can_name() -> None:
    many = [f"s3://bucket/{i:05}.wav" for i in range(10_000)]
    assert len(config.parse(minimal(calibration_wavs=many)).models["m"].calibration_wavs) == 10_000
    with pytest.raises(UserError, match="models.m.test_wavs: 10000 recordings are more than one"):
        config.parse(minimal(test_wavs=many))


def test_what_is_calibrated_is_exported_where_there_is_something_to_calibrate_on() -> None:
    assert config.parse(minimal()).precisions_of("m") == ["fp32", "fp16"]
    assert config.parse(minimal(calibration_wavs="wavs")).precisions_of("m") == [
        "fp32",
        "fp16",
        "int8",
    ]
    both = {"precisions": {"int8": {}, "int8-table": {}}}
    assert config.parse(minimal(test_wavs="wavs") | both).precisions_of("m") == ["int8"]
    assert config.parse(minimal(calibration_wavs="wavs") | both).precisions_of("m") == list(
        both["precisions"]
    )
    with pytest.raises(UserError, match=r"calibration_wavs: missing. Expected .* for int8-table"):
        config.parse(minimal(precisions=["int8-table"]))
    with pytest.raises(
        UserError, match=r"test_wavs: missing. Expected .* that int8 can be compared"
    ):
        config.parse(minimal(precisions=["int8"]))


def test_recipes_that_ship_can_be_named_without_being_configured() -> None:
    named = minimal(test_wavs="wavs", precisions=["int8-small", "fp16"])
    assert config.parse(named).precisions_of("m") == ["int8-small", "fp16"]
    # What is configured counts.
    stated = {"precisions": {"int8-small": {"min_agreement": 0.5}}}
    assert config.parse(named | stated).known_precisions()["int8-small"].min_agreement == 0.5
    assert set(config.parse(named | stated).known_precisions()) == set(SHIPPED)
    with pytest.raises(UserError, match="'int8-big' is not configured. Expected one of fp32, fp16"):
        config.parse(minimal(precisions=["int8-big"]))


def test_what_needs_no_calibration_takes_recordings_to_be_compared_on() -> None:
    """The decoder's embedding, and linear layers with inputs as they come, are not calibrated."""
    joiner = {"InnerProduct": "int8-dynamic", "Convolution": "fp16"}
    mine = {"recipe": "int8-table", "encoder": "fp16", "decoder": "int8", "joiner": joiner}
    stated = {"precisions": {"mine": mine, "fp16": {}}}
    assert not config.parse(minimal() | stated).precisions["mine"].to_recipe().calibrated
    assert config.parse(minimal() | stated).precisions_of("m") == ["fp16"]
    heard = minimal(test_wavs="wavs") | stated
    assert config.parse(heard).precisions_of("m") == ["mine", "fp16"]
    with pytest.raises(UserError, match=r"models.m.test_wavs: missing. Expected .* that mine can"):
        config.parse(minimal(precisions=["mine"]) | stated)


def test_defaults_are_those_of_the_recipe() -> None:
    stated = {"fp16": {}, "int8": {}, "half": {"recipe": "fp16", "tolerance": 0.5}}
    parsed = config.parse(minimal() | {"precisions": stated}).precisions
    assert list(parsed) == ["fp16", "int8", "half"]
    assert (parsed["fp16"].tolerance, parsed["half"].tolerance) == (2e-2, 0.5)
    assert parsed["half"].to_recipe() == parsed["fp16"].to_recipe() == SHIPPED["fp16"]
    assert parsed["int8"].to_recipe() == SHIPPED["int8"]
    # Which leaves out what a file before it asks for.
    assert list(
        config.parse(minimal() | {"precisions": {"fp16": {}, "int8": None}}).precisions
    ) == ["fp16"]


def test_an_old_configuration_of_int8_means_what_it_did() -> None:
    old = {
        "encoder": "int8",
        "decoder": "int8",
        "joiner": "fp32",
        "lstm": False,
        "keep": {"encoder": ["linear_8"]},
        "rest": "fp32",
        "min_agreement": 0.5,
        "shards": 3,
    }
    parsed = config.parse(minimal() | {"precisions": {"int8": old}})
    recipe = parsed.precisions["int8"].to_recipe()
    assert parsed.calibration_shards() == 3
    assert recipe.plain == {"joiner": "fp32"}
    encoder = {"InnerProduct": "int8-dynamic", "InnerProduct#1": "int8-grouped"}
    assert recipe.quantized_parts == {
        "encoder": Part(encoder, keep=("linear_8",), rest="fp32"),
        "decoder": Part({"Embed": "int8"}, rest="fp32"),
    }
    assert not recipe.calibrated
    # And by the way that int8 was made before.
    old["recipe"] = "int8-table"
    recipe = config.parse(minimal() | {"precisions": {"int8": old}}).precisions["int8"].to_recipe()
    table = "int8-table"
    encoder = dict.fromkeys(("Convolution", "InnerProduct"), table)
    assert recipe.quantized_parts == {
        "encoder": Part(encoder, keep=("linear_8",), rest="fp32"),
        "decoder": Part({"Embed": table}, rest="fp32"),
    }
    assert recipe.calibrated and not recipe.quantized["decoder"].calibrated


def test_a_precision_of_ones_own_overrides_its_recipe() -> None:
    mine = {
        "recipe": "int8-table",
        "encoder": {"InnerProduct": "int8-dynamic", "conv_*": "fp16"},
        "thresholds": "percentile",
        "percentile": 99.99,
    }
    recipe = config.parse(minimal() | {"precisions": {"mine": mine}}).precisions["mine"].to_recipe()
    encoder, shipped = recipe.quantized["encoder"], SHIPPED["int8-table"].quantized["encoder"]
    assert encoder.layers == shipped.layers
    assert encoder.changes == {"InnerProduct": "int8-dynamic", "conv_*": "fp16"}
    assert encoder.table == Table("percentile", 99.99)
    assert recipe.plain == {"decoder": "fp16"}


def test_all_that_is_wrong_is_in_one_message() -> None:
    with pytest.raises(UserError) as caught:
        config.parse(
            minimal(checkpoint="y.pt", chekpoint="x.pt") | {"verification": {"segments": 0}}
        )
    assert len(str(caught.value).splitlines()) == 4
