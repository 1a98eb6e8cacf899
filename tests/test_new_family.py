"""A family that the project does not know, put into a copy of it: one package, and every stage.

It has settings, chunks, and caches of attention (families/toy). One run is shared by all tests.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import TEST_FAMILIES, random_toy
from workflow import Config, Workflow

from transducer2ncnn.base import layout
from transducer2ncnn.engines import search
from transducer2ncnn.engines.pytorch import TorchTransducer
from transducer2ncnn.families import model
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param, scale_table
from transducer2ncnn.speech import audio

#: What is made of a model: one in all its precisions, and another with a longer context.
TARGETS = (
    "results/toy",
    "results/toy/ncnn/int8-table/encoder-scale-table.txt",
    "results/toy/ncnn/int8-table/joiner-scale-table.txt",
    "results/toy-longer/verification/fp32.json",
    "results/toy-longer/transcripts/fp32.tsv",
)


class NewFamily(Workflow):
    """A copy of the project with one family more, and a training folder of a model of it."""

    #: What the run printed.
    said: str

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        shutil.copytree(TEST_FAMILIES / "toy", self.project / "transducer2ncnn/families/toy")
        (self.work / "exp").mkdir()
        network = random_toy()
        for epoch in (1, 2):
            training = {"decode_chunk_len": 16, "num_left_chunks": 2, "cur_epoch": epoch}
            weights = {name: x * (1 + epoch / 10) for name, x in network.state_dict().items()}
            torch.save({"model": weights} | training, self.work / f"exp/epoch-{epoch}.pt")
        symbols = ["<blk>", "<sos/eos>", "<unk>", *(f"▁{letter}" for letter in "abcdefghijkl")]
        lines = (f"{symbol} {i}\n" for i, symbol in enumerate(symbols))
        (self.work / "tokens.txt").write_text("".join(lines))
        rng = np.random.default_rng(0)
        for i, name in enumerate("ab"):
            samples = rng.standard_normal(16000 * (2 + i)) * 0.1 * (i + 1)
            soundfile.write(self.work / "wavs" / f"{name}.wav", samples, 16000)
        (self.work / "said.tsv").write_text("wav\ttext\nwavs/a.wav\ta b\nwavs/b.wav\tb c\n")

    def config(self) -> Config:
        source = {"source": "exp_dir", "exp_dir": "exp", "epoch": 2, "avg": 2}
        common = {"family": "toy", "tokens": "tokens.txt", "test_wavs": "wavs", **source}
        return {
            "models": {
                "toy": common
                | {
                    "precisions": ["fp32", "fp16"],
                    "calibration_wavs": "wavs",
                    "evaluation": "said.tsv",
                },
                "toy-longer": common | {"precisions": ["fp32"], "settings": {"left_chunks": 3}},
            },
            "precisions": {
                "fp32": {"tolerance": 1e-4},
                "fp16": {"tolerance": 2e-2},
                "int8-table": {"shards": 1},
            },
            "verification": {"lengths": [9, 30], "segments": 30},
            "evaluation": {"shards": 1, "rounds": 1},
        }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> NewFamily:
    workflow = NewFamily(tmp_path_factory.mktemp("family"))
    workflow.said = workflow.run(workflow.config(), *TARGETS)
    return workflow


def read(workflow: NewFamily, path: str) -> Any:
    return json.loads((workflow.work / "results" / path).read_text())


def test_settings_are_settled_said_and_written_down(finished: NewFamily) -> None:
    made = {name: read(finished, f"{name}/model.json") for name in ("toy", "toy-longer")}
    assert made["toy"]["settings"] == {"chunk_length": 16, "left_chunks": 2}
    assert made["toy-longer"]["settings"] == {"chunk_length": 16, "left_chunks": 3}
    assert made["toy-longer"]["settings_from"] == {
        "chunk_length": "decode_chunk_len in the checkpoint",
        "left_chunks": "the configuration",
    }
    manifest = read(finished, "toy/manifest.json")
    assert manifest["settings"] == made["toy"]["settings"]
    report = (finished.work / "results/toy/report.html").read_text()
    assert re.search(r"chunk_length</td>\s*<td[^>]*>16</td>\s*<td>decode_chunk_len in", report)
    # A run says so where training's own default was taken, or contradicted.
    assert "settings.left_chunks is taken from results/toy/averaged.pt" in finished.said
    assert (
        "settings.left_chunks is 3 in the configuration, and num_left_chunks is 2 in "
        "results/toy/averaged.pt: the former is taken." in finished.said
    )


def test_the_average_is_shared(finished: NewFamily) -> None:
    assert finished.said.count("averaging exp/epoch-1.pt exp/epoch-2.pt") == 1
    assert not (finished.work / "results/toy-longer/averaged.pt").exists()
    assert "settings" not in read(finished, "toy-longer/model.json")["sizes"]


def test_its_graph_is_its_own_in_each(finished: NewFamily) -> None:
    """The caches of the one are longer than the other's, and sherpa-ncnn is told."""
    for name, left in (("toy", 2), ("toy-longer", 3)):
        errors = read(finished, f"{name}/verification/fp32.json")["parts"]["encoder"]
        assert errors["max_error"] < 1e-5
        assert set(errors["max_error_by_run"]) == {
            "23 frames",
            "streaming",
            *(f"random states {i}" for i in range(3)),
        }
        folder = finished.work / f"results/{name}/sherpa-ncnn/fp32"
        graph = param.read(layout.ncnn_files(folder)["encoder"][0])
        assert graph.layers[0].line.split()[1:] == (
            f"sherpa_meta_data1 0 0 0=2 1=16 2={left} 3=7 15=1 "
            "-23316=1,2 -23317=1,16 -23318=1,12 -23319=1,1 -23320=1,5".split()
        )


