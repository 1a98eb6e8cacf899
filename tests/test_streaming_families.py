"""The families that stream in chunks, through every stage of the workflow; one run for all tests.

A ConvEmformer comes from a training folder, its settings with it, and is averaged. A Zipformer
comes from a checkpoint without settings, which are stated: two models of it, with chunks of
different lengths. And the trained Zipformer that ships is held to the limits that users have.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GOLDEN, ROOT
from rapidfuzz.distance import Levenshtein
from workflow import LENIENT, Config, Workflow

from transducer2ncnn.base import layout
from transducer2ncnn.engines import search
from transducer2ncnn.engines.pytorch import TorchTransducer
from transducer2ncnn.families import model
from transducer2ncnn.formats import param
from transducer2ncnn.formats.checkpoint import load_state_dict
from transducer2ncnn.speech import audio

EMFORMER = json.loads((GOLDEN / "conv-emformer/settings.json").read_text())
ZIPFORMER = json.loads((GOLDEN / "zipformer/settings.json").read_text())

#: The models, and their precisions.
MODELS = {
    "emformer": ("fp32", "int8"),
    "zipformer": ("fp32", "fp16", "int8-table"),
    "zipformer-64": ("fp32",),
    "zipformer-digits": ("fp32", "fp16", "strict"),
}
TRAINED = ROOT / "models" / "zipformer-digits"


class Families(Workflow):
    """A copy of the project, golden checkpoints, and a little speech."""

    #: What the run printed.
    said: str

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name in ("conv-emformer", "zipformer"):
            shutil.copytree(GOLDEN / name, self.work / name)
        kept = torch.load(GOLDEN / "conv-emformer/epoch-1.pt", weights_only=False)
        (self.work / "exp").mkdir()
        for epoch in (1, 2):
            weights = {name: x * (0.9 + epoch / 15) for name, x in kept["model"].items()}
            torch.save(kept | {"model": weights}, self.work / f"exp/epoch-{epoch}.pt")
        for wav in (self.work / "wavs").iterdir():
            wav.unlink()
        rows = (GOLDEN / "int8/wavs/transcripts.tsv").read_text().splitlines()[:3]
        for row in rows[1:]:
            shutil.copy(GOLDEN / "int8/wavs" / row.split("\t")[0], self.work / "wavs")
        lines = [rows[0], *(f"wavs/{row}" for row in rows[1:])]
        (self.work / "said.tsv").write_text("\n".join(lines) + "\n")

    def config(self) -> Config:
        speech = {"test_wavs": "wavs", "evaluation": "said.tsv"}
        zipformer = {
            "family": "zipformer",
            "checkpoint": "zipformer/pretrained.pt",
            "tokens": "zipformer/tokens.txt",
        }
        return {
            "models": {
                "emformer": {
                    "family": "conv_emformer",
                    "source": "exp_dir",
                    "exp_dir": "exp",
                    "epoch": 2,
                    "avg": 2,
                    "tokens": "conv-emformer/tokens.txt",
                    "precisions": list(MODELS["emformer"]),
                    **speech,
                },
                "zipformer": zipformer
                | speech
                | {"calibration_wavs": "wavs", "precisions": list(MODELS["zipformer"])}
                | {"settings": {"decode_chunk_len": 32, "num_left_chunks": 4}},
                "zipformer-64": zipformer
                | {"test_wavs": "wavs", "precisions": list(MODELS["zipformer-64"])}
                | {"settings": {"decode_chunk_len": 64, "num_left_chunks": 2}},
                "zipformer-digits": {
                    "family": "zipformer",
                    "checkpoint": str(TRAINED / "pretrained.pt"),
                    "tokens": str(TRAINED / "tokens.txt"),
                    "test_wavs": str(TRAINED / "test_wavs"),
                    "transcripts": str(TRAINED / "test_wavs" / "transcripts.tsv"),
                    "precisions": list(MODELS["zipformer-digits"]),
                    "settings": {"decode_chunk_len": 32, "num_left_chunks": 4},
                },
            },
            "precisions": {
                "fp32": {},
                "fp16": {},
                "int8": dict(LENIENT),
                "int8-table": dict(LENIENT),
                # As recipes are unless a configuration says otherwise.
                "strict": {"recipe": "int8"},
            },
            "calibration": {"shards": 1},
            "verification": {"segments": 12},
            "evaluation": {"shards": 1, "rounds": 1},
        }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Families:
    workflow = Families(tmp_path_factory.mktemp("families"))
    workflow.said = workflow.run(workflow.config())
    return workflow


def read(workflow: Families, path: str) -> Any:
    return json.loads((workflow.work / "results" / path).read_text())


def test_settings_come_with_the_checkpoints(finished: Families) -> None:
    made = read(finished, "emformer/model.json")
    names = ("nhead", "chunk_length", "left_context_length", "right_context_length", "memory_size")
    assert {name: made["settings"][name] for name in names} == {
        name: EMFORMER[name] for name in names
    }
    assert {made["settings_from"][name] for name in names} == {
        f"{name} in the checkpoint" for name in names
    }
    assert made["settings"]["masked"] is True
    assert read(finished, "emformer/manifest.json")["settings"] == made["settings"]
    # The average is of the two, and as far as each other.
    averaged = load_state_dict(finished.work / "results/emformer/averaged.pt")
    stored = load_state_dict(GOLDEN / "conv-emformer/epoch-1.pt")
    weight = "encoder.encoder.emformer_layers.1.attention.out_proj.weight"
    torch.testing.assert_close(averaged[weight], stored[weight])


def test_one_checkpoint_with_two_chunk_lengths(finished: Families) -> None:
    for name, chunk, left in (("zipformer", 32, 4), ("zipformer-64", 64, 2)):
        made = read(finished, f"{name}/model.json")
        assert made["settings"] == {"decode_chunk_len": chunk, "num_left_chunks": left}
        folder = finished.work / f"results/{name}/sherpa-ncnn/fp32"
        graph = param.read(layout.ncnn_files(folder)["encoder"][0])
        told = graph.layers[0].line.split()
        wanted = ZIPFORMER["sherpa_meta_data"].split()
        numbers = {"1=32": f"1={chunk}", "2=4": f"2={left}"}
        assert told == [numbers.get(word, word) for word in wanted]


@pytest.mark.parametrize("name", MODELS)
def test_every_precision_is_delivered_and_recognises_what_ncnn_does(
    finished: Families, name: str
) -> None:
    for precision in MODELS[name]:
        folder = finished.work / f"results/{name}/sherpa-ncnn/{precision}"
        assert set(layout.delivered_files(folder)) == set(layout.PARTS)
        assert (folder / "tokens.txt").is_file()
        table = finished.work / f"results/{name}/transcripts/{precision}.tsv"
        rows = list(csv.DictReader(table.open(), delimiter="\t"))
        assert all(row["sherpa-ncnn"] for row in rows)
        # sherpa-ncnn holds weights in fp16, and here the best two of a random model's logits
        # may be closer than that. tests/test_zipformer.py compares at the same options.
        assert {row["agree"] for row in rows} == {"yes"} or name == "zipformer-64"
    errors = read(finished, f"{name}/verification/fp32.json")["parts"]["encoder"]
    assert errors["max_error"] < 1e-4
    assert "streaming" in errors["max_error_by_run"]


@pytest.mark.parametrize("name", MODELS)
def test_fp32_recognises_what_pytorch_does(finished: Families, name: str) -> None:
    described = read(finished, f"{name}/model.json")
    checkpoint = {
        "emformer": finished.work / "results/emformer/averaged.pt",
        "zipformer-digits": TRAINED / "pretrained.pt",
    }.get(name, finished.work / "zipformer/pretrained.pt")
    transducer = TorchTransducer(model.load_described(checkpoint, described))
    lines = (finished.work / f"results/{name}/tokens.txt").read_text().splitlines()
    symbols = [line.split()[0] for line in lines]
    table = finished.work / f"results/{name}/transcripts/fp32.tsv"
    for row in csv.DictReader(table.open(), delimiter="\t"):
        ids = search.decode(transducer, audio.read(finished.work / row["wav"]))
        text = "".join(symbols[i] for i in ids).replace("▁", " ")
        assert row["ncnn"].split() == text.split()
        assert len(ids) > 3


@pytest.mark.parametrize(
    ("name", "precision", "linear"),
    # Per layer, and the embedding. The projection of the Zipformer's positions is a constant.
    [("emformer", "int8", 9 * 3 + 1), ("zipformer", "int8-table", 15 * 7 + 1)],
)
def test_int8_takes_all_linear_layers(
    finished: Families, name: str, precision: str, linear: int
) -> None:
    (fp32, fp32_bin), (_, int8_bin) = (
        layout.ncnn_files(finished.work / f"results/{name}/ncnn/{x}", x)["encoder"]
        for x in ("fp32", precision)
    )
    names = {layer.name for layer in param.read(fp32).layers if layer.type == "InnerProduct"}
    assert len(names) == linear
    layers = read(finished, f"{name}/quantization/{precision}.json")["layers"]
    assert names <= {layer["name"] for layer in layers if layer["part"] == "encoder"}
    assert int8_bin.stat().st_size < 0.5 * fp32_bin.stat().st_size


@pytest.mark.parametrize("name", ["emformer", "zipformer"])
def test_it_is_evaluated_and_reported(finished: Families, name: str) -> None:
    for precision in MODELS[name]:
        found = read(finished, f"{name}/evaluation/{precision}.json")
        assert found["utterances"] == 2
        assert found["agreement"]["tokens"] > 10
    found = read(finished, f"{name}/evaluation/fp32.json")["agreement"]
    assert found["same"] == found["tokens"]
    report = (finished.work / f"results/{name}/report.html").read_text()
    setting = "memory_size" if name == "emformer" else "decode_chunk_len"
    assert re.search(rf"{setting}</td>\s*<td[^>]*>\d+</td>", report)


def test_another_chunk_length_makes_one_model_stale(finished: Families) -> None:
    config = finished.config()
    assert finished.planned(config) == set()
    config["models"]["zipformer-64"]["settings"]["num_left_chunks"] = 4
    planned = finished.planned(config)
    assert "zipformer-64: tracing the encoder, decoder and joiner" in planned
    assert all(message.startswith("zipformer-64: ") for message in planned)


def test_the_trained_model_recognises_speech(finished: Families) -> None:
    """In every precision, through sherpa-ncnn. Of 33 words, PyTorch has two wrong."""
    for precision in MODELS["zipformer-digits"]:
        table = finished.work / f"results/zipformer-digits/transcripts/{precision}.tsv"
        rows = list(csv.DictReader(table.open(), delimiter="\t"))
        said, heard = ([row[key].split() for row in rows] for key in ("reference", "sherpa-ncnn"))
        assert sum(map(len, said)) == 33
        errors = sum(map(Levenshtein.distance, said, heard))
        assert errors <= 2, (precision, errors)
