"""The workflow itself, run for real: what it makes, and what it finds stale."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from workflow import LENIENT, Config, Workflow


class Named(Workflow):
    """With a precision of the user's own name and recipe, which takes no calibration."""

    def config(self) -> Config:
        config = super().config()
        config["precisions"]["my-int8"] = {
            "recipe": "int8",
            "encoder": {"InnerProduct#1": "int8-dynamic"},
            "decoder": {"Embed": "int8-table"},
            "joiner": "fp16",
            **LENIENT,
        }
        return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    workflow = Named(tmp_path_factory.mktemp("finished"))
    workflow.run(workflow.config())
    return workflow


def of(precision: str, *models: str) -> set[str]:
    """What follows from new ncnn files of one precision."""
    against = "fp32" if "int8" in precision else "PyTorch"
    where = "" if "int8" in precision else " in ncnn"
    return {
        message
        for model in models
        for message in (
            f"{model}: comparing {precision}{where} with {against}",
            f"{model}: putting together results/{model}/sherpa-ncnn/{precision}",
            f"{model}: transcribing with {precision}",
            f"{model}: writing the manifest",
        )
    }


def quantizing(precision: str, *parts: str) -> set[str]:
    measuring = f"projection: measuring what {precision} does to each layer"
    return {measuring, *(f"projection: quantizing the {part} for {precision}" for part in parts)}


def choosing(precision: str, *parts: str) -> set[str]:
    return {f"projection: choosing the {part}'s scales for {precision}" for part in parts}


PARTS = ("encoder", "decoder", "joiner")
BOTH = ("encoder", "joiner")
TRACING = "projection: tracing the encoder, decoder and joiner"
CHECKING = "projection: checking all of its recordings"
HEADROOM = "projection: measuring the headroom in fp16"


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
        assert f"projection/ncnn/int8-table/{part}-scale-table.txt" in made
        for kind in ("param", "bin"):
            for folder in ("ncnn", "sherpa-ncnn"):
                assert (
                    f"projection/{folder}/int8-table/{part}_jit_trace-pnnx.ncnn.int8.{kind}" in made
                )
    assert "projection/sherpa-ncnn/int8-table/decoder_jit_trace-pnnx.ncnn.bin" in made
    assert "projection/verification/int8-table.json" in made
    assert "projection/transcripts/int8-table.tsv" in made
    assert "projection/quantization/int8-table.json" in made
    # What is calibrated takes recordings for that, and what is not does not.
    assert not any(name.startswith("no-projection") and "/int8" in name for name in made)
    for model in ("projection", "no-projection"):
        folder = f"{model}/sherpa-ncnn/my-int8"
        assert {name.rpartition("/")[2] for name in made if name.startswith(folder)} == {
            "tokens.txt",
            *(
                f"{part}_jit_trace-pnnx.ncnn{kind}"
                for part, int8 in (("encoder", ".int8"), ("decoder", ".int8"), ("joiner", ""))
                for kind in (f"{int8}.param", f"{int8}.bin")
            ),
        }
        assert f"{model}/ncnn/my-int8/decoder-scale-table.txt" in made
        assert f"{model}/ncnn/my-int8/encoder-scale-table.txt" not in made
        graph = finished.work / f"results/{folder}/encoder_jit_trace-pnnx.ncnn.int8.param"
        types = [line.split()[0] for line in graph.read_text().splitlines()[2:]]
        assert "Gemm" in types and "InnerProduct" not in types
        for name in ("verification", "quantization"):
            assert f"{model}/{name}/my-int8.json" in made
        assert f"{model}/transcripts/my-int8.tsv" in made
    assert {"projection/report.html", "no-projection/report.html"} <= made
    headroom = json.loads(
        (finished.work / "results/projection/verification/headroom.json").read_text()
    )
    assert headroom["speech"] and headroom["seconds"] == pytest.approx(1.5)
    assert not list((finished.work / "results").rglob(".*"))  # nothing partial


def test_a_second_run_does_nothing(finished: Workflow) -> None:
    assert "Nothing to be done" in finished.run(finished.config())