def test_sherpa_ncnn_plain_ncnn_and_pytorch_recognise_the_same(finished: NewFamily) -> None:
    for name in ("toy", "toy-longer"):
        table = finished.work / f"results/{name}/transcripts/fp32.tsv"
        rows = list(csv.DictReader(table.open(), delimiter="\t"))
        assert {row["agree"] for row in rows} == {"yes"}
        network = model.load_described(
            finished.work / "results/toy/averaged.pt", read(finished, f"{name}/model.json")
        )
        for row in rows:
            ids = search.decode(TorchTransducer(network), audio.read(finished.work / row["wav"]))
            text = " ".join("abcdefghijkl"[i - 3] for i in ids if i > 2)
            assert row["sherpa-ncnn"].replace("<sos/eos>", "").split() == text.split()
            assert len(ids) > 10
    agreement = read(finished, "toy/evaluation/fp32.json")["agreement"]
    assert agreement["same"] == agreement["tokens"] > 20


def test_its_layers_have_scales(finished: NewFamily) -> None:
    """Observed chunk by chunk: all convolutions and linear layers, in ncnn's order and names."""
    for part, count in (("encoder", 3 + 1 + 2 * 7), ("joiner", 3)):
        table = scale_table.read(
            finished.work / f"results/toy/ncnn/int8-table/{part}-scale-table.txt"
        )
        graph = param.read(layout.ncnn_files(finished.work / "results/toy/ncnn/fp32")[part][0])
        layers = [x.name for x in graph.layers if x.type in ("Convolution", "InnerProduct")]
        assert list(table.inputs) == layers
        assert len(layers) == count


def test_only_its_own_files_make_it_stale(finished: NewFamily) -> None:
    family = finished.project / "transducer2ncnn/families"
    assert finished.planned(finished.config(), *TARGETS) == set()
    for other in ("lstm", "zipformer"):
        path = family / other / "graph.py"
        source = path.read_text()
        path.write_text(source + "\nCHANGED = True\n")
        assert finished.planned(finished.config(), *TARGETS) == set()
        path.write_text(source)
    path = family / "toy" / "graph.py"
    source = path.read_text()
    path.write_text(source + "\nCHANGED = True\n")
    try:
        assert "toy: tracing the encoder, decoder and joiner" in finished.planned(
            finished.config(), *TARGETS
        )
    finally:
        path.write_text(source)


def test_another_setting_makes_one_model_stale(finished: NewFamily) -> None:
    config = finished.config()
    config["models"]["toy-longer"]["settings"] = {"left_chunks": 4}
    planned = finished.planned(config, *TARGETS)
    assert "toy-longer: tracing the encoder, decoder and joiner" in planned
    assert all(message.startswith("toy-longer: ") for message in planned)


def test_what_the_family_says_of_itself_is_what_was_made(finished: NewFamily) -> None:
    architecture = described(read(finished, "toy-longer/model.json"))
    assert [state.shape for state in architecture.states()][2] == (2, 24, 12)
