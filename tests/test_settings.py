"""Settings: from the checkpoint or the configuration, never guessed, and what is said of each."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families import registry
from transducer2ncnn.families.contract import Family, Settings, Sizes, setting
from transducer2ncnn.families.lstm import LstmArchitecture
from transducer2ncnn.families.settings import Settled, settle
from transducer2ncnn.formats.checkpoint import Checkpoint
from transducer2ncnn.workflow import config


@dataclass(frozen=True)
class ChunkSettings(Settings):
    chunk: int = setting("frames of a chunk", published="32", keys=("chunk_length", "chunk_len"))
    left: int = setting("chunks before it", published="4", hint=True)
    scale: float = setting("what keys are scaled by", published="0.5", default=0.5)
    masked: bool = setting("whether empty caches are masked", published="no", default=False)


CHUNKY = Family(
    name="chunky",
    title="a chunky transducer",
    recipes=("chunky",),
    telltale="chunky",
    sizes=Sizes,
    settings=ChunkSettings,
    architecture=LstmArchitecture,
)


def settled(stated: dict[str, Any], kept: dict[str, Any]) -> Settled:
    return settle(CHUNKY, stated, kept, "epoch-9.pt")


def test_a_training_checkpoint_tells_its_own() -> None:
    found = settled({}, {"chunk_length": 64, "left": 2, "lr": 0.1, "masked": True})
    assert found.settings == ChunkSettings(chunk=64, left=2, scale=0.5, masked=True)
    assert found.origins == {
        "chunk": "chunk_length in the checkpoint",
        "left": "left in the checkpoint",
        "scale": "the default",
        "masked": "masked in the checkpoint",
    }
    # A run has to say that a hint was taken, and of nothing else.
    (remark,) = found.remarks
    assert "settings.left is taken from epoch-9.pt, where left is 2" in remark
    assert "in the published models it is 4" in remark


def test_the_configuration_tells_what_the_checkpoint_does_not() -> None:
    found = settled({"chunk": 32, "left": 4, "scale": 1}, {})
    assert found.settings == ChunkSettings(chunk=32, left=4, scale=1.0, masked=False)
    assert isinstance(found.settings.scale, float)
    assert set(found.origins.values()) == {"the configuration", "the default"}
    assert found.remarks == []


def test_the_configuration_may_contradict_a_hint_which_is_said() -> None:
    found = settled({"left": 4}, {"chunk_len": 32, "left": 2})
    assert found.settings == ChunkSettings(chunk=32, left=4)
    assert found.remarks == [
        "settings.left is 4 in the configuration, and left is 2 in epoch-9.pt: the former is taken."
    ]
    assert settled({"left": 4}, {"chunk_len": 32, "left": 4}).remarks == []


@pytest.mark.parametrize(
    ("stated", "kept", "message"),
    [
        # Both values, and where each comes from.
        (
            {"chunk": 32, "left": 4},
            {"chunk_length": 64},
            "settings.chunk is 32 in the configuration, and chunk_length is 64 in epoch-9.pt",
        ),
        # Which, what they are in the published models, and why no guess will do.
        (
            {},
            {"lr": 1.0},
            r"epoch-9.pt: a chunky .*: chunk \(frames of a chunk; in the published models 32\); "
            r"left \(chunks before it; in the published models 4\). .*bad text without any error",
        ),
        ({"chunks": 3}, {}, "settings.chunks: unknown .*Known here: chunk, left, scale, masked"),
        ({"chunk": "32"}, {}, "settings.chunk: expected a whole number; found '32'"),
        ({"chunk": True}, {}, "settings.chunk: expected a whole number; found True"),
        ({"masked": 1}, {}, "settings.masked: expected true or false; found 1"),
        (
            {"left": 4},
            {"chunk_length": "64"},
            "epoch-9.pt: its chunk_length, the setting chunk, is '64', expected a whole number",
        ),
    ],
)
def test_what_is_wrong_is_named(stated: dict, kept: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settled(stated, kept)


def test_the_configuration_is_checked_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.pt", "tokens.txt"):
        (tmp_path / name).touch()

    def parse(**settings: Any) -> config.Config:
        model = {"checkpoint": "x.pt", "tokens": "tokens.txt", "settings": settings}
        return config.parse({"models": {"m": model}})

    assert parse().models["m"].settings == {}
    with pytest.raises(UserError, match=r"m.settings.chunk: unknown setting of an LSTM.*has none"):
        parse(chunk=32)
    monkeypatch.setattr(registry, "find", lambda name: CHUNKY)
    assert parse(chunk=32, masked=True).models["m"].settings == {"chunk": 32, "masked": True}
    with pytest.raises(UserError, match=r"m.settings.chunk: expected a whole number; found 'a'"):
        parse(chunk="a")
    with pytest.raises(UserError, match=r"models.m.settings.chunk.*: .*found \[1\]"):
        parse(chunk=[1])


def test_models_of_one_origin_are_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp").mkdir()
    for name in ("exp/epoch-1.pt", "exp/epoch-2.pt", "tokens.txt"):
        (tmp_path / name).touch()
    trained = {"source": "exp_dir", "exp_dir": "exp", "epoch": 2, "tokens": "tokens.txt"}
    remote = {"source": "huggingface", "repo_id": "a/b", "checkpoint": "x.pt", "tokens": "t.txt"}
    models = {
        "one": trained | {"avg": 2},
        "same": trained | {"avg": 2, "exp_dir": "./exp"},
        "alone": trained,
        "remote": remote,
        "file": remote | {"checkpoint": "y.pt"},
        "older": remote | {"revision": "v1"},
    }
    parsed = config.parse({"models": models}).models
    origins = {name: model.origin() for name, model in parsed.items()}
    assert origins["one"] == origins["same"] != origins["alone"]
    assert origins["remote"] == origins["file"] != origins["older"]
    assert len(set(origins.values())) == 4


def test_an_average_keeps_what_training_was_told(tmp_path: Path) -> None:
    for n in (1, 2):
        tensors = {"x": torch.full((2,), float(n))}
        told = {"chunk_length": 16 * n, "causal": True, "lr": 0.5, "recipe": "chunky"}
        state = {"optimizer": {"y": torch.zeros(1)}, "exp_dir": Path("exp"), "sampler": None}
        torch.save({"model": tensors} | told | state, tmp_path / f"epoch-{n}.pt")
    averaged = tmp_path / "averaged.pt"
    arguments = ["--checkpoints", *(str(tmp_path / f"epoch-{n}.pt") for n in (1, 2))]
    subprocess.run(
        [sys.executable, "-m", "workflow_scripts.average", *arguments, "--output", str(averaged)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    found = Checkpoint(averaged)
    assert found.state_dict("model")["x"].tolist() == [1.5, 1.5]
    # The newest one's.
    told = {"chunk_length": 32, "causal": True, "lr": 0.5, "recipe": "chunky"}
    assert found.plain_values() == told
