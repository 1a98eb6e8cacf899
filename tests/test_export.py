"""Converted files: against the recipe's own outputs, at every length; and how they are stored."""

from __future__ import annotations

import collections
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN, ROOT, Export, export, random_lstm
from torch import Tensor, nn

from transducer2ncnn.base import layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines.runtime import Network
from transducer2ncnn.export import convert, halve, norms
from transducer2ncnn.export.broadcasting import check_vectors
from transducer2ncnn.formats import param, weights
from transducer2ncnn.verification import parity, reference


def test_fp32_files_compute_what_the_recipe_does(exported: Export) -> None:
    golden = exported.expected()
    networks = {part: Network(*pair) for part, pair in exported.files("fp32").items()}
    for t in (9, 39, 100):
        inputs = {"in0": golden[f"encoder_T{t}_x"][0], "in1": np.array([t], np.float32)}
        inputs |= {"in2": golden[f"encoder_T{t}_h0"][:, 0], "in3": golden[f"encoder_T{t}_c0"][:, 0]}
        outputs = networks["encoder"].run(inputs, ["out0", "out1", "out2", "out3"])
        for output, name in zip(outputs, ("encoder_out", "lengths", "h1", "c1"), strict=True):
            wanted = golden[f"encoder_T{t}_{name}"].squeeze()
            np.testing.assert_allclose(output.squeeze(), wanted, rtol=0, atol=1e-4)
    for y, wanted in zip(golden["decoder_y"], golden["decoder_out"], strict=True):
        (output,) = networks["decoder"].run({"in0": y.astype(np.int32)}, ["out0"])
        np.testing.assert_allclose(output, wanted, rtol=0, atol=1e-4)
    joined = (golden[f"joiner_{k}"] for k in ("encoder_out", "decoder_out", "logit"))
    for encoder_out, decoder_out, wanted in zip(*joined, strict=True):
        (output,) = networks["joiner"].run({"in0": encoder_out, "in1": decoder_out}, ["out0"])
        np.testing.assert_allclose(output, wanted, rtol=0, atol=1e-4)


def test_linear_layers_and_convolutions_stay_what_int8_can_quantize(exported: Export) -> None:
    layers = param.read(exported.files("fp32")["encoder"][0]).layers
    counts = collections.Counter(layer.type for layer in layers)
    num_layers = exported.sizes.num_encoder_layers
    assert counts["Convolution"] == 3
    assert counts["InnerProduct"] == 2 * num_layers + 1
    assert counts["LSTM"] == num_layers
    assert counts["Gemm"] == 0


