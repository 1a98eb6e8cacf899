"""config.yaml: what is wrong is named by its key, with what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from transducer2ncnn.base.errors import UserError
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
        (minimal(precisions=["int4"]), "models.m.precisions.0: .*found 'int4'"),
        (
            minimal(precisions=["fp16"]) | {"precisions": {"fp32": {"tolerance": 1e-4}}},
            "models.m.precisions: 'fp16' is not configured",
        ),
        (minimal() | {"precisions": {"fp32": {}}}, "precisions.fp32.tolerance: missing"),
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
        (minimal() | {"precisions": {"int4": {}}}, "precisions.int4: unknown key. Did you mean"),
        (minimal() | {"precisions": {"int8": {"rest": "int4"}}}, "precisions.int8.rest: .*'int4'"),
        (minimal(calibration_wavs="empty.txt"), "calibration_wavs: no file matches 'empty.txt'"),
        (minimal(evaluation="gone.tsv"), "models.m.evaluation: there is no file or folder 'gone"),
        (minimal(evaluation="x.pt"), "models.m.evaluation: x.pt: expected a table"),
        (minimal(evaluation="wavs"), "models.m.evaluation: wavs: is a folder, but not Kaldi's"),
        (minimal() | {"evaluation": {"decoding": "beam"}}, "evaluation.decoding: .*found 'beam'"),
        (minimal() | {"evaluation": {"shard": 2}}, "evaluation.shard: .*mean `shards`"),
        (minimal() | {"evaluation": {"max_rise": {"fp16": -1.0}}}, "max_rise.fp16: .*equal to 0"),
        (minimal() | {"evaluation": {"max_rise": {"int4": 1.0}}}, "max_rise.int4"),
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


def test_int8_is_exported_where_there_is_something_to_calibrate_on() -> None:
    int8 = {"precisions": {"fp32": {"tolerance": 1e-4}, "int8": {}}}
    assert config.parse(minimal() | int8).precisions_of("m") == ["fp32"]
    calibrated = minimal(calibration_wavs="wavs") | int8
    assert config.parse(calibrated).precisions_of("m") == ["fp32", "int8"]
    assert config.parse(calibrated).precisions.int8.parts() == {
        "encoder": "int8",
        "decoder": "fp16",
        "joiner": "int8",
    }
    with pytest.raises(UserError, match=r"models.m.calibration_wavs: missing"):
        config.parse(minimal(precisions=["int8"]) | int8)


def test_all_that_is_wrong_is_in_one_message() -> None:
    with pytest.raises(UserError) as caught:
        config.parse(
            minimal(checkpoint="y.pt", chekpoint="x.pt") | {"verification": {"segments": 0}}
        )
    assert len(str(caught.value).splitlines()) == 4


def fields(level: type[config.BaseModel], prefix: str) -> list[str]:
    return [f"{prefix}{name}" for name in level.model_fields]


def test_the_readme_explains_every_key() -> None:
    readme = (ROOT / "README.md").read_text()
    keys = [key for kind in config.SOURCES.values() for key in fields(kind, "models.<name>.")]
    keys += fields(config.Int8, "precisions.int8.")
    keys += fields(config.Verification, "verification.")
    keys += fields(config.Transcription, "transcription.")
    keys += fields(config.Evaluation, "evaluation.")
    for key in keys:
        assert f"| `{key}` |" in readme, key