def test_the_rules_of_each_model_are_snakemakes(finished: Workflow) -> None:
    def rules(model: str) -> tuple[set[str], set[tuple[str, str]]]:
        found = json.loads((finished.work / f"results/{model}/rules.json").read_text())
        return set(found["rules"]), {(a, b) for a, b in found["edges"]}

    for model in ("projection", "no-projection"):
        done = finished.snakemake(
            finished.config(), "--rulegraph", "mermaid-js", f"results/{model}"
        )
        names = dict(re.findall(r"(id\d+)\[(.*?)\]", done.stdout))
        arrows = re.findall(r"(id\d+) --> (id\d+)", done.stdout)
        nodes, edges = rules(model)
        assert nodes == {name for name in names.values() if "/" not in name}
        assert edges == {(names[a], names[b]) for a, b in arrows if "/" not in names[b]}
        assert ("make_reference", "verify") in edges
        # What fp16 cannot hold is not delivered.
        assert {a for a, b in edges if b == "deliver"} >= {"verify", "measure_headroom"}
    assert ("quantize", "measure_layers") in rules("projection")[1]
    assert "quantize" in rules("no-projection")[0]
    assert "observe" not in rules("no-projection")[0]


def test_the_report_is_made_again_for_what_it_shows(finished: Workflow) -> None:
    def reports(config: Config) -> set[str]:
        done = finished.snakemake(config, "-n")
        return set(re.findall(r"^ *Job \d+: (.*): making the report$", done.stdout, re.MULTILINE))

    template = finished.project / "transducer2ncnn/report/templates/style.css"
    style = template.read_text()
    try:
        assert reports(finished.config()) == set()
        template.write_text(style + "p { color: black; }\n")
        assert reports(finished.config()) == {"projection", "no-projection"}
    finally:
        template.write_text(style)
    config = finished.config()
    config["models"]["projection"]["test_wavs"] = "wavs/a.wav"
    assert reports(config) == {"projection"}


def test_snakemakes_own_report_holds_it(finished: Workflow, tmp_path: Path) -> None:
    path = tmp_path / "report.zip"
    done = finished.snakemake(finished.config(), "--report", path)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(path) as held:
        page = held.read("report/report.html").decode()
        raw = [held.read(name) for name in held.namelist() if "/raw/" in name]
    for model in ("projection", "no-projection"):
        assert (finished.work / f"results/{model}/report.html").read_bytes() in raw
    assert "What was exported of" in page and "share of values clipped" in page
    for category in ("Parity", "Quantization", "Report", "Transcripts"):
        assert f'"{category}"' in page


def test_a_deleted_artifact_is_made_again_with_what_hangs_on_it(finished: Workflow) -> None:
    before = finished.files()
    path = finished.work / "results/projection/ncnn/fp16/joiner_jit_trace-pnnx.ncnn.bin"
    path.unlink()
    joiner = {"projection: converting the joiner to fp16"}
    stale = joiner | of("fp16", "projection") | of("my-int8", "projection")
    assert finished.planned(finished.config()) == stale
    finished.run(finished.config())
    assert finished.files() == before
    assert finished.planned(finished.config()) == set()


def test_a_deleted_trace_is_made_again(finished: Workflow) -> None:
    path = finished.work / "results/projection/torchscript/decoder_jit_trace-pnnx.pt"
    content = path.read_bytes()
    path.unlink()
    planned = finished.planned(finished.config())
    # One process traces all parts, so that what is made of the others is made again as well.
    assert planned == {
        TRACING,
        *(f"projection: converting the {part} to fp{x}" for part in PARTS for x in (16, 32)),
        HEADROOM,
        *quantizing("int8-table", *BOTH),
        *choosing("int8-table", *BOTH),
        *choosing("my-int8", "decoder"),
        *quantizing("my-int8", "encoder", "decoder"),
    }.union(*(of(name, "projection") for name in ("fp32", "fp16", "int8-table", "my-int8")))
    finished.run(finished.config())
    assert path.read_bytes() == content


