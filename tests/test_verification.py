"""The gate: a sound export passes, and each way of breaking one is found and named."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, Export, export, random_toy

from transducer2ncnn.base import isolated, layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines.pytorch import run_encoder
from transducer2ncnn.export import convert, torchscript
from transducer2ncnn.verification import as_run, conditioning, parity, proof, reference
from transducer2ncnn.workflow.config import Verification


def compare(
    exported: Export, folder: Path, stored: str = "fp32", tolerance: float = 1e-4
) -> dict[str, Any]:
    """As the rule does it: in a process of its own, since ncnn may crash."""
    files = layout.ncnn_files(folder)
    return isolated.call(
        parity.compare, exported.reference, exported.architecture, files, stored, tolerance
    )


def broken_copy(exported: Export, tmp_path: Path, part: str, edit: Callable[[str], str]) -> Path:
    """The fp32 files with one param edited."""
    folder = tmp_path / "fp32"
    shutil.copytree(exported.folder / "fp32", folder)
    param, _ = layout.ncnn_files(folder)[part]
    before = param.read_text()
    after = edit(before)
    assert after != before
    param.write_text(after)
    return folder


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_a_sound_export_passes(exported: Export, precision: str, tolerance: float) -> None:
    found = compare(exported, exported.folder / precision, precision, tolerance)
    assert list(found) == list(layout.PARTS)
    for result in found.values():
        assert 0 < result["max_error"] < tolerance == result["allowed"]
        assert result["beyond_tolerance"] == []
    runs = found["encoder"]["max_error_by_run"]
    lengths = Verification().lengths
    assert set(runs) == {*(f"{frames} frames" for frames in lengths), "streaming"}
    # Three convolutions, and per layer an LSTM and two linear layers, each with what goes in and
    # what comes out; the outputs of the graph; both for each run. And every segment's outputs.
    layers = 3 + 1 + 3 * exported.sizes.num_encoder_layers
    assert found["encoder"]["blobs_compared"] == len(lengths) * (2 * layers + 4) + 25 * 4


def test_fp16_does_not_pass_as_fp32(exported: Export) -> None:
    with pytest.raises(proof.Mismatch, match="is stored as float16; expected float32"):
        compare(exported, exported.folder / "fp16")
    with pytest.raises(proof.Mismatch, match="tolerance is 0.0001"):
        compare(exported, exported.folder / "fp16", "fp16")


def with_error(exported: Export, path: Path, key: str, error: float, effect: float) -> Path:
    """The reference with a blob that is off by an error, and that rounding moves by an effect."""
    arrays = dict(np.load(exported.reference))
    arrays[key] = arrays[key] + np.float32(error * max(1.0, np.abs(arrays[key]).max()))
    effects = dict.fromkeys([k for k in arrays if k.startswith("encoder/")], 0.0) | {key: effect}
    moved = {"fp32": effects, "fp16": dict.fromkeys(effects, 0.0)}
    reference.save(path, arrays | conditioning.to_arrays(moved))
    return path


@pytest.mark.parametrize(
    ("error", "effect", "passes"),
    [
        (5e-5, 0.0, True),
        (2e-4, 0.0, False),
        (2e-4, 1e-5, False),
        (2e-4, 5e-5, True),
        # However much rounding does.
        (1.2e-3, 1.0, False),
        (1.2e-3, float("inf"), False),
    ],
)
def test_what_rounding_moves_may_be_off_by_more(
    exported: Export, tmp_path: Path, error: float, effect: float, passes: bool
) -> None:
    key = "encoder/streaming/7/out2"
    changed = with_error(exported, tmp_path / "reference.npz", key, error, effect)
    other = dataclasses.replace(exported, reference=changed)
    if passes:
        found = compare(other, exported.folder / "fp32")["encoder"]
        places = [x["place"] for x in found["beyond_tolerance"]]
        assert places == ["output of the graph, segment 7"] * (error > 1e-4)
        # What the worst blob was held to is stated with its error.
        assert error * 0.5 < found["max_error"] <= found["allowed"]
        assert (found["allowed"] > 1e-4) == (error > 1e-4)
    else:
        with pytest.raises(proof.Mismatch, match=r"'out2' \(output of the graph, segment 7\)"):
            compare(other, exported.folder / "fp32")


def test_how_much_rounding_moves() -> None:
    """More where scores are large and a softmax turns over between two keys."""
    network = random_toy()
    arrays = reference.make(copy.deepcopy(network), [9], segments=4)
    before = conditioning.from_arrays(arrays).effects["fp32"]
    outputs = {key for key in arrays if re.fullmatch(r"encoder/(streaming/\d+|[^/]+)/out\d+", key)}
    assert outputs <= set(before)
    # An error of weights is an error of about its size in what they make.
    assert all(effect < 30 * 2.0**-23 for effect in before.values())
    for name, weight in network.encoder.named_parameters():
        if name.endswith(".in_proj.weight"):
            weight.data *= 100.0
    arrays = reference.make(network, [9], segments=4)
    sharp = conditioning.from_arrays(arrays).effects["fp32"]
    assert max(sharp.values()) > 10 * max(before.values())


def test_rounding_in_a_stream_is_that_of_a_run_at_once(exported: Export) -> None:
    """Of a network that may be cut anywhere, moved weights are run on one length alone."""
    arrays = np.load(exported.reference)
    effects = conditioning.from_arrays(arrays).effects["fp16"]
    network, architecture = copy.deepcopy(exported.network), exported.architecture
    for tensor in network.encoder.state_dict().values():
        tensor.copy_(tensor.half())
    states = architecture.initial_states()
    found: dict[str, list[float]] = {}
    for i in range(25):
        segment = arrays["encoder/streaming/features"][4 * i : 4 * i + 9]
        outputs = run_encoder(network, architecture.encoder_inputs(segment, states))
        states = architecture.carried(outputs)
        for j, output in enumerate(outputs):
            expected = arrays[f"encoder/streaming/{i}/out{j}"]
            found.setdefault(f"out{j}", []).append(parity.error_of(output, expected))
    for name, errors in found.items():
        taken = {effects[f"encoder/streaming/{i}/{name}"] for i in range(25)}
        assert taken == {effects[f"encoder/403 frames/{name}"]}
        assert max(errors) / 4 <= max(taken) <= 4 * max(errors), name


def test_weights_that_sherpa_ncnn_cannot_hold(exported: Export, tmp_path: Path) -> None:
    """Right where ncnn computes in fp32, and infinite at its own options, which hold linear layers
    in fp16 on x86 too."""
    network = copy.deepcopy(exported.network)
    embed = network.get_submodule("encoder.encoder_embed")
    for tensor in embed.get_submodule("out").parameters():
        tensor.data *= 2.0**22
    embed.get_submodule("out_norm").get_buffer("eps").data += 44 * torch.tensor(2.0).log()
    files = layout.ncnn_files(tmp_path)
    for part in layout.PARTS:
        torchscript.trace(network, part, tmp_path / "traced.pt")
        convert.convert(tmp_path / "traced.pt", *files[part])
    reference.save(tmp_path / "reference.npz", reference.make(network, [9], segments=3))
    arguments = (tmp_path / "reference.npz", network.architecture)
    assert isolated.call(parity.compare, *arguments, files, "fp32", 1e-4)["encoder"]
    with pytest.raises(proof.Mismatch, match="at ncnn's own options, .* the encoder's outputs"):
        isolated.call(as_run.verify, *arguments, files, "fp32", 1e-4, 2e-2)


def test_a_frozen_length(exported: Export, tmp_path: Path) -> None:
    # What pnnx writes when it takes the number of frames from the trace: 8 are left of 39.
    folder = broken_copy(
        exported, tmp_path, "encoder", lambda s: s.replace("0=2304 1=-1", "0=2304 1=8")
    )
    with pytest.raises(UserError, match="encoder") as caught:
        compare(exported, folder)
    assert "in the run '9 frames'" in str(caught.value).replace("In", "in")
    reshaped = re.search(
        r"Reshape\s+\S+\s+1 1 \S+ (\S+) ",
        (folder / "encoder_jit_trace-pnnx.ncnn.param").read_text(),
    )
    assert f"blob {reshaped[1]!r} (input of InnerProduct" in str(caught.value)


def test_swapped_gates(exported: Export, tmp_path: Path) -> None:
    network = copy.deepcopy(exported.network)
    lstm = network.encoder.encoder.layers[1].lstm
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        i, f, g, o = getattr(lstm, name).data.chunk(4)
        getattr(lstm, name).data = torch.cat([i, f, o, g])
    export(network, tmp_path)
    with pytest.raises(proof.Mismatch, match="the weight_ih_l0 of LSTM .* encoder.layers.1.lstm"):
        compare(exported, tmp_path / "fp32")


def test_an_unknown_layer(exported: Export, tmp_path: Path) -> None:
    folder = broken_copy(
        exported, tmp_path, "encoder", lambda s: re.sub(r"UnaryOp  ", "Tensor.to", s, count=1)
    )
    with pytest.raises(UserError, match="cannot run layer floor_.* of type Tensor.to"):
        compare(exported, folder)


def test_a_shape_expression(exported: Export, tmp_path: Path) -> None:
    folder = broken_copy(
        exported, tmp_path, "encoder", lambda s: s.replace("0=2304 1=-1", '6="2304,-1"')
    )
    with pytest.raises(UserError, match="a Reshape whose parameter 6 is the expression"):
        compare(exported, folder)


@pytest.mark.parametrize("floor", [0, 1])
def test_a_length_rounded_up(exported: Export, tmp_path: Path, floor: int) -> None:
    def edit(s: str) -> str:
        line = re.findall(r"^UnaryOp .* 0=2$", s, re.MULTILINE)[floor]
        return s.replace(line, line.removesuffix("0=2") + "0=3")

    folder = broken_copy(exported, tmp_path, "encoder", edit)
    with pytest.raises(proof.Mismatch, match=r"blob 'out1' \(output of the graph\)"):
        compare(exported, folder)


def test_a_graph_that_crashes_ncnn(exported: Export, tmp_path: Path) -> None:
    # The first LSTM is given a frame of 30 million values: it reads as many weights, far beyond
    # those that there are.
    def edit(s: str) -> str:
        padding = re.search(r"^(Padding +norm_0_padded +1 1) \S+ (\S+) (.*) 3=1 ", s, re.MULTILINE)
        assert padding
        s = s.replace(padding[0], f"{padding[1]} in1 {padding[2]} {padding[3]} 3=30000000 ")
        return re.sub(r"(Split +splitncnn_6 +1 2) \S+", rf"\1 {padding[2]}", s)

    folder = broken_copy(exported, tmp_path, "encoder", edit)
    description = tmp_path / "model.json"
    stated = {"family": "lstm", "sizes": dataclasses.asdict(exported.sizes), "settings": {}}
    description.write_text(json.dumps(stated))
    files = layout.ncnn_files(folder)
    command = [sys.executable, "-m", "workflow_scripts.verify"]
    command += ["--reference", exported.reference, "--description", description]
    command += ["--stored", "fp32", "--tolerance", "1e-4", "--tolerance-as-run", "2e-2"]
    command += ["--output", tmp_path / "found.json"]
    command += [word for part, pair in files.items() for word in (f"--{part}", *pair)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    message = done.stderr[done.stderr.index("error: ") :]
    assert done.returncode == 1
    assert f"{folder}: ncnn cannot run these files: its process crashed (SIGSEGV)" in message
    assert message.rstrip().endswith(f"ncnn runs {files['encoder'][0]}")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "found.json").exists()


def swap(a: str, b: str) -> Callable[[str], str]:
    """Swap two names of blobs wherever they stand."""
    return lambda s: re.sub(rf"\b({a}|{b})\b", lambda m: b if m[0] == a else a, s)


def test_swapped_input_states(exported: Export, tmp_path: Path) -> None:
    folder = broken_copy(exported, tmp_path, "encoder", swap("in2", "in3"))
    # Of different widths, they make ncnn's LSTM fail or read beyond its input; of the same, the
    # result is merely wrong. Either is caught.
    with pytest.raises(UserError) as caught:
        compare(exported, folder)
    if exported.sizes.encoder_dim == exported.sizes.rnn_hidden_size:
        assert "output of LSTM" in str(caught.value)
        assert "encoder.layers.0.lstm in PyTorch" in str(caught.value)


def test_swapped_output_states(exported: Export, tmp_path: Path) -> None:
    folder = broken_copy(exported, tmp_path, "encoder", swap("out2", "out3"))
    with pytest.raises(proof.Mismatch, match=r"blob 'out2' \(output of the graph\)"):
        compare(exported, folder)


def test_a_missing_layer(exported: Export, tmp_path: Path) -> None:
    # The second convolution's place taken by a layer without weights.
    folder = broken_copy(
        exported,
        tmp_path,
        "encoder",
        lambda s: re.sub(r"Convolution( +conv_\d+ +1 1 \d+ \d+) 0=32.*", r"ReLU\1", s),
    )
    with pytest.raises(proof.Mismatch, match="number 3 is InnerProduct .* Conv2d .*conv.6"):
        compare(exported, folder)


@pytest.mark.parametrize("part", layout.PARTS)
def test_files_that_ncnn_cannot_load(exported: Export, tmp_path: Path, part: str) -> None:
    folder = tmp_path / "fp32"
    shutil.copytree(exported.folder / "fp32", folder)
    _, bin_ = layout.ncnn_files(folder)[part]
    bin_.write_bytes(bin_.read_bytes()[:100])
    with pytest.raises(UserError) as caught:
        compare(exported, folder)
    assert part in str(caught.value) or "process" in str(caught.value)


def test_streaming_is_the_whole_utterance_at_once(exported: Export) -> None:
    """Without this, comparing at long lengths would say nothing of streaming."""
    features = reference.synthetic_features(np.random.default_rng(1), 49, 80)
    x = torch.from_numpy(features)[None]
    h, c = (torch.from_numpy(s)[:, None] for s in exported.architecture.initial_states())
    whole, lengths, _, _ = exported.network.encoder(x, torch.tensor([49.0]), h, c)
    pieces = []
    for start in range(0, 49 - 8, 4):
        piece, _, h, c = exported.network.encoder(
            x[:, start : start + 9], torch.tensor([9.0]), h, c
        )
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=1e-5)
    assert lengths == whole.shape[1] == len(pieces)


def test_error_of_by_hand() -> None:
    expected = np.array([[1.0, -4.0]])
    assert parity.error_of(np.array([1.0, -4.0]), expected) == 0
    assert parity.error_of(np.array([1.2, -4.0]), expected) == pytest.approx(0.05)
    assert parity.error_of(np.array([0.1]), np.array([0.3])) == pytest.approx(0.2)
    assert parity.error_of(np.zeros((2, 3)), np.zeros((3, 2))) == float("inf")
    for wrong in (np.nan, np.inf):
        assert parity.error_of(np.array([1.0, wrong]), expected) == float("inf")
        assert parity.error_of(np.array([1.0, -4.0]), np.array([1.0, wrong])) == float("inf")
        assert parity.error_of(np.array([wrong]), np.array([wrong])) == float("inf")
