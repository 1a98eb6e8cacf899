"""The whole way from each source: the Hub, a training folder, a file of an unusual model."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import GOLDEN, ROOT, check_computes, random_lstm
from hub_server import HubServer, environment
from hub_upload import UploadHub
from huggingface_hub import ModelCard
from workflow import Config, Workflow

from transducer2ncnn.families import model

GOLDEN_MODEL = GOLDEN / "checkpoint-projection"


def wav() -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).standard_normal(12000) * 0.1
    soundfile.write(file, noise, 16000, format="WAV")
    return file.getvalue()


#: Exports of other kinds, which are called alike.
EXPORTS = [
    "exp/cpu_jit-iter-468000-avg-16.pt",
    "exp/encoder_jit_trace-iter-468000-avg-16.pt",
    "exp/decoder_jit_trace-iter-468000-avg-16.pt",
    "exp/joiner_jit_trace-iter-468000-avg-16.pt",
]
#: Where the published LSTM has them.
CHECKPOINT = "exp/pretrained-iter-468000-avg-16.pt"
TOKENS = "data/lang_bpe_500/tokens.txt"


def repository() -> dict[str, bytes]:
    """Laid out like the published LSTM's."""
    return {
        CHECKPOINT: (GOLDEN_MODEL / "pretrained.pt").read_bytes(),
        TOKENS: (GOLDEN_MODEL / "tokens.txt").read_bytes(),
        "test_wavs/a.wav": wav(),
        "README.md": b"Trained by `lstm_transducer_stateless2/train.py`.",
        **{name: b"not asked for" * 1000 for name in EXPORTS},
    }


#: What is neither exported nor transcribed; the README is read to find the rest.
NOT_EXPORTED = {"README.md", *EXPORTS}


class Sources(Workflow):
    """A model from each source, in fp32 alone."""

    def __init__(self, folder: Path, server: HubServer) -> None:
        super().__init__(folder)
        self.server = server
        self.variables = environment(server, folder / "home")

    def config(self) -> Config:
        config = super().config()
        config["precisions"] = {"fp32": {"tolerance": 1e-4}}
        config["models"] = {
            "hub": {"repo_id": "owner/model"},
            "trained": {
                "source": "exp_dir",
                "exp_dir": "projection",
                "epoch": 4,
                "avg": 2,
                "use_averaged_model": True,
                "tokens": "projection/tokens.txt",
            },
        }
        return config