def test_one_models_config_leaves_the_other_alone(finished: Workflow) -> None:
    config = finished.config()
    config["models"]["projection"]["test_wavs"] = "wavs/a.wav"
    # The test wavs are what the headroom is measured on, and what is quantized compared with fp32.
    assert finished.planned(config) == {
        CHECKING,
        HEADROOM,
        *(
            f"projection: {what}"
            for precision in ("fp32", "fp16")
            for what in (
                f"transcribing with {precision}",
                f"putting together results/projection/sherpa-ncnn/{precision}",
            )
        ),
        *(quantizing("int8-table") | of("int8-table", "projection")),
        *(quantizing("my-int8") | of("my-int8", "projection")),
    }


@pytest.mark.parametrize(
    ("key", "value", "stale"),
    [
        ("lstm", False, choosing("int8-table", "encoder") | quantizing("int8-table", "encoder")),
        (
            "keep",
            {"joiner": ["linear_1"]},
            choosing("int8-table", "joiner") | quantizing("int8-table", "joiner"),
        ),
        ("rest", "fp32", quantizing("int8-table", *BOTH)),
        (
            "thresholds",
            "percentile",
            choosing("int8-table", *BOTH) | quantizing("int8-table", *BOTH),
        ),
        (
            "encoder",
            {"LSTM": "int8"},
            choosing("int8-table", "encoder") | quantizing("int8-table", "encoder"),
        ),
        ("min_agreement", 0.2, set()),
        ("joiner", "fp16", quantizing("int8-table")),
    ],
)
def test_options_of_int8_make_stale_what_hangs_on_them(
    finished: Workflow, key: str, value: object, stale: set[str]
) -> None:
    config = finished.config()
    config["precisions"]["int8-table"][key] = value
    assert finished.planned(config) == stale | of("int8-table", "projection")


def test_other_calibration_audio(finished: Workflow) -> None:
    config = finished.config()
    config["models"]["projection"]["calibration_wavs"] = "wavs/a.wav"
    # One recording, so that a second job would have nothing to do.
    observing = {"projection: observing activations, shard 1 of 1"}
    listing = {
        f"projection: {what} the calibration recordings" for what in ("listing", "measuring")
    }
    stale = listing | observing | choosing("int8-table", *BOTH) | quantizing("int8-table", *BOTH)
    stale |= of("int8-table", "projection")
    assert finished.planned(config) == {CHECKING} | stale


def test_a_layer_that_is_to_be_kept_must_exist(finished: Workflow) -> None:
    config = finished.config()
    for name in ("linear_99", "encoder.layers.9.lstm"):
        config["precisions"]["int8-table"]["keep"] = {"encoder": [name]}
        done = finished.snakemake(config, "--cores", "2")
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert (
            f"precisions.int8-table, the encoder: no layer with weights is called {name!r}" in said
        )
        assert "\n  encoder.encoder.layers.0.lstm\n" in said
        # Before anything is done.
        assert "Job 1" not in said and "Traceback" not in said and ".smk" not in said


def test_a_model_keeps_layers_of_its_own_by_pytorchs_names(finished: Workflow) -> None:
    config = finished.config()
    config["models"]["projection"]["keep"] = {"joiner": ["joiner.output_linear"]}
    stale = choosing("int8-table", "joiner") | quantizing("int8-table", "joiner")
    assert finished.planned(config) == stale | of("int8-table", "projection")


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
        (
            "transducer2ncnn/engines/search.py",
            {"measuring", "comparing", "putting", "transcribing", "writing"},
        ),
        (
            "transducer2ncnn/export/convert.py",
            {"converting", "choosing", "quantizing", "measuring", "comparing", "putting"}
            | {"transcribing", "writing"},
        ),
        (
            "transducer2ncnn/quantization/quantize.py",
            {"choosing", "quantizing", "measuring", "comparing", "putting", "transcribing"}
            | {"writing"},
        ),
        ("workflow_scripts/deliver.py", {"putting", "transcribing", "writing"}),
        (
            "transducer2ncnn/families/lstm/graph.py",
            {"reading", "tracing", "converting", "running", "observing", "choosing", "quantizing"}
            | {"measuring", "comparing", "putting", "transcribing", "checking", "writing"},
        ),
        ("transducer2ncnn/quantization/layerwise.py", {"measuring"}),
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
    if stale & {"transcribing"} and "quantize" not in module:
        assert {message.split(":")[0] for message in planned} == {"projection", "no-projection"}