@pytest.mark.parametrize("part", layout.PARTS)
def test_fp16_is_what_pnnx_makes_but_for_the_rounding(
    exported: Export, tmp_path: Path, part: str
) -> None:
    traced, cut = exported.folder / f"{part}.pt", tmp_path / "cut.bin"
    options = ["fp16=1", f"ncnnparam={tmp_path / 'cut.param'}", f"ncnnbin={cut}"]
    rest = [f"{x}={tmp_path / x}" for x in ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")]
    subprocess.run([convert._executable(), traced, *options, *rest], check=True)
    (fp32, fp32_bin), (fp16, fp16_bin) = (exported.files(p)[part] for p in ("fp32", "fp16"))
    theirs = norms.rewrite(param.read(tmp_path / "cut.param"), "cut.param").text().encode()
    assert fp16.read_bytes() == fp32.read_bytes() == theirs
    assert fp16_bin.stat().st_size == cut.stat().st_size
    graph = param.read(fp16)
    networks = (weights.read(graph, bin_) for bin_ in (fp32_bin, fp16_bin, cut))
    layers = (zip(*blocks, strict=True) for blocks in zip(*networks, strict=True))
    for exact, ours, theirs in (blocks for layer in layers for blocks in layer):
        assert ours.tag == theirs.tag
        # pnnx cuts off, and takes what is below the smallest normal number for 0.
        unit = np.maximum(np.spacing(np.abs(ours.values)), np.finfo(np.float16).tiny)
        far = np.abs(ours.values.astype(np.float64) - theirs.values)
        assert (far <= unit).all()
        nearer = np.abs(ours.values.astype(np.float64) - exact.values)
        assert (nearer <= np.abs(theirs.values.astype(np.float64) - exact.values)).all()


def test_what_half_precision_cannot_hold(exported: Export, tmp_path: Path) -> None:
    fp32, bin_ = exported.files("fp32")["joiner"]
    graph = param.read(fp32)
    blocks = weights.read(graph, bin_)
    (weight, *rest) = blocks[2]
    values = weight.values.copy()
    values[5] = 70000
    weights.write(
        tmp_path / "large.bin",
        [*blocks[:2], [weights.Block.tagged("weight", values), *rest], *blocks[3:]],
    )
    out = tmp_path / "out"
    with pytest.raises(
        UserError, match=r"large.bin: the weight of layer \w+ holds 70000, and fp16"
    ):
        halve.halve((fp32, tmp_path / "large.bin"), out / "x.param", out / "x.bin")
    assert list(out.iterdir()) == []


def test_the_same_bytes_again(exported: Export, tmp_path: Path) -> None:
    export(exported.network, tmp_path)
    for precision in ("fp32", "fp16"):
        again = layout.ncnn_files(tmp_path / precision)
        for part, pair in exported.files(precision).items():
            for first, second in zip(pair, again[part], strict=True):
                assert first.read_bytes() == second.read_bytes()


def test_context_size_one(tmp_path: Path) -> None:
    network = random_lstm(num_encoder_layers=1, context_size=1)
    export(network, tmp_path)
    reference.save(tmp_path / "ref.npz", reference.make(network, [9, 30], 5))
    files = layout.ncnn_files(tmp_path / "fp32")
    found = parity.compare(tmp_path / "ref.npz", network.architecture, files, "fp32", 1e-4)
    assert found["decoder"]["max_error"] < 1e-5


def fake_pnnx(tmp_path: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "pnnx"
    script.write_text(
        '#!/bin/bash\nfor a in "$@"; do declare "${a%%=*}"="${a#*=}" 2>/dev/null; done\n' + body
    )
    script.chmod(0o755)
    monkeypatch.setattr(convert, "_executable", lambda: script)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('echo pass_ncnn; echo x > "$ncnnparam"; kill -SEGV $$', "crashed \\(SIGSEGV\\)"),
        ("echo pass_ncnn; exit 3", "failed with exit status 3"),
        ('echo pass_ncnn; echo x > "$ncnnparam"', "without an error and left out model.ncnn.bin"),
        ('echo pass_ncnn; echo x > "$ncnnparam"; : > "$ncnnbin"', "left out model.ncnn.bin"),
        # As where the disk is full.
        (
            'echo pass_ncnn; echo 7767517 > "$ncnnparam"; echo x > "$ncnnbin"',
            "without an error and wrote files that are not whole",
        ),
    ],
)
def test_a_pnnx_that_fails_in_any_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    fake_pnnx(tmp_path, body, monkeypatch)
    out = tmp_path / "out"
    with pytest.raises(UserError, match=message) as caught:
        convert.convert(tmp_path / "x.pt", out / "x.param", out / "x.bin")
    assert "pass_ncnn" in str(caught.value)  # the end of its log
    assert list(out.iterdir()) == []


