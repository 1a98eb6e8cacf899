"""Norms whose squares fp16 cannot hold: all of them rewritten, and to the same function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN, random_toy
from test_conv_emformer import golden as conv_emformer
from test_zipformer import golden as zipformer

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines.runtime import Network
from transducer2ncnn.export import convert, norms, torchscript
from transducer2ncnn.families import model
from transducer2ncnn.families.modules import BasicNorm, Transducer
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats.param import Param, parse_layer

#: As pnnx converts a BasicNorm over 8 values.
NORM = """
Input x 0 1 in0
Split split 1 3 in0 1 2 3
BinaryOp square 2 1 1 2 4 0=2
Reduction sum 1 1 4 5 0=0 1=0 -23303=1,-1 4=1 5=1
BinaryOp mean 1 1 5 6 0=3 1=1 2=8.0
BinaryOp eps 1 1 6 7 0=0 1=1 2=0.25
BinaryOp power 1 1 7 8 0=6 1=1 2=-0.5
BinaryOp product 2 1 3 8 out0 0=2
"""


def graph(text: str) -> Param:
    layers = tuple(map(parse_layer, text.strip().splitlines()))
    return Param(layers, len({blob for layer in layers for blob in layer.outputs}))


def written(param: Param, folder: Path) -> Network:
    folder.mkdir(exist_ok=True)
    param_file.write(folder / "x.param", param)
    (folder / "x.bin").write_bytes(b"")
    return Network(folder / "x.param", folder / "x.bin")


@pytest.mark.parametrize("rows", [1, 5])
def test_the_same_function(rows: int, tmp_path: Path) -> None:
    rewritten = norms.rewrite(graph(NORM), "x")
    assert [layer.type for layer in rewritten.layers] == [
        "Input",
        "Split",
        "Padding",
        "Reduction",
        "BinaryOp",
    ]
    assert rewritten.num_blobs == 6  # in0, its two copies, with a value more, the root, out0
    network = written(rewritten, tmp_path)
    x = np.random.default_rng(0).standard_normal((rows, 8), dtype=np.float32)
    for scale in (0.0, 1e-3, 1.0, 60000.0):
        wide = (scale * x).astype(np.float64)
        wanted = wide / np.sqrt((wide * wide).mean(axis=1, keepdims=True) + 0.25)
        (out,) = network.run({"in0": scale * x}, ["out0"])
        np.testing.assert_allclose(out, wanted, rtol=1e-6, atol=0)


MODELS: dict[str, Callable[[], Transducer]] = {
    "lstm": lambda: model.load(GOLDEN / "checkpoint-projection" / "pretrained.pt", "lstm"),
    "conv_emformer": lambda: conv_emformer(True),
    "zipformer": lambda: zipformer("golden"),
    "toy": random_toy,
}


@pytest.mark.parametrize("family", MODELS)
def test_every_norm_of_every_family(family: str, tmp_path: Path) -> None:
    """Nothing that a converted encoder computes is a square, whatever the size of what goes in."""
    network = MODELS[family]()
    expected = [m for m in network.encoder.modules() if isinstance(m, BasicNorm)]
    traced, made = tmp_path / "encoder.pt", tmp_path / "x.param"
    torchscript.trace(network, "encoder", traced)
    convert.convert(traced, made, tmp_path / "x.bin")
    layers = param_file.read(made).layers
    roots = [layer for layer in layers if layer.params.get(0) == "8" and layer.type == "Reduction"]
    pads = [layer for layer in layers if layer.name.endswith("_padded")]
    # In order of execution, each with its own dim and epsilon.
    found = [
        (round(float(root.params[2]) ** -2), float(pad.params[5]) ** 2)
        for root, pad in zip(roots, pads, strict=True)
    ]
    wanted = [(norm.dim, norm.dim * float(norm.eps.exp())) for norm in expected]
    assert [dim for dim, _ in found] == [dim for dim, _ in wanted]
    np.testing.assert_allclose([x for _, x in found], [x for _, x in wanted], rtol=1e-6)


def test_torch_means_the_same() -> None:
    """Stated as a sum and a division, a norm computes what torch.mean gives, to the bit."""
    torch.manual_seed(0)
    for dim in (12, 100, 128, 384, 512):
        x = 10 * torch.randn(7, dim)
        mean = torch.mean(x * x, dim=-1, keepdim=True)
        wanted = x * torch.pow(mean + torch.tensor(0.25).log().exp().item(), -0.5)
        assert torch.equal(BasicNorm(dim)(x), wanted)


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: s.replace("2=-0.5", "2=-0.25"),
        lambda s: s.replace("-23303=1,-1", "-23303=1,0"),
        lambda s: s.replace("BinaryOp eps 1 1 6 7 0=0", "BinaryOp eps 1 1 6 7 0=2"),
        lambda s: s.replace("BinaryOp square 2 1 1 2 4 0=2", "UnaryOp square 1 1 1 4 0=4"),
        lambda s: s.replace("square 2 1 1 2 4 0=2", "square 1 1 1 4 0=6 1=1 2=2.0"),
    ],
)
def test_squares_of_another_norm_are_refused(edit: Callable[[str], str]) -> None:
    other = edit(NORM)
    assert other != NORM
    with pytest.raises(UserError, match="graph.param: sum adds up squares that square puts out"):
        norms.rewrite(graph(other), "graph.param")


def test_what_is_no_norm_stays() -> None:
    # A mean over time, as of a pooling, and a product of two things.
    text = NORM.replace("BinaryOp square 2 1 1 2 4", "BinaryOp square 2 1 1 in1 4")
    text = text.replace("Input x 0 1 in0", "Input x 0 1 in0\nInput y 0 1 in1")
    stated = graph(text)
    assert norms.rewrite(stated, "x") == stated
