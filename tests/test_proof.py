"""The proof of the weights: a single one that is wrong, wherever it stands, is found and named."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Export
from torch import Tensor, nn
from wrong_weights import values_changed

from transducer2ncnn.base import layout
from transducer2ncnn.export import convert, halve
from transducer2ncnn.formats import param, weights
from transducer2ncnn.formats.weights import Block
from transducer2ncnn.verification import digests, parity, proof

PRECISIONS = ("fp32", "fp16")


def expected(exported: Export, part: str) -> proof.Expected:
    with np.load(exported.reference) as arrays:
        return proof.from_arrays(arrays, part)


@pytest.mark.parametrize("stored", PRECISIONS)
@pytest.mark.parametrize("part", layout.PARTS)
def test_any_weight_off_by_a_percent_is_refused(
    exported: Export, tmp_path: Path, part: str, stored: str
) -> None:
    graph, bin_ = exported.files(stored)[part]
    sound = expected(exported, part)
    made = tmp_path / "x.bin"
    count = 0
    for layer in values_changed(graph, bin_, made, (1.01, 0.99, -1.0, math.nan)):
        with pytest.raises(proof.Mismatch, match=rf"x.bin: the \w+ of {layer}, .* to the last bit"):
            proof.check(graph, made, sound, stored)
        count += 1
    read = weights.read(param.read(graph), bin_)
    assert count == 4 * sum(len(own) for own in read) >= 8
    assert proof.check(graph, bin_, sound, stored) == sum(b.values.size for x in read for b in x)


@pytest.mark.parametrize("stored", PRECISIONS)
def test_a_row_of_the_embedding_that_no_run_feeds(
    exported: Export, tmp_path: Path, stored: str
) -> None:
    """Through the whole gate, whose samples leave some row of a large vocabulary out."""
    folder = tmp_path / stored
    shutil.copytree(exported.folder / stored, folder)
    files = layout.ncnn_files(folder)
    graph = param.read(files["decoder"][0])
    blocks = weights.read(graph, files["decoder"][1])
    (embedding,) = blocks[1]
    values = embedding.values.copy().reshape(exported.sizes.vocab_size, -1)
    values[-1] = np.nan
    blocks[1] = [Block("weight", values.reshape(-1), embedding.tag)]
    files["decoder"][1].unlink()
    weights.write(files["decoder"][1], blocks)
    with pytest.raises(proof.Mismatch, match="the weight of Embed .* Embedding embedding"):
        parity.compare(exported.reference, exported.architecture, files, stored, tolerance=1e9)


@pytest.mark.parametrize("stored", PRECISIONS)
def test_what_pnnx_cuts_off_is_not_half_precision(
    exported: Export, tmp_path: Path, stored: str
) -> None:
    """Values cut to half precision, in an fp32 file and in an fp16 one."""
    graph, bin_ = exported.files("fp32")["joiner"]
    read = param.read(graph)

    def cut(block: Block) -> Block:
        bits = block.values.view("<u4") & np.uint32(0xFFFFE000)
        halved = bits.view("<f4").astype(proof.STORED[stored])
        return block if block.tag is None else Block.tagged(block.name, halved)

    blocks = [[cut(block) for block in own] for own in weights.read(read, bin_)]
    weights.write(tmp_path / "x.bin", blocks)
    with pytest.raises(proof.Mismatch, match=f"is not the checkpoint's, .* in {stored}"):
        proof.check(graph, tmp_path / "x.bin", expected(exported, "joiner"), stored)


class Constants(nn.Module):
    """Modules and constants that the LSTM's graph has not, as other encoders do."""

    sinusoid: Tensor
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 12)
        self.outer = nn.Linear(12, 16, bias=False)
        self.positions: nn.Module = nn.Linear(16, 16, bias=False)
        self.depthwise = nn.Conv1d(16, 16, 3, groups=16)
        self.pointwise = nn.Conv1d(16, 16, 1)
        self.query = nn.Parameter(torch.randn(1, 16))
        angles = torch.arange(8.0)[:, None] / torch.arange(1, 17)
        self.register_buffer("sinusoid", angles.sin(), persistent=False)
        self.register_buffer("sums", torch.tril(torch.ones(8, 8)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(1, 8, 16) → (1, 16, 8)"""
        x = self.outer(torch.tanh(self.inner(x + self.query)))
        y = torch.matmul(self.sums, x[0]) + self.positions(self.sinusoid)
        y = nn.functional.pad(y.permute(1, 0).unsqueeze(0), (2, 0))
        return self.pointwise(self.depthwise(y))


@pytest.mark.parametrize("gemm", [False, True], ids=["InnerProduct", "Gemm"])
def test_other_modules_and_constants(tmp_path: Path, gemm: bool) -> None:
    torch.manual_seed(0)
    network = Constants().eval().requires_grad_(False)

    def run(seed: int) -> None:
        network(torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(seed)))

    # With the shapes of its inputs in the trace, pnnx makes a Gemm of every linear layer. It would
    # then fold the linear layer of a constant, too.
    if gemm:
        network.sinusoid = network.positions(network.sinusoid)
        network.positions = nn.Identity()
    with pytest.warns(DeprecationWarning):
        traced = torch.jit.trace(network, (torch.randn(1, 8, 16),), _store_inputs=gemm)
        traced.save(tmp_path / "x.pt")
    fp32 = (tmp_path / "x.param", tmp_path / "x.bin")
    fp16 = (tmp_path / "x16.param", tmp_path / "x16.bin")
    convert.convert(tmp_path / "x.pt", *fp32)
    halve.halve(fp32, *fp16)
    sound = digests.make(network, run)
    types = [layer.type for layer in param.read(fp32[0]).layers]
    assert types.count("MemoryData") == 3
    assert types.count("InnerProduct") == (0 if gemm else 2)
    assert types.count("Gemm") == (2 if gemm else 1)
    assert {"ConvolutionDepthWise1D", "Convolution1D"} <= set(types)
    for stored, files in (("fp32", fp32), ("fp16", fp16)):
        assert proof.check(*files, sound, stored) > 900
        made = tmp_path / "made.bin"
        for layer in values_changed(*files, made, (1.01,)):
            with pytest.raises(proof.Mismatch, match=re.escape(layer)):
                proof.check(files[0], made, sound, stored)


def test_swapped_layers_of_one_shape(exported: Export, tmp_path: Path) -> None:
    graph, bin_ = exported.files("fp32")["encoder"]
    read = param.read(graph)
    blocks = weights.read(read, bin_)
    first, second = [i for i, layer in enumerate(read.layers) if layer.type == "LSTM"][:2]
    blocks[first], blocks[second] = blocks[second], blocks[first]
    weights.write(tmp_path / "x.bin", blocks)
    with pytest.raises(proof.Mismatch, match=r"weight_ih_l0 of LSTM .* encoder.layers.0.lstm"):
        proof.check(graph, tmp_path / "x.bin", expected(exported, "encoder"), "fp32")