class Weighted(nn.Module):
    """(T, 6) times a weight a column."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(1.0, 7.0).reshape(shape), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        # Through a layer: a vector that was computed from a constant is one too.
        return x * torch.relu(self.weight)


def traced(module: nn.Module, path: Path) -> Path:
    example = (torch.ones(4, 6),)
    torch.jit.trace(module, example, check_trace=False, _store_inputs=False).save(path)
    return path


def test_a_vector_whose_axis_ncnn_would_guess_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ncnn is right about four rows of six, and wrong about six: it takes a weight a row."""
    x = np.random.default_rng(0).standard_normal((6, 6), dtype=np.float32)
    wrong = {}
    for name, shape in (("vector", (6,)), ("matrix", (1, 6))):
        module = Weighted(*shape)
        path = traced(module, tmp_path / f"{name}.pt")
        files = tmp_path / f"{name}.param", tmp_path / f"{name}.bin"
        if name == "vector":
            with pytest.raises(UserError, match=r"vector.pt.*mul_\d+ would take a constant vector"):
                convert.convert(path, *files)
            assert not files[0].exists()
            monkeypatch.setattr(convert, "check_vectors", lambda *_: None)
        convert.convert(path, *files)
        monkeypatch.undo()
        for rows in (4, 6):
            (out,) = Network(*files).run({"in0": x[:rows]}, ["out0"])
            expected = module(torch.from_numpy(x[:rows])).numpy()
            wrong[name, rows] = not np.allclose(out, expected, atol=1e-5)
    assert [case for case, is_wrong in wrong.items() if is_wrong] == [("vector", 6)]


def test_vectors_about_which_nothing_is_guessed() -> None:
    """A vector of one number, one that got its second axis, and two constants."""
    lines = """
        Input        in0    0 1 in0
        MemoryData   one    0 1 one 0=1
        MemoryData   six    0 1 six 0=6
        Split        split  1 3 six a b c
        Reshape      shaped 1 1 a row 0=6 1=1
        BinaryOp     fine_1 2 1 in0 one x 0=2
        BinaryOp     fine_2 2 1 x row y 0=2
        BinaryOp     fine_3 2 1 b c bc 0=2
        BinaryOp     fine_4 1 1 y z 0=2 1=1 2=3.0
        {}
    """
    bad = "BinaryOp bad 2 1 z bc out0 0=2"
    for last in ("Split end 1 1 z out0", bad):
        text = [line for line in lines.format(last).splitlines() if line.strip()]
        graph = param.Param(tuple(map(param.parse_layer, text)), 0)
        if last == bad:
            with pytest.raises(UserError, match="graph: bad would take a constant vector"):
                check_vectors(graph, "graph")
        else:
            check_vectors(graph, "graph")


def test_param_files_read_and_write_to_the_same_bytes(exported: Export, tmp_path: Path) -> None:
    for precision in ("fp32", "fp16"):
        for path, _ in exported.files(precision).values():
            param.write(tmp_path / "x.param", param.read(path))
            assert (tmp_path / "x.param").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "first line is 7767517"),
        ("7767517\n", "line 2"),
        ("7767517\n1 1\nInput in0 0 1\n", "line 3: not a layer"),
        ("7767517\n2 1\nInput in0 0 1 in0\n", "promises 2 layers, and 1 follow"),
    ],
)
def test_a_broken_param_file_is_an_error_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "x.param").write_text(text)
    with pytest.raises(UserError, match=message):
        param.read(tmp_path / "x.param")


LOADED = """
import sys
from transducer2ncnn.export import torchscript
from transducer2ncnn.families import model
from transducer2ncnn.quantization import observing
from transducer2ncnn.verification import reference
checkpoint, folder = sys.argv[1:]
described = model.inspect(checkpoint, "lstm")[1]
network = model.load_described(checkpoint, described)
torchscript.trace(network, "encoder", folder + "/encoder.pt")
observing.observe(network, [])
reference.make(network, [9], 2)
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""


def test_no_step_loads_pytorchs_compiler(tmp_path: Path) -> None:
    """It would take longer than most of them."""
    checkpoint = GOLDEN / "checkpoint-projection" / "pretrained.pt"
    command = [sys.executable, "-W", "ignore", "-c", LOADED, str(checkpoint), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
