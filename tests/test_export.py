"""Converted files: against the recipe's own outputs, at every length; and how they are stored."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np
import pytest
from conftest import Export, export, random_lstm

from transducer2ncnn.base import layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines.runtime import Network
from transducer2ncnn.export import convert
from transducer2ncnn.formats import param, sherpa
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


def test_fp16_halves_the_weights(exported: Export) -> None:
    for part in layout.PARTS:
        fp32, fp16 = (exported.files(p)[part][1].stat().st_size for p in ("fp32", "fp16"))
        assert 0.49 < fp16 / fp32 < 0.56, part


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
    found = parity.compare(tmp_path / "ref.npz", network.architecture, files, 1e-4)
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
        convert.convert(tmp_path / "x.pt", out / "x.param", out / "x.bin", fp16=True)
    assert "pass_ncnn" in str(caught.value)  # the end of its log
    assert list(out.iterdir()) == []


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


def test_every_layer_is_one_that_sherpa_ncnn_knows(exported: Export) -> None:
    for path, _ in exported.files("fp32").values():
        sherpa.check_layers(param.read(path), str(path))
