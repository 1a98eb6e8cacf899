"""The workflow itself, run for real: what it makes, and what it finds stale."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from conftest import GOLDEN, ROOT

#: What of the project a run needs.
SOURCES = "Snakefile rules workflow_scripts transducer2ncnn envs profiles report".split()  # noqa: SIM905

Config = dict


class Workflow:
    """A copy of the project and a folder to run it in."""

    def __init__(self, folder: Path) -> None:
        self.project, self.work = folder / "project", folder / "work"
        for name in SOURCES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            self.project.mkdir(exist_ok=True)
            copy(ROOT / name, self.project / name)
        (self.work / "wavs").mkdir(parents=True)
        rng = np.random.default_rng(0)
        for name in ("a", "b"):
            noise = rng.standard_normal(12000) * 0.1
            soundfile.write(self.work / "wavs" / f"{name}.wav", noise, 16000)
        for name in ("projection", "no-projection"):
            shutil.copytree(GOLDEN / f"checkpoint-{name}", self.work / name)

    def config(self) -> Config:
        models = {
            name: {
                "checkpoint": f"{name}/pretrained.pt",
                "tokens": f"{name}/tokens.txt",
                "test_wavs": "wavs/*.wav",
            }
            for name in ("projection", "no-projection")
        }
        models["projection"]["calibration_wavs"] = "wavs"
        return {
            "models": models,
            "precisions": {
                "fp32": {"tolerance": 1e-4},
                "fp16": {"tolerance": 2e-2},
                # These models are random: what is best among equals hangs on little.
                "int8": {"min_agreement": 0.1},
            },
            "verification": {"lengths": [9, 30], "segments": 10},
        }

    def snakemake(self, config: Config, *arguments: str) -> subprocess.CompletedProcess:
        (self.work / "config.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", "-s", self.project / "Snakefile"]
        # Nothing of this checkout may reach the run: it is the copy that is under test.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return subprocess.run(
            [*command, *arguments], cwd=self.work, env=environment, capture_output=True, text=True
        )

    def run(self, config: Config, *arguments: str, cores: int = 2) -> str:
        done = self.snakemake(config, "--cores", str(cores), *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def planned(self, config: Config, *arguments: str) -> set[str]:
        """The messages of the jobs that a run would start."""
        done = self.snakemake(config, "-n", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        messages = re.findall(r"^Job \d+: (.*)$", done.stdout + done.stderr, re.MULTILINE)
        return {m for m in messages if not m.startswith("everything")}

    def files(self) -> dict[str, bytes]:
        """The exported files, by path."""
        results = self.work / "results"
        kinds = (".param", ".bin", ".txt", ".tsv", ".json", ".html")
        found = (f for f in results.rglob("*") if f.suffix in kinds)
        return {str(f.relative_to(results)): f.read_bytes() for f in found}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    workflow = Workflow(tmp_path_factory.mktemp("finished"))
    workflow.run(workflow.config())
    return workflow


def of(precision: str, *models: str) -> set[str]:
    """What follows from new ncnn files of one precision."""
    against = "fp32" if precision == "int8" else "PyTorch"
    where = "" if precision == "int8" else " in ncnn"
    return {
        message
        for model in models
        for message in (
            f"{model}: comparing {precision}{where} with {against}",
            f"{model}: putting together results/{model}/sherpa-ncnn/{precision}",
            f"{model}: transcribing with {precision}",
            f"{model}: making the report",
        )
    }


MEASURING = "projection: measuring what int8 does to each layer"
QUANTIZING = {f"projection: quantizing the {part}" for part in ("encoder", "joiner")} | {MEASURING}
CHOOSING = {f"projection: choosing the {part}'s scales" for part in ("encoder", "joiner")}


def test_it_makes_every_artifact(finished: Workflow) -> None:
    made = set(finished.files())
    for model in ("projection", "no-projection"):
        for precision in ("fp32", "fp16"):
            for part in ("encoder", "decoder", "joiner"):
                name = f"{part}_jit_trace-pnnx"
                assert (finished.work / f"results/{model}/torchscript/{name}.pt").is_file()
                for kind in ("param", "bin"):
                    for folder in ("ncnn", "sherpa-ncnn"):
                        assert f"{model}/{folder}/{precision}/{name}.ncnn.{kind}" in made
            assert f"{model}/sherpa-ncnn/{precision}/tokens.txt" in made
            assert f"{model}/verification/{precision}.json" in made
            table = finished.work / f"results/{model}/transcripts/{precision}.tsv"
            rows = list(csv.DictReader(table.open(), delimiter="\t"))
            assert [row["wav"] for row in rows] == ["wavs/a.wav", "wavs/b.wav"]
            assert {row["agree"] for row in rows} == {"yes"}
    for part in ("encoder", "joiner"):
        assert f"projection/ncnn/int8/{part}-scale-table.txt" in made
        for kind in ("param", "bin"):
            for folder in ("ncnn", "sherpa-ncnn"):
                assert f"projection/{folder}/int8/{part}_jit_trace-pnnx.ncnn.int8.{kind}" in made
    assert "projection/sherpa-ncnn/int8/decoder_jit_trace-pnnx.ncnn.bin" in made
    assert "projection/verification/int8.json" in made
    assert "projection/transcripts/int8.tsv" in made
    assert not any(name.startswith("no-projection") and "int8" in name for name in made)
    assert not list((finished.work / "results").rglob(".*"))  # nothing partial


def test_a_second_run_does_nothing(finished: Workflow) -> None:
    assert "Nothing to be done" in finished.run(finished.config())


def test_a_deleted_artifact_is_made_again_with_what_hangs_on_it(finished: Workflow) -> None:
    before = finished.files()
    path = finished.work / "results/projection/ncnn/fp16/joiner_jit_trace-pnnx.ncnn.bin"
    path.unlink()
    joiner = {"projection: converting the joiner to fp16"}
    assert finished.planned(finished.config()) == joiner | of("fp16", "projection")
    finished.run(finished.config())
    assert finished.files() == before
    assert finished.planned(finished.config()) == set()


def test_a_deleted_trace_is_made_again(finished: Workflow) -> None:
    path = finished.work / "results/projection/torchscript/decoder_jit_trace-pnnx.pt"
    content = path.read_bytes()
    path.unlink()
    planned = finished.planned(finished.config())
    assert planned == {
        "projection: tracing the decoder",
        "projection: converting the decoder to fp32",
        "projection: converting the decoder to fp16",
    } | of("fp32", "projection") | of("fp16", "projection") | of("int8", "projection")
    finished.run(finished.config())
    assert path.read_bytes() == content


def test_one_models_config_leaves_the_other_alone(finished: Workflow) -> None:
    config = finished.config()
    config["models"]["projection"]["test_wavs"] = "wavs/a.wav"
    # The test wavs are what int8 is compared with fp32 on, too.
    assert finished.planned(config) == {
        "projection: transcribing with fp32",
        "projection: transcribing with fp16",
    } | of("int8", "projection")


@pytest.mark.parametrize(
    ("key", "value", "stale"),
    [
        ("lstm", False, CHOOSING | QUANTIZING | of("int8", "projection")),
        (
            "keep",
            {"joiner": ["linear_1"]},
            {
                "projection: choosing the joiner's scales",
                "projection: quantizing the joiner",
                *of("int8", "projection"),
            },
        ),
        ("rest", "fp32", QUANTIZING | of("int8", "projection")),
        ("min_agreement", 0.2, of("int8", "projection")),
        ("joiner", "fp16", of("int8", "projection")),
    ],
)
def test_options_of_int8_make_stale_what_hangs_on_them(
    finished: Workflow, key: str, value: object, stale: set[str]
) -> None:
    config = finished.config()
    config["precisions"]["int8"][key] = value
    assert finished.planned(config) == stale


def test_other_calibration_audio(finished: Workflow) -> None:
    config = finished.config()
    config["models"]["projection"]["calibration_wavs"] = "wavs/a.wav"
    observing = {f"projection: observing activations, shard {i} of 2" for i in (1, 2)}
    stale = observing | CHOOSING | QUANTIZING | of("int8", "projection")
    assert finished.planned(config) == stale


def test_int8_is_the_same_for_any_number_of_shards(finished: Workflow) -> None:
    config = finished.config()
    before = finished.files()
    config["precisions"]["int8"]["shards"] = 3
    finished.run(config, "results/projection/sherpa-ncnn/int8")
    assert {k: v for k, v in finished.files().items() if "int8" in k} == {
        k: v for k, v in before.items() if "int8" in k
    }
    finished.run(finished.config())


def test_a_layer_that_is_to_be_kept_must_exist(finished: Workflow) -> None:
    config = finished.config()
    config["precisions"]["int8"]["keep"] = {"encoder": ["linear_99"]}
    done = finished.snakemake(config, "--cores", "2", "results/projection/sherpa-ncnn/int8")
    assert done.returncode != 0
    assert "precisions.int8.keep.encoder: linear_99 is not in" in done.stdout + done.stderr
    finished.run(finished.config())


def test_one_precisions_options_leave_the_other_alone(finished: Workflow) -> None:
    config = finished.config()
    config["precisions"]["fp16"]["tolerance"] = 1e-2
    assert finished.planned(config) == of("fp16", "projection", "no-projection")


def test_what_it_is_verified_on_leaves_the_files_alone(finished: Workflow) -> None:
    config = finished.config()
    config["verification"]["segments"] = 11
    planned = finished.planned(config)
    assert "projection: running the model in PyTorch, for reference" in planned
    assert not any("converting" in message or "tracing" in message for message in planned)


@pytest.mark.parametrize(
    ("module", "stale"),
    [
        ("transducer2ncnn/greedy.py", {"transcribing"}),
        (
            "transducer2ncnn/convert.py",
            {"converting", "choosing", "quantizing", "comparing", "putting", "transcribing"},
        ),
        (
            "transducer2ncnn/quantize.py",
            {"choosing", "quantizing", "comparing", "putting", "transcribing"},
        ),
        ("workflow_scripts/deliver.py", {"putting", "transcribing"}),
        (
            "transducer2ncnn/families/lstm/graph.py",
            {"reading", "tracing", "converting", "running", "observing", "choosing", "quantizing"}
            | {"comparing", "putting", "transcribing"},
        ),
    ],
)
def test_changed_code_makes_what_it_made_stale(
    finished: Workflow, module: str, stale: set[str]
) -> None:
    path = finished.project / module
    source = path.read_text()
    try:
        path.write_text(source + "\n# A comment changes nothing.\n")
        assert finished.planned(finished.config()) == set()
        path.write_text(source + "\nCHANGED = True\n")
        planned = finished.planned(finished.config())
    finally:
        path.write_text(source)
    assert {message.split()[1] for message in planned} == stale
    if "quantize" not in module:
        assert {message.split(":")[0] for message in planned} == {"projection", "no-projection"}


def test_the_same_bytes_on_one_core(finished: Workflow, tmp_path: Path) -> None:
    alone = Workflow(tmp_path)
    config = alone.config()
    del config["models"]["no-projection"]
    alone.run(config, cores=1)
    expected = {k: v for k, v in finished.files().items() if k.startswith("projection/")}
    assert alone.files() == expected


@pytest.mark.parametrize(
    "target", ["results/projection/sherpa-ncnn/fp16", "results/projection/sherpa-ncnn/fp16/"]
)
def test_a_folder_can_be_asked_for(finished: Workflow, target: str) -> None:
    config = finished.config()
    config["precisions"] = {"fp16": {"tolerance": 1e-2}}
    planned = finished.planned(config, target)
    messages = of("fp16", "projection") - {"projection: transcribing with fp16"}
    assert planned - {f"{target} is complete"} == messages


def test_any_file_can_be_asked_for(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    target = "results/projection/ncnn/fp16/joiner_jit_trace-pnnx.ncnn.param"
    assert workflow.planned(workflow.config(), target) == {
        "projection: reading the sizes off projection/pretrained.pt",
        "projection: tracing the joiner",
        "projection: converting the joiner to fp16",
    }


def test_the_gate_keeps_what_fails_it(finished: Workflow) -> None:
    config = finished.config()
    config["models"] = {"strict": config["models"]["projection"]}
    config["precisions"] = {"fp32": {"tolerance": 1e-9}}
    done = finished.snakemake(config, "--cores", "2", "results/strict/sherpa-ncnn/fp32")
    assert done.returncode != 0
    # 'conv_13', or whatever number pnnx gave to the first convolution.
    assert re.search(
        r"they part first at blob '\d+' \(output of Convolution", done.stdout + done.stderr
    )
    assert not (finished.work / "results/strict/sherpa-ncnn").exists()
    assert not (finished.work / "results/strict/verification/fp32.json").exists()


def test_int8_that_agrees_too_little_is_not_delivered(finished: Workflow) -> None:
    config = finished.config()
    config["models"] = {"random": config["models"]["projection"]}
    config["precisions"]["int8"]["min_agreement"] = 1.0
    done = finished.snakemake(config, "--cores", "2", "results/random/sherpa-ncnn/int8")
    assert done.returncode != 0
    assert re.search(
        r"in \d+\.\d% of \d+ frames; precisions.int8.min_agreement asks for 100.0%",
        done.stdout + done.stderr,
    )
    assert not (finished.work / "results/random/sherpa-ncnn").exists()


def test_a_stated_size_that_differs_stops_the_run_before_it_writes(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    config = workflow.config()
    config["models"]["projection"]["sizes"] = {"encoder_dim": 512}
    done = workflow.snakemake(config, "--cores", "2")
    assert done.returncode != 0
    assert "encoder_dim is 32, not 512" in done.stdout + done.stderr
    assert not (workflow.work / "results").exists()


def test_a_wrong_config_is_one_message(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    config = workflow.config()
    config["models"]["projection"]["tolens"] = "x"
    done = workflow.snakemake(config, "--cores", "2")
    assert done.returncode != 0
    assert (
        "models.projection.tolens: unknown key. Did you mean `tokens`" in done.stdout + done.stderr
    )
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "snakemake", "--lint"],
        [Path(sys.executable).with_name("snakefmt"), "--check", "Snakefile", "rules"],
    ],
)
def test_the_rules_are_clean(command: list) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
