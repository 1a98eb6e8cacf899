"""Many models in one run: they are planned, and one that fails leaves the others alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from workflow import Config, Workflow


def fp32_only(config: Config) -> Config:
    """The quickest export: neither recordings nor other precisions."""
    for model in config["models"].values():
        model.pop("test_wavs", None)
        model.pop("calibration_wavs", None)
    return config | {"precisions": {"fp32": {"tolerance": 1e-4}}}


def test_fifty_models_are_planned(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    config = fp32_only(workflow.config())
    one = workflow.planned(config, "results/projection")
    config["models"] = {f"m{i:02}": config["models"]["projection"] for i in range(50)}
    for name, model in config["models"].items():
        shutil.copytree(workflow.work / "projection", workflow.work / name)
        config["models"][name] = {k: v.replace("projection", name) for k, v in model.items()}
    wanted = {m.replace("projection", name) for m in one for name in config["models"]}
    # The folder, which is a target of its own, is not what the run as a whole asks for.
    assert workflow.planned(config) == {m for m in wanted if not m.startswith("all of")}


def test_a_model_that_fails_leaves_the_others_delivered(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    config = fp32_only(workflow.config())
    checkpoint = workflow.work / "no-projection" / "pretrained.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])

    done = workflow.snakemake(config, "--cores", "2", "--keep-going")
    assert done.returncode != 0
    assert (workflow.work / "results/projection/sherpa-ncnn/fp32/tokens.txt").is_file()
    assert "results/projection/sherpa-ncnn/fp32/    ready for sherpa-ncnn" in done.stdout
    _, _, summary = done.stdout.partition("1 of 2 models are finished\n")
    model, job, why, log, *_ = summary.splitlines()
    assert model == "no-projection is not; delivered: nothing"
    assert job == "  failed: reading the sizes off no-projection/pretrained.pt"
    assert "no-projection/pretrained.pt: not a checkpoint that torch can read" in why
    assert why.strip().removesuffix("…") in (workflow.work / log.strip()).read_text()

    # The next run is about what failed alone.
    planned = workflow.planned(config)
    assert planned
    assert all(message.startswith("no-projection: ") for message in planned)


def test_a_run_without_models_says_nothing_of_them(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    done = workflow.snakemake(workflow.config(), "--cores", "1", "check_manifest")
    assert "holds no delivered model" in done.stdout + done.stderr
    assert "models are finished" not in done.stdout
    assert "Traceback" not in done.stderr
