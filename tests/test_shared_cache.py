"""Two clones of the project that share a cache: what one has made, the other does not make."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import GOLDEN
from workflow import Config, Workflow

PARTS = ("encoder", "decoder", "joiner")
TABLES = [f"results/model/ncnn/int8/{part}-scale-table.txt" for part in ("encoder", "joiner")]
CONVERTED = [
    f"results/model/ncnn/{precision}/{part}_jit_trace-pnnx.ncnn.bin"
    for precision in ("fp32", "fp16")
    for part in PARTS
]
#: The logs that the cached rules' commands write to.
CACHED_LOGS = {
    *(f"trace-{part}.log" for part in PARTS),
    *(f"convert-{precision}-{part}.log" for precision in ("fp32", "fp16") for part in PARTS),
    *(f"observe-{shard}-of-2.log" for shard in (1, 2)),
}


def clone(folder: Path, cache: Path) -> Workflow:
    folder.mkdir()
    workflow = Workflow(folder)
    workflow.variables["SNAKEMAKE_OUTPUT_CACHE"] = str(cache)
    return workflow


def config(workflow: Workflow) -> Config:
    config = workflow.config()
    # Named as the checkpoint is not, in a folder that the other clone does not have.
    return config | {"models": {"model": config["models"]["projection"]}}


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
    workflow.run(config(workflow), *CONVERTED, *TABLES, "--cache")
    return workflow


def test_what_is_cached_is_told_apart(first: Workflow) -> None:
    """By what it hangs on, and that is more than what Snakemake looks at by itself."""
    assert ran(first) >= CACHED_LOGS
    cached = {k: v for k, v in made(first).items() if not k.endswith(".txt")}
    assert len(cached) == len(PARTS) + 2 * len(CONVERTED) + 2
    # fp16 and fp32 differ in their weights, not in their graphs.
    same = {k: v for k, v in cached.items() if not ("fp16" in k and k.endswith(".param"))}
    assert len(set(same.values())) == len(same)


def test_a_second_clone_gets_what_the_first_has_made(first: Workflow) -> None:
    cache = Path(first.variables["SNAKEMAKE_OUTPUT_CACHE"])
    second = clone(cache.parent / "second", cache)
    second.run(config(second), *CONVERTED, *TABLES, "--cache", "trace", "convert", "observe")
    assert ran(second)
    assert not ran(second) & CACHED_LOGS
    assert made(second) == made(first)
    for cached in ([], ["--cache"]):
        assert second.planned(config(second), *CONVERTED, *TABLES, *cached) == set()


def test_another_checkpoint_is_not_taken_for_it(first: Workflow) -> None:
    cache = Path(first.variables["SNAKEMAKE_OUTPUT_CACHE"])
    third = clone(cache.parent / "third", cache)
    other = GOLDEN / "checkpoint-projection" / "epoch-1.pt"
    shutil.copy(other, third.work / "projection" / "pretrained.pt")
    joiner = [path for path in CONVERTED if "fp32/joiner" in path]
    third.run(config(third), *joiner, "--cache")
    assert {"trace-joiner.log", "convert-fp32-joiner.log"} <= ran(third)
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
