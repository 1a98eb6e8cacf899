"""config.yaml: what is wrong is named by its key, with what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.quantization.recipes import SHIPPED, Part, Table
from transducer2ncnn.workflow import config, yaml_file


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
    # A key that only one of them has says which it is.
    for raw in (exp_dir(epoch=1), hub()):
        stated = config.parse(raw)
        del raw["models"]["m"]["source"]
        assert config.parse(raw) == stated


RELEASE = {"version": "1", "license": "mit", "language": "en"}


def test_a_release_has_what_a_person_stated() -> None:
    parsed = config.parse(minimal(release=RELEASE | {"version": date(2026, 11, 25)}))
    release = parsed.models["m"].release
    assert release is not None
    # What YAML makes of a date.
    assert (release.version, release.language, release.private) == ("2026-11-25", ["en"], True)
    assert parsed.released("m") == ["fp16"]
    assert config.parse(minimal()).released("m") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"language": False}, "release.language: expected a code such as en, Norwegian in quotes"),
        ({"license": None}, "models.m.release.license: expected a text"),
        ({"licence": "mit"}, "models.m.release.licence: unknown key. Did you mean `license`?"),
        ({"license": "other"}, "expected `license_name` and `license_link` with the license other"),
        ({"language": "English"}, "expected a code of two or three letters"),
        ({"language": []}, "models.m.release.language: expected at least 1 in it"),
        ({"version": 1.10}, 'models.m.release.version: expected a text, in quotes: "1.1"'),
        ({"version": "../../x"}, "models.m.release.version: expected letters, digits"),
        ({"name": "a/b"}, "models.m.release.name: expected letters, digits"),
        ({"repo_id": "../x"}, "models.m.release.repo_id: expected <owner>/<name>"),
        ({"revision": "a b"}, "models.m.release.revision: expected a branch"),
        ({"template": "card.md"}, "models.m.release.template: there is no file 'card.md'"),
        (
            {"precisions": ["int8"]},
            "the model is not exported in 'int8'. Expected some of fp32",
        ),
        (
            {"precisions": ["fp32", "fp16"]},
            "fp16 and fp32 both have a encoder_jit_trace-pnnx.ncnn.bin",
        ),
        ({"evaluated_on": {"dataset": "x"}}, "models.m.release.evaluated_on.name: missing"),
    ],
)
def test_what_is_wrong_with_a_release_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        config.parse(minimal(release=RELEASE | changes))


@pytest.mark.parametrize("key", RELEASE)
def test_what_a_release_needs_is_asked_for(key: str) -> None:
    stated = {k: v for k, v in RELEASE.items() if k != key}
    with pytest.raises(UserError, match=rf"models\.m\.release\.{key}: missing\. Expected"):
        config.parse(minimal(release=stated))


def test_published_error_rates_are_of_something() -> None:
    stated = minimal(release=RELEASE, evaluation="texts.tsv")
    with pytest.raises(UserError, match=r"models\.m\.release\.evaluated_on: missing"):
        config.parse(stated)


def test_a_model_may_choose_its_precisions_and_wavs() -> None:
    parsed = config.parse(minimal(precisions=["fp16"], test_wavs=["wavs/*.wav", "wavs/a.wav"]))
    assert parsed.precisions_of("m") == ["fp16"]
    assert parsed.models["m"].test_wavs == ["wavs/a.wav", "wavs/b.wav"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "models: missing. Expected"),
        ({"models": {}}, "models: expected at least 1 in it; found nothing"),
        (minimal() | {"precision": {}}, "precision: unknown key. Did you mean `precisions`"),
        (minimal(chekpoint="x.pt"), "models.m.chekpoint: unknown key. Did you mean `checkpoint`"),
        ({"models": {"m": {"tokens": "tokens.txt"}}}, "models.m.checkpoint: missing. Expected the"),
        (minimal(checkpoint="y.pt"), "models.m.checkpoint: there is no file 'y.pt'"),
        (minimal(checkpoint=3), "models.m.checkpoint: expected a text; found 3"),
        (minimal(family="gru"), "models.m.family: expected one of .*lstm.*; found 'gru'"),
        (
            minimal(test_wavs="s3://bucket/*.wav"),
            "models.m.test_wavs: expected an address such as s3://bucket/folder/file; found",
        ),
        (minimal(checkpoint="s3://bucket"), "models.m.checkpoint: expected an address such as"),
        (minimal(test_wavs="nowhere/*.wav"), "models.m.test_wavs: no file matches 'nowhere"),
        (
            minimal(sizes={"encoder_dim": "big"}),
            "models.m.sizes.encoder_dim: expected a whole number; found 'big'",
        ),
        (minimal(precisions=["int4"]), "models.m.precisions: 'int4' is not configured. Expected"),
        (minimal() | {"precisions": {"fp32": {"tolerence": 1}}}, "fp32.tolerence: .*`tolerance`"),
        (minimal() | {"precisions": {"fp32": {"tolerance": 0}}}, "tolerance: expected more than 0"),
        (
            minimal() | {"precisions": {"fp32": {"tolerance": float("inf")}}},
            "precisions.fp32.tolerance: expected a finite number; found inf",
        ),
        (minimal() | {"verification": {"lengths": [5]}}, "lengths.0: expected at least 9; found 5"),
        (
            minimal() | {"transcription": {"threads": True}},
            "transcription.threads: expected a whole",
        ),
        ({"models": {"../m": minimal()["models"]["m"]}}, "'../m' cannot name a model"),
        ({"models": {"a/b": minimal()["models"]["m"]}}, "'a/b' cannot name a model"),
        ({"models": {5: minimal()["models"]["m"]}}, "models.5: expected a name in quotes: '5'"),
        ({"models": [1]}, "models: expected keys and values"),
        (minimal() | {"precisions": {}}, "precisions: empty"),
        (minimal(tokens=None), "models.m.tokens: missing. Expected the model's tokens.txt, or in"),
        (minimal(source="git"), "models.m.source: expected one of file, exp_dir, huggingface; f"),
        (minimal(source=["file"]), r"models.m.source: expected one of .*found \['file'\]"),
        ({"models": {"m": "x.pt"}}, "models.m: expected keys such as .*found 'x.pt'"),
        (
            minimal(source="file", repo_id="a/b"),
            "models.m.repo_id: unknown key. .*Known here: family",
        ),
        (
            minimal(exp_dir="exp", epoch=1),
            "models.m.checkpoint: unknown key. It goes with `source: file`; .* source is `exp_dir`",
        ),
        (exp_dir(), "found neither. In exp there are epoch-1.pt, epoch-2.pt and no checkpoint-N"),
        (exp_dir(epoch=1, iter=1), "models.m: expected one of `epoch` and `iter`; found both"),
        (exp_dir(epoch=3), "models.m.epoch: exp has no epoch-3.pt. There: epoch-1.pt, epoch-2.pt"),
        (exp_dir(iter=9), "models.m.iter: exp has 0 of the 1 checkpoints"),
        (exp_dir(epoch=0), "models.m.epoch: expected at least 1; found 0"),
        (exp_dir(epoch=1, exp_dir="nowhere"), "models.m.exp_dir: there is no folder 'nowhere'"),
        (exp_dir(epoch=1, use_averaged_model=1), "models.m.use_averaged_model: expected true or"),
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
        # What YAML makes of `int8:` with nothing behind it.
        (
            minimal() | {"precisions": {"fp16": {}, "int8": None}},
            r"precisions: expected for int8 keys and values, or \{\} for its defaults; found noth",
        ),
        (minimal() | {"precisions": {"a/b": {"recipe": "int8"}}}, "'a/b' cannot name a precision"),
        (
            minimal() | {"precisions": {"headroom": {"recipe": "int8"}}},
            "'headroom' cannot name a precision: it names other files",
        ),
        (
            minimal() | {"precisions": {"target-max": {"recipe": "int8"}}},
            "'target-max' cannot name a precision: it names other files",
        ),
        (minimal() | {"targets": ["pentium"]}, "targets.0: expected one of 'cortex-a53'"),
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
        (
            minimal() | {"evaluation": {"max_rise": {"fp16": -1.0}}},
            "max_rise.fp16: expected at least 0",
        ),
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


def test_a_model_that_has_recordings_for_no_precision() -> None:
    table, dynamic = {"precisions": {"int8-table": {}}}, {"precisions": {"int8": {}}}
    for stated in (minimal() | table, minimal(test_wavs="wavs") | table):
        with pytest.raises(UserError, match=r"m.calibration_wavs: missing. .* for int8-table"):
            config.parse(stated)
    with pytest.raises(UserError, match=r"models.m.test_wavs: missing. Expected .* that int8 can"):
        config.parse(minimal() | dynamic)


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
    parsed = config.parse(minimal() | {"precisions": {"fp16": {}, "int8": old}})
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
    parsed = config.parse(minimal() | {"precisions": {"fp16": {}, "int8": old}})
    recipe = parsed.precisions["int8"].to_recipe()
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
    parsed = config.parse(minimal() | {"precisions": {"fp16": {}, "mine": mine}})
    recipe = parsed.precisions["mine"].to_recipe()
    encoder, shipped = recipe.quantized["encoder"], SHIPPED["int8-table"].quantized["encoder"]
    assert encoder.layers == shipped.layers
    assert encoder.changes == {"InnerProduct": "int8-dynamic", "conv_*": "fp16"}
    assert encoder.table == Table("percentile", 99.99)
    assert recipe.plain == {"decoder": "fp16"}


def test_a_source_is_told_by_its_keys() -> None:
    named = {"tokens": "tokens.txt"}
    trained = config.parse({"models": {"m": named | {"exp_dir": "exp", "epoch": 2}}})
    assert trained.models["m"].source == "exp_dir"
    remote = config.parse({"models": {"m": named | {"repo_id": "a/b", "checkpoint": "x.pt"}}})
    assert remote.models["m"].source == "huggingface"
    both = named | {"exp_dir": "exp", "epoch": 2, "checkpoint": "x.pt"}
    with pytest.raises(UserError, match=r"models.m.checkpoint: unknown key"):
        config.parse({"models": {"m": both}})


@pytest.mark.parametrize("raw", [3, [1], "x", None, True, 1.5, {"a": 1}])
def test_no_message_is_in_the_validators_own_words(raw: Any) -> None:
    """Whatever has another type than is expected, on each level."""
    whole = minimal(sizes={}, settings={}, on_request=False, test_wavs="wavs") | {
        "precisions": {"int8": {"keep": {"encoder": ["x"]}, "min_agreement": 0.5}, "fp16": {}},
        "verification": {"lengths": [9], "segments": 1},
        "targets": [],
        "evaluation": {"max_rise": {}, "decoding": "greedy_search"},
    }

    def replaced(value: Any) -> Iterator[Any]:
        yield raw
        if isinstance(value, dict):
            for key, below in value.items():
                yield from (value | {key: other} for other in replaced(below))

    refused = 0
    for case in replaced(whole):
        if not isinstance(case, dict):  # Snakemake's own word
            continue
        try:
            config.parse(case)
        except UserError as e:
            refused += 1
            assert not re.search(
                r"[Ii]nput should|valid dict|instance of|pydantic|errors\.", str(e)
            )
    assert refused > 10


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "list.txt").write_text("~/wavs/b.wav\n")
    there = {"checkpoint": "~/x.pt", "tokens": "~/tokens.txt", "test_wavs": ["~/wavs/a*.wav"]}
    parsed = config.parse(minimal(**there, calibration_wavs="~/list.txt")).models["m"]
    assert parsed.checkpoints() == [f"{tmp_path}/x.pt"]
    assert parsed.test_wavs == [f"{tmp_path}/wavs/a.wav"]
    assert parsed.calibration_wavs == [f"{tmp_path}/wavs/b.wav"]
    assert config.parse(exp_dir(exp_dir="~/exp", epoch=1)).models["m"].checkpoints() == [
        f"{tmp_path}/exp/epoch-1.pt"
    ]


POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 331123456\n"
)
PAGE = b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"

#: Every key that names files here, as it could name one that is none.
INPUTS: list[tuple[str, Callable[[str], dict[str, Any]]]] = [
    ("checkpoint", lambda path: minimal(checkpoint=path)),
    ("tokens", lambda path: minimal(tokens=path)),
    ("bpe_model", lambda path: minimal(bpe_model=path)),
    ("test_wavs", lambda path: minimal(test_wavs=path)),
    ("test_wavs", lambda path: minimal(test_wavs=["wavs/a.wav", f"{path[:-1]}?"])),
    ("calibration_wavs", lambda path: minimal(calibration_wavs=[path])),
    ("transcripts", lambda path: minimal(transcripts=path)),
    ("evaluation", lambda path: minimal(evaluation=path)),
]


@pytest.mark.parametrize(("key", "naming"), INPUTS)
def test_what_stands_in_for_a_file_is_named(
    tmp_path: Path, key: str, naming: Callable[[str], dict[str, Any]]
) -> None:
    path = tmp_path / "stand-in.tsv"

    def refused(message: str) -> None:
        with pytest.raises(UserError, match=rf"models\.m\.{key}: .*stand-in.tsv.*{message}"):
            config.parse(naming("stand-in.tsv"))

    path.write_bytes(POINTER)
    refused("Git LFS pointer.* 331,123,456 bytes.*`git lfs pull`")
    path.write_bytes(PAGE)
    refused("a web page.*/resolve/")
    path.unlink()
    path.symlink_to("/mnt/gone/x.pt")
    refused("is a link to '/mnt/gone/x.pt', which is not there")
    path.unlink()
    (tmp_path / "gone").symlink_to("/mnt/gone")
    with pytest.raises(UserError, match=rf"models\.m\.{key}"):
        config.parse(naming("gone/stand-in.tsv"))


def test_a_training_folders_checkpoints_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "exp/epoch-1.pt").write_bytes(POINTER)
    with pytest.raises(UserError, match=r"models.m.epoch: 'exp/epoch-1.pt' is a Git LFS pointer"):
        config.parse(exp_dir(epoch=2, avg=2))
    (tmp_path / "exp/epoch-99.pt").symlink_to("/mnt/gone.pt")
    with pytest.raises(UserError, match=r"models.m.epoch: 'exp/epoch-99.pt' is a link to '/mnt/g"):
        config.parse(exp_dir(epoch=99))
    with pytest.raises(UserError, match=r"models.m.exp_dir: 'x.pt' is a file. Expected a folder"):
        config.parse(exp_dir(exp_dir="x.pt", epoch=1))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("wavs", "'wavs' is a folder. Expected a file"),
        ("gone/x.pt", r"there is no file 'gone/x.pt' \(looked for from"),
        ("$HOME/x.pt", "variables such as .HOME are not replaced"),
        ("a" * 300, "cannot name a file .file name too long"),
        ("x.pt/y", "there is no file 'x.pt/y'"),
        ("a\0b", "cannot name a file"),
        ("/dev/null", "is a device or a pipe"),
        ("https://huggingface.co/a/b/x.pt", "a model on the Hub by `repo_id`"),
        ("a{b}/x.pt", "has a brace in its name, .*: `ln -s 'a{b}/x.pt' another-name`"),
    ],
)
def test_what_is_no_file_is_said_to_be_none(path: str, message: str) -> None:
    for key in ("checkpoint", "tokens"):
        with pytest.raises(UserError, match=f"models.m.{key}: .*{message}"):
            config.parse(minimal(**{key: path}))


def test_what_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Any, mode: str = "r", **_: Any) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("transducer2ncnn.base.inputs.open", denied, raising=False)
    with pytest.raises(UserError, match="'x.pt' may not be read .permission denied.*chmod"):
        config.parse(minimal())


def test_braces_are_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "wavs/{c}.wav").touch()
    for naming in ("wavs", "wavs/*.wav", "wavs/{c}.wav"):
        with pytest.raises(UserError, match="test_wavs: 'wavs/{c}.wav' has a brace in its name"):
            config.parse(minimal(test_wavs=naming))
    with pytest.raises(UserError, match=r"'wavs/{a,b}.wav': braces are not expanded here. Expe"):
        config.parse(minimal(test_wavs="wavs/{a,b}.wav"))


def test_a_list_file_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("wavs/a.wav\n\nwavs/c.wav\n")
    with pytest.raises(UserError, match="test_wavs: list.txt, line 3: there is no file 'wavs/c"):
        config.parse(minimal(test_wavs="list.txt"))


def test_names_are_as_long_as_files_may_be() -> None:
    assert config.parse({"models": {"m" * 100: minimal()["models"]["m"]}})
    with pytest.raises(UserError, match="cannot name a model: expected at most 100 letters") as e:
        config.parse({"models": {"m" * 256: minimal()["models"]["m"]}})
    assert len(str(e.value)) < 500
    with pytest.raises(UserError, match="cannot name a precision: expected at most 100"):
        config.parse(minimal() | {"precisions": {"p" * 256: {"recipe": "int8"}}})
    with pytest.raises(UserError, match="longer than the 240 bytes that a file's name"):
        config.parse(hub(checkpoint=f"exp/{'é' * 125}.pt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models:\n  m:\n\tcheckpoint: x\n", "line 3, column 1: .*not with tabs"),
        ("models:\n  m: [1, 2\n", "line 3, column 1: is no YAML: .*starts in line 2"),
        ("models: {a: 1}\nmodels: {b: 2}\n", "line 2: the key 'models' is there already, in li"),
        ("models:\n  m: {x: 1}\n  m: {x: 2}\n", "line 3: the key 'm' is there already, in line 2"),
        ("- 1\n", "expected keys and values, such as `models:`, at its top"),
        ("", "expected keys and values"),
    ],
)
def test_yaml_that_is_wrong_is_named_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"my.yaml(, |: ){message}"):
        yaml_file.check(path)


def test_yaml_that_is_right_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, <<: *a, y: *a}\nc: [*a, *a]\n")
    yaml_file.check(path)
    path.write_text(json.dumps(minimal(), indent="\t"))
    yaml_file.check(path)


def test_all_that_is_wrong_is_in_one_message() -> None:
    with pytest.raises(UserError) as caught:
        config.parse(
            minimal(checkpoint="y.pt", chekpoint="x.pt") | {"verification": {"segments": 0}}
        )
    assert len(str(caught.value).splitlines()) == 4