def test_the_same_bytes_on_one_core_in_another_number_of_shards(
    finished: Workflow, tmp_path: Path
) -> None:
    alone = Named(tmp_path)
    config = alone.config()
    del config["models"]["no-projection"]
    config["precisions"]["int8-table"]["shards"] = 1
    alone.run(config, cores=1)

    def files(workflow: Workflow) -> dict[str, bytes]:
        """Less those that state the configuration."""
        stating = ("projection/manifest.json", "projection/report.html")
        found = workflow.files().items()
        return {k: v for k, v in found if k.startswith("projection/") and k not in stating}

    assert len(files(alone)) > 30
    assert files(alone) == files(finished)


@pytest.mark.parametrize(
    "target", ["results/projection/sherpa-ncnn/fp16", "results/projection/sherpa-ncnn/fp16/"]
)
def test_a_folder_can_be_asked_for(finished: Workflow, target: str) -> None:
    config = finished.config()
    config["precisions"] = {"fp16": {"tolerance": 1e-2}}
    planned = finished.planned(config, target)
    messages = of("fp16", "projection") - {
        "projection: transcribing with fp16",
        "projection: writing the manifest",
    }
    assert planned - {f"all of {target}"} == messages


def test_any_file_can_be_asked_for(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    target = "results/projection/ncnn/fp16/joiner_jit_trace-pnnx.ncnn.param"
    assert workflow.planned(workflow.config(), target) == {
        "projection: reading the sizes off projection/pretrained.pt",
        TRACING,
        "projection: converting the joiner to fp32",
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
    results = finished.work / "results/projection"
    shutil.rmtree(results / "sherpa-ncnn/int8-table")
    (results / "verification/int8-table.json").unlink()
    config = finished.config()
    config["precisions"]["int8-table"]["min_agreement"] = 1.0
    done = finished.snakemake(config, "--cores", "2", "results/projection/sherpa-ncnn/int8-table")
    assert done.returncode != 0
    assert re.search(
        r"in \d+\.\d% of the \d+ .*; precisions.int8-table.min_agreement asks for 100.0%",
        done.stdout + done.stderr,
    )
    assert not (results / "sherpa-ncnn/int8-table").exists()
    assert not (results / "verification/int8-table.json").exists()
    finished.run(finished.config())


#: Another workflow that makes all of this one's artifacts, and something of its own out of one.
OUTER = """
configfile: "outer.yaml"

module export:
    snakefile: {snakefile!r}
    config: config["export"]
    prefix: {prefix!r}

use rule * from export{renamed}

rule weigh:
    default_target: True
    input:
        "{prefix}results/projection/sherpa-ncnn/fp16/encoder_jit_trace-pnnx.ncnn.bin",
    output:
        "weight.txt",
    shell:
        "wc -c < {{input}} > {{output}}"
"""


def outer(
    finished: Workflow, renamed: str, *arguments: str, prefix: str = ""
) -> subprocess.CompletedProcess:
    """A run of a workflow that has this one as a module."""
    snakefile = finished.work / "outer.smk"
    project = str(finished.project / "Snakefile")
    snakefile.write_text(OUTER.format(snakefile=project, renamed=renamed, prefix=prefix))
    (finished.work / "outer.yaml").write_text(json.dumps({"export": finished.config()}))
    command = [sys.executable, "-m", "snakemake", "-s", snakefile, "--cores", "2", *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=finished.work, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_it_is_a_module_of_another_workflow(finished: Workflow) -> None:
    lost = finished.work / "results/projection/sherpa-ncnn/fp16/encoder_jit_trace-pnnx.ncnn.bin"
    content = lost.read_bytes()
    lost.unlink()
    outer(finished, " as export_*")
    assert lost.read_bytes() == content
    assert int((finished.work / "weight.txt").read_text()) == len(content)
    finished.run(finished.config())
    # Its folders are targets, by the names that the other workflow gives to its rules.
    for renamed, target in (
        ("", "results/projection"),
        (" as export_*", "export_results/projection/"),
    ):
        done = outer(finished, renamed, "-n", target)
        assert f"all of {target}" in done.stdout
        assert "putting together" not in done.stdout
    # What is below its results can be put elsewhere; what the configuration names stays.
    planned = outer(finished, " as export_*", "-n", "-p", prefix="elsewhere/").stdout
    assert "--checkpoint projection/pretrained.pt" in planned
    assert "--output elsewhere/results/projection/sherpa-ncnn/fp16" in planned


def test_its_files_can_be_named_by_another_configuration_in_another_folder(
    finished: Workflow, tmp_path: Path
) -> None:
    """No config.yaml is there; paths are relative to where it runs."""
    shutil.copytree(finished.work / "projection", tmp_path / "mine")
    model = {"checkpoint": "mine/pretrained.pt", "tokens": "mine/tokens.txt"}
    stated = {"models": {"m": model}, "precisions": {"fp16": {}}}
    (tmp_path / "mine.yaml").write_text(json.dumps(stated))

    def snakemake(*arguments: str) -> str:
        command = [sys.executable, "-m", "snakemake", "-s", finished.project / "Snakefile", "-n"]
        done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True)
        return done.stdout + done.stderr

    planned = snakemake("results/m", "--configfile", "mine.yaml")
    assert "m: comparing fp16 in ncnn with PyTorch" in planned
    assert "all of results/m" in planned
    assert "comparing fp32" not in planned
    # What lies in the folder does not count beside it; and what nothing makes is answered.
    other = {"models": {"unasked": model}}
    (tmp_path / "config.yaml").write_text(json.dumps(other))
    planned = snakemake("--configfile", "mine.yaml", "--", "all")
    assert "m: comparing fp16 in ncnn with PyTorch" in planned and "unasked" not in planned
    said = snakemake("--configfile", "mine.yaml", "--", "results/unasked/sherpa-ncnn/fp16")
    assert "error: results/unasked/sherpa-ncnn/fp16: nothing makes this." in said
    assert "The configuration has no model 'unasked'. Models: m." in said
    (tmp_path / "config.yaml").write_text("models:\n  m: [\n")
    said = snakemake()
    assert "error: config.yaml, line 3, column 1: is no YAML" in said
    assert ".smk" not in said and "Traceback" not in said
    (tmp_path / "config.yaml").unlink()
    missing = snakemake()
    assert f"there is no configuration: no config.yaml in {tmp_path}, and no --config" in missing
    assert "Traceback" not in missing and ".smk" not in missing


def test_int8_alone_is_compared_with_fp32_all_the_same(finished: Workflow) -> None:
    config = finished.config()
    config["models"] = {"alone": config["models"]["projection"]}
    config["precisions"] = {"int8-table": {}}
    planned = finished.planned(config)
    assert "alone: comparing fp32 in ncnn with PyTorch" in planned
    assert "alone: comparing int8-table with fp32" in planned
    assert "alone: putting together results/alone/sherpa-ncnn/fp32" not in planned


def test_what_is_not_quantized_is_said_to_be_elsewhere(finished: Workflow) -> None:
    target = "results/projection/ncnn/int8-table/decoder-scale-table.txt"
    done = finished.snakemake(finished.config(), "-n", target)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert (
        "error: precisions.int8-table: its decoder is not quantized. It is what is in results"
        in said
    )
    assert "Traceback" not in said


def test_a_stated_size_that_differs_stops_the_run_before_it_writes(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    config = workflow.config()
    config["models"]["projection"]["sizes"] = {"encoder_dim": 512}
    done = workflow.snakemake(config, "--cores", "2")
    assert done.returncode != 0
    assert "encoder_dim is 32, not 512" in done.stdout + done.stderr
    assert not (workflow.work / "results").exists()


def test_int8_by_default_needs_no_calibration(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    config = workflow.config()
    config["models"] = {"no-projection": config["models"]["no-projection"]}
    del config["precisions"]
    planned = workflow.planned(config)
    assert "no-projection: quantizing the encoder for int8" in planned
    words = {word for message in planned for word in message.replace("/", " ").split()}
    assert not {"observing", "choosing", "int8-small", "int8-table"} & words
    # The others are there for whoever names them, in the configuration or as a target.
    folder = "results/no-projection/sherpa-ncnn/int8-small"
    assert "no-projection: quantizing the encoder for int8-small" in workflow.planned(
        config, folder
    )
    config["models"]["no-projection"]["precisions"] = ["int8-accurate"]
    planned = workflow.planned(config)
    assert "no-projection: quantizing the encoder for int8-accurate" in planned
    assert "no-projection: quantizing the encoder for int8" not in planned


def test_a_changed_recording_is_not_forgotten_by_a_run_that_is_stopped(tmp_path: Path) -> None:
    """One job names the recordings; what follows from them knows of a change by what it writes."""
    workflow = Workflow(tmp_path)
    config, folder = workflow.config(), "results/projection/calibration"
    targets = (f"{folder}/recordings.tsv", "results/projection/audio.json")
    workflow.run(config, *targets)
    (recording, *_) = sorted((workflow.work / "wavs").glob("*.wav"))
    content = bytearray(recording.read_bytes())
    content[-1] ^= 1
    recording.write_bytes(content)
    listing = "projection: listing the calibration recordings"
    following = {
        "projection: measuring the calibration recordings",
        "projection: checking all of its recordings",
    }
    assert workflow.planned(config, *targets) == {listing, *following}
    # As far as the stopped run came.
    workflow.run(config, f"{folder}/recordings.txt")
    assert workflow.planned(config, *targets) == following


def test_what_a_failed_job_was_given_is_not_taken_for_done(tmp_path: Path) -> None:
    """Its output is gone, and what was made of the one before is still there."""
    workflow = Workflow(tmp_path)
    config, folder = workflow.config(), "results/projection"
    table = f"{folder}/ncnn/int8-table/encoder-scale-table.txt"
    workflow.run(config, table)
    whole = workflow.work / "wavs" / "a.wav"
    added = whole.with_name("c.wav")
    added.write_bytes(whole.read_bytes()[:3000])
    done = workflow.snakemake(config, "--cores", "2", table)
    assert done.returncode != 0 and "Error in rule measure_recordings" in done.stderr
    # Repaired, with the time of the file that it was once copied from.
    shutil.copy2(whole, added)
    assert {
        "projection: measuring the calibration recordings",
        "projection: observing activations, shard 1 of 1",
        "projection: choosing the encoder's scales for int8-table",
    } <= workflow.planned(config, table)


def test_what_is_calibrated_needs_recordings(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    done = workflow.snakemake(
        workflow.config(), "-n", "results/no-projection/quantization/int8-table.json"
    )
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "error: models.no-projection.calibration_wavs: missing." in said
    assert "Traceback" not in said


def test_a_closed_pipe_leaves_no_run_waiting(tmp_path: Path) -> None:
    """As `snakemake … | head -n 1` does it: Snakemake's log, and what jobs say."""
    workflow = Workflow(tmp_path)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # Of the first job on, whose end the scheduler waits for.
    with workflow.start(workflow.config(), "--cores", "1", "list_models", **pipes) as process:
        while "listing models" not in process.stdout.readline():
            assert process.poll() is None
        process.stdout.close()
        assert process.wait(timeout=60) == 0
    assert not list((workflow.work / ".snakemake" / "locks").glob("*"))
    assert "precisions" in (workflow.work / "logs" / "list_models.log").read_text()


def test_a_wrong_config_is_one_message(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    config = workflow.config()
    config["models"]["projection"]["tolens"] = "x"
    done = workflow.snakemake(config, "--cores", "2")
    assert done.returncode != 0
    assert (
        "models.projection.tolens: unknown key. Did you mean `tokens`" in done.stdout + done.stderr
    )
    assert not {"Traceback", ".smk"} & set(re.findall(r"Traceback|\.smk", done.stderr))


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