@pytest.fixture(scope="module")
def server() -> Iterator[UploadHub]:
    server = UploadHub()
    server.commit("owner/model", repository())
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def finished(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    workflow = Sources(tmp_path_factory.mktemp("sources"), server)
    workflow.run(workflow.config())
    return workflow


def results(workflow: Workflow, name: str) -> Path:
    return workflow.work / "results" / name


def manifest(workflow: Workflow, name: str) -> dict:
    return json.loads((results(workflow, name) / "manifest.json").read_text())


def test_a_model_on_the_hub_is_fetched_and_exported(finished: Sources) -> None:
    folder = results(finished, "hub")
    fetched = {str(f.relative_to(folder / "hub")) for f in (folder / "hub").rglob("*.*")}
    assert fetched == repository().keys() - NOT_EXPORTED
    network = model.load(folder / "hub" / CHECKPOINT, "lstm")
    check_computes(network, np.load(GOLDEN_MODEL / "expected-pretrained.npz"))
    assert (folder / "sherpa-ncnn" / "fp32" / "tokens.txt").is_file()
    assert "results/hub/hub/test_wavs/a.wav" in (folder / "transcripts" / "fp32.tsv").read_text()
    source = manifest(finished, "hub")["source"]
    assert source["commit"] == finished.server.refs["owner/model", "main"]
    assert source["repo_id"] == "owner/model" and source["revision"] == "main"
    assert {key: x["value"] for key, x in source["found"].items()} == {
        "family": "lstm",
        "checkpoint": CHECKPOINT,
        "tokens": TOKENS,
        "test_wavs": ["test_wavs/a.wav"],
    }
    assert source["found"]["family"]["from"] == "lstm_transducer_stateless2 is in README.md"
    assert not any("_jit" in path for _, path, _ in finished.server.requests)
    assert source["files"][f"results/hub/hub/{CHECKPOINT}"] == {
        "size": len(repository()[CHECKPOINT]),
        "sha256": hashlib.sha256(repository()[CHECKPOINT]).hexdigest(),
    }


def test_models_of_one_origin_share_what_is_fetched_and_averaged(finished: Sources) -> None:
    config = finished.config()
    for name in ("hub", "trained"):
        config["models"][f"{name}-twin"] = config["models"][name]
    planned = {m for m in finished.planned(config) if "-twin: " in m}
    read = {m.split(" off ")[1] for m in planned if "reading the sizes off" in m}
    assert read == {f"results/hub/hub/{CHECKPOINT}", "results/trained/averaged.pt"}
    # All that the twins are made of is there.
    assert not any("fetching" in m or "averaging" in m for m in finished.planned(config))


def test_an_average_is_exported(finished: Sources) -> None:
    network = model.load(results(finished, "trained") / "averaged.pt", "lstm")
    check_computes(network, np.load(GOLDEN_MODEL / "expected-epoch-4-avg-2-averaged-model.npz"))
    assert (results(finished, "trained") / "sherpa-ncnn" / "fp32" / "tokens.txt").is_file()
    made = manifest(finished, "trained")
    assert made["source"]["chosen"] == {
        "exp_dir": "projection",
        "epoch": 4,
        "avg": 2,
        "use_averaged_model": True,
    }
    assert list(made["source"]["files"]) == [
        "projection/epoch-2.pt",
        "projection/epoch-4.pt",
        "projection/tokens.txt",
    ]
    assert made["sizes"]["encoder_dim"] == 32
    verification = {"lengths": [9, 30], "segments": 10, "target_tolerance": 0.02}
    assert made["config"]["verification"] == verification
    assert set(made["delivered"]) == {
        str(f.relative_to(results(finished, "trained")))
        for f in (results(finished, "trained") / "sherpa-ncnn").rglob("*.*")
    }


def test_a_second_run_does_nothing_with_the_hub_or_without(finished: Sources) -> None:
    assert finished.planned(finished.config()) == set()
    finished.variables["HF_HUB_OFFLINE"] = "1"
    assert finished.planned(finished.config()) == set()
    del finished.variables["HF_HUB_OFFLINE"]


def test_a_new_commit_makes_the_download_stale(finished: Sources, server: HubServer) -> None:
    before = server.refs["owner/model", "main"]
    server.commit("owner/model", repository() | {EXPORTS[0]: b"new"})
    planned = finished.planned(finished.config())
    assert {message for message in planned if "fetching" in message} == {
        f"hub: fetching {file} of owner/model" for file in repository().keys() - NOT_EXPORTED
    }
    assert not any(message.startswith("trained: ") for message in planned)
    # A commit named as such stays what it is.
    config = finished.config()
    config["models"]["hub"]["revision"] = before
    assert not any("fetching exp" in message for message in finished.planned(config))
    server.refs["owner/model", "main"] = before


def test_only_the_checkpoints_of_an_average_count(finished: Sources) -> None:
    exp_dir = finished.work / "projection"
    shutil.copy(exp_dir / "epoch-4.pt", exp_dir / "epoch-5.pt")
    (exp_dir / "epoch-3.pt").write_bytes((exp_dir / "epoch-1.pt").read_bytes())
    assert finished.planned(finished.config()) == set()
    changed = exp_dir / "epoch-2.pt"
    shutil.copy2(changed, finished.work / "kept.pt")
    changed.write_bytes((exp_dir / "epoch-1.pt").read_bytes())
    planned = finished.planned(finished.config())
    assert "trained: averaging projection/epoch-2.pt projection/epoch-4.pt" in planned
    assert "trained: converting the encoder to fp32" in planned
    assert not any(message.startswith("hub: ") for message in planned)
    shutil.copy2(finished.work / "kept.pt", changed)
    assert finished.planned(finished.config()) == set()


def test_the_manifests_are_checked(finished: Sources) -> None:
    assert "trained: as its manifest says" in finished.run(finished.config(), "check_manifest")
    file = results(finished, "trained") / "sherpa-ncnn/fp32/tokens.txt"
    content = file.read_bytes()
    file.write_bytes(content + b"x 32\n")
    done = finished.snakemake(finished.config(), "--cores", "1", "check_manifest")
    assert done.returncode != 0
    assert f"{file.relative_to(finished.work)}: has" in done.stdout + done.stderr
    # A run does not take what was changed for what was delivered.
    target = "results/trained/manifest.json"
    done = finished.snakemake(finished.config(), "--cores", "1", target)
    assert done.returncode != 0
    assert "what was delivered is not what is there: " in done.stdout
    assert not (finished.work / target).exists()
    file.write_bytes(content)
    finished.run(finished.config(), target)


def test_a_release_is_made_and_published_where_it_is_asked_for(
    finished: Sources, server: UploadHub
) -> None:
    refused = finished.snakemake(finished.config(), "-n", "publish")
    assert refused.returncode != 0
    assert "error: no model has a `release` with a `repo_id`" in refused.stdout + refused.stderr
    config = finished.config()
    config["models"]["hub"]["release"] = {
        "version": "1",
        "license": "mit",
        "language": "en",
        "precisions": ["fp32"],
        "repo_id": "owner/sherpa-ncnn-hub",
    }
    assert not any(message.startswith("hub: ") for message in finished.planned(config))
    finished.variables |= {"HF_TOKEN": server.token, "HF_HUB_DISABLE_XET": "1"}
    try:
        printed = finished.run(config, "publish")
    finally:
        del finished.variables["HF_TOKEN"], finished.variables["HF_HUB_DISABLE_XET"]
    folder = results(finished, "hub") / "release"
    published = json.loads((folder / "published.json").read_text())
    assert f"sherpa-ncnn-hub-1 is published: {published['address']}" in printed
    assert published["commit"] == server.refs["owner/sherpa-ncnn-hub", "main"]
    assert server.messages == ["sherpa-ncnn-hub-1: fp32"]
    assert "owner/sherpa-ncnn-hub" in server.private
    head = server.head("owner/sherpa-ncnn-hub")
    delivered = results(finished, "hub") / "sherpa-ncnn" / "fp32"
    for file in (*delivered.glob("*.bin"), *delivered.glob("*.param"), delivered / "tokens.txt"):
        assert head[file.name] == file.read_bytes()
    assert head["test_wavs/0.wav"] == wav()
    card = ModelCard(head["README.md"].decode())
    assert card.data.base_model == "owner/model"
    assert f"at commit `{server.refs['owner/model', 'main']}`" in card.text
    assert f"| `{CHECKPOINT}` |" in card.text
    archive = (folder / "sherpa-ncnn-hub-1.tar.bz2").read_bytes()
    assert (folder / "SHA256SUMS").read_text().split()[0] == hashlib.sha256(archive).hexdigest()
    for log in (finished.work / "logs").rglob("*.log"):
        assert server.token not in log.read_text()
    assert server.token not in printed


def test_a_model_on_request_is_left_alone_till_asked_for(
    finished: Sources, server: HubServer
) -> None:
    config = finished.config()
    stated = {"checkpoint": CHECKPOINT, "tokens": TOKENS, "on_request": True}
    config["models"]["later"] = config["models"]["hub"] | stated
    server.requests.clear()
    assert not any(m.startswith("later: ") for m in finished.planned(config))
    del config["models"]["hub"]
    finished.planned(config)
    del server.requests[:1]  # of the plan with hub in it
    assert server.requests == []
    assert "later: tracing the encoder, decoder and joiner" in finished.planned(
        config, "results/later"
    )


def test_the_shipped_configuration_needs_no_network_by_default(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    shutil.copytree(ROOT / "models", workflow.work / "models")
    workflow.variables = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert any(m["source"] == "huggingface" for m in config["models"].values() if "source" in m)
    planned = workflow.planned(config)
    assert planned and all(message.startswith("digits: ") for message in planned)


def test_what_the_hub_lacks_is_one_message(finished: Sources) -> None:
    config = finished.config()
    config["models"]["hub"]["test_wavs"] = "wavs/*.wav"
    done = finished.snakemake(config, "-n")
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert "error: models.hub.test_wavs: owner/model has no 'wavs/*.wav' at main" in output
    assert "Traceback" not in output


def test_a_repository_alone_is_enough(finished: Sources, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "-s", finished.project / "Snakefile", "-n"]
    done = subprocess.run(
        [*command, "--config", "repo_id=owner/model"],
        cwd=tmp_path,
        env=os.environ | finished.variables,
        capture_output=True,
        text=True,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "model: found, and not stated in the configuration:" in output
    assert "  tokens: data/lang_bpe_500/tokens.txt (the only tokens.txt)" in output
    assert "model: fetching exp/pretrained-iter-468000-avg-16.pt of owner/model" in output
    assert "model: putting together" in output or "results/model/sherpa-ncnn/int8" in output


def save_random(path: Path, **sizes: int) -> None:
    """A model of a shape that no golden checkpoint has."""
    small = {"num_encoder_layers": 2, "encoder_dim": 24, "rnn_hidden_size": 32, "vocab_size": 32}
    torch.save({"model": random_lstm(**small | sizes).state_dict()}, path)


@pytest.mark.parametrize(
    ("size", "value", "message"),
    [("context_size", 1, "context size is 1"), ("feature_dim", 40, "feature dim is 40")],
)
def test_what_sherpa_ncnn_cannot_run_is_verified_and_refused_there(
    finished: Sources, size: str, value: int, message: str
) -> None:
    save_random(finished.work / f"{size}.pt", **{size: value})
    config = finished.config()
    config["models"] = {
        size: {"checkpoint": f"{size}.pt", "tokens": "projection/tokens.txt"},
    }
    done = finished.snakemake(config, "--cores", "2", f"results/{size}")
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert f"not delivered. The model's {message}, and sherpa-ncnn supports" in output
    verification = json.loads((results(finished, size) / "verification/fp32.json").read_text())
    assert verification["parts"].keys() == {"encoder", "decoder", "joiner"}
    assert all(part["max_error"] < 1e-4 for part in verification["parts"].values())
    assert json.loads((results(finished, size) / "model.json").read_text())["sizes"][size] == value
    assert not (results(finished, size) / "sherpa-ncnn").exists()
