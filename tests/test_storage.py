"""Inputs and results in S3-compatible storage, by configuration alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3Server, serving
from workflow import Config, Workflow

#: A profile and a prefix are all that a run is told.
STORAGE = ("--profile", "profiles/s3", "--default-storage-prefix", "s3://exports/mine")
INPUTS = ("projection/pretrained.pt", "projection/tokens.txt", "wavs/a.wav", "wavs/b.wav")
#: Of what a model gets, what comes of all steps.
DELIVERED = "results/model/sherpa-ncnn/int8"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving(tmp_path_factory.mktemp("s3")) as running:
        running.client.create_bucket(Bucket="inputs")
        yield running


def config(workflow: Workflow, where: str) -> Config:
    """One model, of files at ``where``: an address, or nothing for the working directory."""
    model = {
        "checkpoint": f"{where}projection/pretrained.pt",
        "tokens": f"{where}projection/tokens.txt",
        "test_wavs": [f"{where}wavs/a.wav"],
        "calibration_wavs": "calibration.txt",
    }
    recordings = "".join(f"{where}wavs/{name}.wav\n" for name in ("a", "b"))
    (workflow.work / "calibration.txt").write_text(recordings)
    return workflow.config() | {"models": {"model": model}}


@pytest.fixture(scope="module")
def stored(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A run whose inputs are in one bucket, and nowhere else, and whose results are in another."""
    workflow = Workflow(tmp_path_factory.mktemp("stored"))
    workflow.variables |= server.variables
    for name in INPUTS:
        server.client.upload_file(str(workflow.work / name), "inputs", name)
    for folder in ("projection", "wavs"):
        shutil.rmtree(workflow.work / folder)
    shutil.copytree(workflow.project / "profiles", workflow.work / "profiles")
    said = workflow.run(config(workflow, "s3://inputs/"), *STORAGE, DELIVERED)
    assert f"s3://exports/mine/{DELIVERED}/    ready for sherpa-ncnn" in said
    return workflow


def test_results_in_the_bucket_are_what_they_are_here(
    stored: Workflow, server: S3Server, tmp_path: Path
) -> None:
    here = Workflow(tmp_path)
    here.run(config(here, ""), DELIVERED)
    files = {f.name: f.read_bytes() for f in (here.work / DELIVERED).iterdir()}
    assert len(files) == 7
    keys = server.keys("exports")
    assert {f"mine/{DELIVERED}/{name}" for name in files} <= keys
    for name, content in files.items():
        assert server.read("exports", f"mine/{DELIVERED}/{name}") == content
    assert not (stored.work / "results").exists()


def test_a_second_run_does_nothing(stored: Workflow) -> None:
    said = stored.run(config(stored, "s3://inputs/"), *STORAGE, DELIVERED)
    assert "Nothing to be done" in said


def test_what_is_missing_in_the_bucket_is_named(stored: Workflow) -> None:
    wrong = config(stored, "s3://inputs/")
    wrong["models"]["other"] = wrong["models"].pop("model") | {
        "checkpoint": "s3://inputs/nowhere.pt"
    }
    done = stored.snakemake(wrong, "-n", *STORAGE)
    assert done.returncode != 0
    assert "s3://inputs/nowhere.pt" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_source_is_recorded_by_its_address(stored: Workflow, server: S3Server) -> None:
    source = "results/model/source.json"
    stored.run(config(stored, "s3://inputs/"), *STORAGE, source)
    recorded = json.loads(server.read("exports", f"mine/{source}"))
    assert set(recorded["files"]) == {f"s3://inputs/{name}" for name in INPUTS[:2]}


def test_a_changed_recording_in_the_bucket_is_noticed(stored: Workflow, server: S3Server) -> None:
    server.client.put_object(
        Bucket="inputs", Key="wavs/b.wav", Body=server.read("inputs", "wavs/a.wav")
    )
    planned = stored.planned(config(stored, "s3://inputs/"), *STORAGE, DELIVERED)
    assert "model: observing activations, shard 1 of 2" in planned
    assert "model: tracing the encoder" not in planned
