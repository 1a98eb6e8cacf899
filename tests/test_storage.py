"""Where inputs and results may be: in S3-compatible storage, and in a cache that clones share."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import GOLDEN
from s3_server import S3Server, serving
from workflow import Config, Workflow

#: A profile and a prefix are all that a run is told.
STORAGE = ("--profile", "profiles/s3", "--default-storage-prefix", "s3://exports/mine")
INPUTS = ("projection/pretrained.pt", "projection/tokens.txt", "wavs/a.wav", "wavs/b.wav")
#: Of what a model gets, what comes of all steps.
DELIVERED = "results/model/sherpa-ncnn/int8-table"

PARTS = ("encoder", "decoder", "joiner")
TABLES = [f"results/model/ncnn/int8-table/{part}-scale-table.txt" for part in ("encoder", "joiner")]
CONVERTED = [
    f"results/model/ncnn/{precision}/{part}_jit_trace-pnnx.ncnn.bin"
    for precision in ("fp32", "fp16")
    for part in PARTS
]
CACHED = ("trace", "convert", "halve", "observe")
#: The logs that the cached rules' commands write to.
CACHED_LOGS = {
    "trace.log",
    *(f"{what}-{part}.log" for what in ("convert", "halve") for part in PARTS),
    "observe-1-of-1.log",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving(tmp_path_factory.mktemp("s3")) as running:
        running.client.create_bucket(Bucket="inputs")
        yield running


def config(workflow: Workflow, where: str = "") -> Config:
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
    shutil.rmtree(workflow.work / "projection")
    # Only what a manifest of recordings names cannot be an address.
    (workflow.work / "wavs").rename(workflow.work / "test")
    shutil.copytree(workflow.project / "profiles", workflow.work / "profiles")
    said = workflow.run(config(workflow, "s3://inputs/"), *STORAGE, DELIVERED)
    assert f"s3://exports/mine/{DELIVERED}/    ready for sherpa-ncnn" in said
    return workflow


def clone(folder: Path, cache: Path) -> Workflow:
    folder.mkdir()
    workflow = Workflow(folder)
    workflow.variables["SNAKEMAKE_OUTPUT_CACHE"] = str(cache)
    return workflow


def made(workflow: Workflow) -> dict[str, bytes]:
    folder = workflow.work / "results"
    files = (f for f in folder.rglob("*") if f.suffix in (".pt", ".param", ".bin", ".npz", ".txt"))
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def ran(workflow: Workflow) -> set[str]:
    """The logs of commands that ran; Snakemake leaves empty ones for those that did not."""
    return {f.name for f in (workflow.work / "logs/model").glob("*") if f.stat().st_size}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "cache").mkdir()
    workflow = clone(folder / "first", folder / "cache")
    workflow.run(config(workflow), *CONVERTED, *TABLES, DELIVERED, "--cache")
    return workflow


def test_results_in_the_bucket_are_what_they_are_here(
    stored: Workflow, server: S3Server, first: Workflow
) -> None:
    files = {f.name: f.read_bytes() for f in (first.work / DELIVERED).iterdir()}
    assert len(files) == 8
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


def test_commands_get_what_is_in_the_bucket_and_no_path_that_is_not(stored: Workflow) -> None:
    evaluated = config(stored, "s3://inputs/")
    (stored.work / "test.tsv").write_text("wav\ttext\ntest/a.wav\tone\n")
    evaluated["models"]["model"]["evaluation"] = "test.tsv"
    done = stored.snakemake(evaluated, "-n", "-p", "-F", *STORAGE, "results/model/report.html")
    assert done.returncode == 0, done.stdout + done.stderr
    commands = re.findall(r"python -m (workflow_scripts\.\w+) (.*)", done.stdout)
    # What was decoded before is kept here; a target is Snakemake's, who knows where it is.
    kept = r"--(cache|target) results/\S+"
    assert {"compare_precisions", "measure_speed"} <= {
        script.partition(".")[2] for script, _ in commands
    }
    for script, arguments in commands:
        assert not re.search(r"(^| )results/", re.sub(kept, "", arguments)), (script, arguments)
    assert ".snakemake/storage/s3/exports/mine/results/" in done.stdout


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
    assert "model: observing activations, shard 1 of 1" in planned
    assert "model: tracing the encoder, decoder and joiner" not in planned


def test_what_is_cached_is_told_apart(first: Workflow) -> None:
    """By what it depends on, which is more than what Snakemake looks at by itself."""
    assert ran(first) >= CACHED_LOGS
    folder = first.work / "results"
    linked = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_symlink()}
    cached = {k: v for k, v in made(first).items() if k in linked}
    assert len(cached) == len(linked) == len(PARTS) + 2 * len(CONVERTED) + 1
    # fp16 and fp32 differ in their weights, not in their graphs.
    same = {k: v for k, v in cached.items() if not ("fp16" in k and k.endswith(".param"))}
    assert len(set(same.values())) == len(same)


def test_a_second_clone_gets_what_the_first_has_made(first: Workflow) -> None:
    cache = Path(first.variables["SNAKEMAKE_OUTPUT_CACHE"])
    second = clone(cache.parent / "second", cache)
    second.run(config(second), *CONVERTED, *TABLES, "--cache", *CACHED)
    assert ran(second)
    assert not ran(second) & CACHED_LOGS
    assert len(made(second)) > len(CONVERTED) + len(TABLES)
    assert made(second).items() <= made(first).items()
    for cached in ([], ["--cache"]):
        assert second.planned(config(second), *CONVERTED, *TABLES, *cached) == set()


def test_another_checkpoint_is_not_taken_for_it(first: Workflow) -> None:
    cache = Path(first.variables["SNAKEMAKE_OUTPUT_CACHE"])
    third = clone(cache.parent / "third", cache)
    other = GOLDEN / "checkpoint-projection" / "epoch-1.pt"
    shutil.copy(other, third.work / "projection" / "pretrained.pt")
    joiner = [path for path in CONVERTED if "fp32/joiner" in path]
    third.run(config(third), *joiner, "--cache")
    assert {"trace.log", "convert-joiner.log"} <= ran(third)
    assert made(third)[joiner[0].removeprefix("results/")] != (
        (first.work / joiner[0]).read_bytes()
    )


def test_without_the_option_nothing_is_said_of_a_cache(first: Workflow) -> None:
    done = first.snakemake(config(first), "-n")
    assert "caching" not in done.stdout + done.stderr


def test_what_was_deleted_from_the_cache_is_made_again(first: Workflow) -> None:
    joiner = next(path for path in CONVERTED if "fp32/joiner" in path)
    before = (first.work / joiner).read_bytes()
    for cached in Path(first.variables["SNAKEMAKE_OUTPUT_CACHE"]).iterdir():
        cached.unlink()
    # As README says: Snakemake stops at links that lead nowhere.
    subprocess.run(["find", "results", "-xtype", "l", "-delete"], cwd=first.work, check=True)
    first.run(config(first), joiner)
    assert (first.work / joiner).read_bytes() == before
