"""How near a model's numbers come to what fp16 holds: measured right, and refused where beyond."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, Export, export

from transducer2ncnn.base import layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines import search
from transducer2ncnn.engines.pytorch import TorchTransducer
from transducer2ncnn.export import norms
from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.formats import param
from transducer2ncnn.formats.layers import BY_MODULE
from transducer2ncnn.speech.synthetic import bursts
from transducer2ncnn.verification import headroom, parity, reference

Modules = dict[str, list[tuple[str, str]]]


def modules_of(network: Transducer) -> Modules:
    """Modules with weights, which a golden LSTM executes in the order of its code."""
    return {
        part: [
            (type(module).__name__, name)
            for name, module in network.part(part).named_modules()
            if type(module).__name__ in BY_MODULE
        ]
        for part in layout.PARTS
    }


def recordings() -> list[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    return [(f"{i}.wav", bursts(rng, 20000)) for i in range(2)]


def in_pytorch(network: Transducer) -> dict[str, float]:
    """The largest output of each module while PyTorch recognises the recordings."""
    largest: dict[str, float] = {}

    def hook(name: str) -> Any:
        def see(_module: Any, _inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            largest[name] = max(largest.get(name, 0.0), float(first.abs().max()))

        return see

    handles = [
        module.register_forward_hook(hook(f"{part} {name}"))
        for part in layout.PARTS
        for name, module in network.part(part).named_modules()
        if type(module).__name__ in BY_MODULE
    ]
    for _, samples in recordings():
        search.decode(TorchTransducer(network), samples)
    for handle in handles:
        handle.remove()
    return largest


def test_it_is_what_streaming_leads_to(exported: Export) -> None:
    found = headroom.measure(
        exported.files("fp32"),
        exported.architecture,
        modules_of(exported.network),
        recordings(),
    )
    wanted = in_pytorch(exported.network)
    own = {
        f"{entry['part']} {entry['module'].split()[1]}": entry
        for entry in reversed(found["blobs"])
        # An LSTM's first output comes last here, and so stays.
        if not entry["module"].startswith(("after", "what"))
    }
    assert own.keys() == wanted.keys()
    for name, entry in own.items():
        assert entry["largest"] == pytest.approx(wanted[name], rel=1e-4), name
    assert found["speech"] and found["seconds"] == pytest.approx(2.5)
    assert not found["near"] and not found["warnings"]
    # Sixteen segments were run at once, and what is measured is not their number.
    (frames,) = [x for x in found["blobs"] if (x["part"], x["blob"]) == ("encoder", "in1")]
    assert frames["largest"] == exported.architecture.segment
    headroom.check(found, "sound")
    kinds = {entry["kind"] for entry in found["kinds"]}
    assert {"input of a norm", "cell state of an LSTM", "sum", "logits", "convolution"} <= kinds
    squared = [entry for entry in found["blobs"] if entry["normed"]]
    assert len(squared) == 1 + exported.sizes.num_encoder_layers
    # All that is computed, and none of it twice.
    for part in layout.PARTS:
        of_part = [entry["blob"] for entry in found["blobs"] if entry["part"] == part]
        graph = param.read(exported.files("fp32")[part][0])
        computed = {
            blob
            for layer in graph.layers
            for blob in layer.outputs
            if layer.type not in headroom.MOVING
        }
        assert sorted(of_part) == sorted(computed - ({"in0"} if part == "decoder" else set()))


def test_without_recordings_audio_is_made_up(exported: Export) -> None:
    files, modules = exported.files("fp32"), modules_of(exported.network)
    found = headroom.measure(files, exported.architecture, modules, [])
    assert not found["speech"]
    assert found["seconds"] == headroom.MADE_UP_SECONDS
    assert {entry["recording"] for entry in found["kinds"]} == {"made-up audio"}


def test_what_is_too_long_is_cut(exported: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headroom, "SECONDS", 2)
    files, modules = exported.files("fp32"), modules_of(exported.network)
    found = headroom.measure(files, exported.architecture, modules, recordings())
    assert found["seconds"] == pytest.approx(2)


def test_scores_far_below_the_largest_do_not_count(tmp_path: Path) -> None:
    """Infinite there, their weight is zero, as it should be."""
    (tmp_path / "p").write_text(
        "7767517\n4 4\nInput in0 0 1 in0 0=3 1=2\nBinaryOp scale 1 1 in0 big 0=2 1=1 2=1e5\n"
        "Softmax softmax 1 1 big weights 0=-1 1=1\nBinaryOp last 1 1 weights out0 0=2 1=1 2=2\n"
    )
    (tmp_path / "b").touch()
    blobs = headroom.describe(tmp_path / "p", "encoder", [])
    assert [blob.name for blob in blobs if blob.scores] == ["big"]
    part = headroom._Part(tmp_path / "p", tmp_path / "b", blobs)
    rows = np.array([[0, -3, -9], [0.5, -1, -2]], np.float32)
    part.recording = "a.wav"
    part.run({"in0": rows}, ["out0"])
    assert part.largest["big"] == (pytest.approx(5e4), "a.wav")
    # Of a row in which all are infinite, softmax makes NaN.
    part.recording = "b.wav"
    part.run({"in0": rows - 4}, ["out0"])
    assert part.largest["big"] == (pytest.approx(4e5), "b.wav")


def rescaled(network: Transducer, factor: float) -> Transducer:
    """The same function, what goes into the first norm as many times as large."""
    network = copy.deepcopy(network)
    embed = network.get_submodule("encoder.encoder_embed")
    out, norm = embed.get_submodule("out"), embed.get_submodule("out_norm")
    for tensor in out.parameters():
        tensor.data *= factor
    norm.get_buffer("eps").data += 2 * torch.tensor(factor).log()
    return network


@pytest.fixture(scope="module")
def overflowing(
    exported: Export, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Export, list[str], Path]:
    """The same function with values beyond fp16, and the command that is to find out."""
    found = headroom.measure(
        exported.files("fp32"), exported.architecture, modules_of(exported.network), recordings()
    )
    (now,) = (x["largest"] for x in found["blobs"] if x["module"] == "Linear encoder_embed.out")
    folder = tmp_path_factory.mktemp("overflowing")
    network = rescaled(exported.network, 2 * headroom.LIMIT / now)
    export(network, folder)
    arrays = reference.make(copy.deepcopy(network), [9], segments=3)
    reference.save(folder / "reference.npz", arrays)
    made = Export(exported.name, network, folder, folder / "reference.npz")
    stated = {"family": "lstm", "sizes": dataclasses.asdict(made.sizes), "settings": {}}
    (folder / "model.json").write_text(json.dumps(stated))
    for name, samples in recordings():
        soundfile.write(folder / name, samples, 16000, subtype="FLOAT")
    command = [sys.executable, "-m", "workflow_scripts.measure_headroom"]
    command += ["--reference", str(made.reference), "--description", str(folder / "model.json")]
    command += ["--wavs", *(str(folder / name) for name, _ in recordings())]
    command += ["--output", str(folder / "headroom.json")]
    for part, pair in made.files("fp32").items():
        command += [f"--{part}", *map(str, pair)]
    return made, command, folder


def test_an_overflow_that_x86_does_not_show_is_refused(
    overflowing: tuple[Export, list[str], Path],
) -> None:
    made, command, folder = overflowing
    # All that is compared on x86 is as it should be.
    found = parity.compare(
        made.reference, made.architecture, made.files("fp32"), "fp32", tolerance=1e-4
    )
    assert found["encoder"]["max_error"] < 1e-4
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    message = done.stderr[done.stderr.index("error: ") :]
    assert f"error: {folder / 'fp32'}: blob '" in message
    assert "InnerProduct linear_" in message
    assert "Linear encoder_embed.out in PyTorch) reaches 131,0" in message
    assert ".wav, and fp16 holds 65,504" in message
    assert "Traceback" not in done.stderr
    assert not (folder / "headroom.json").exists()


def test_little_headroom_is_warned_of(
    overflowing: tuple[Export, list[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, _ = overflowing
    modules = modules_of(made.network)
    # As if fp16 held three times as much as is reached.
    monkeypatch.setattr(headroom, "LIMIT", 6 * headroom.LIMIT)
    found = headroom.measure(made.files("fp32"), made.architecture, modules, recordings())
    headroom.check(found, "near")
    assert found["near"][0]["module"] == "Linear encoder_embed.out"
    assert "Linear encoder_embed.out in PyTorch) reaches 131,0" in found["warnings"][0]


def test_squares_as_pnnx_leaves_them_overflow(exported: Export, tmp_path: Path) -> None:
    """Without the rewritten norm a value above 255.9 is enough: its square is a blob."""
    network = rescaled(exported.network, 1000.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norms, "rewrite", lambda graph, name: graph)
        export(network, tmp_path / "plain")
    export(network, tmp_path / "rewritten")
    for name in ("plain", "rewritten"):
        files = layout.ncnn_files(tmp_path / name / "fp32")
        found = headroom.measure(files, network.architecture, modules_of(network), recordings())
        after = {
            entry["kind"]: entry
            for entry in found["blobs"]
            if "encoder_embed.out" in entry["module"]
        }
        reached = after["linear layer"]["largest"]
        assert np.sqrt(headroom.LIMIT) < reached < headroom.LIMIT
        if name == "plain":
            assert found["kinds"][0]["largest"] > headroom.LIMIT
            squares = [x for x in found["blobs"] if x["largest"] == pytest.approx(reached**2)]
            assert squares[0]["layer"].startswith("BinaryOp mul_")
            with pytest.raises(UserError, match="product; BinaryOp mul_.*encoder_embed.out in"):
                headroom.check(found, "plain")
        else:
            assert after["linear layer"]["square"] == pytest.approx(reached**2)
            headroom.check(found, "rewritten")
