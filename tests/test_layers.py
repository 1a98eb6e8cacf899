"""The table of layers against the ncnn inside sherpa-ncnn, and graphs that go beyond it."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path

import pytest
import torch
from conftest import Export
from torch import nn

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.export import convert
from transducer2ncnn.formats import param, sherpa
from transducer2ncnn.formats.layers import OBSERVED, TABLE
from transducer2ncnn.quantization.observing import TIME_AXIS
from transducer2ncnn.quantization.quantize import CALIBRATED

#: Layers that it can create and the table leaves out: their weights are in none of the models.
NOT_NEEDED = {
    "Deconvolution1D",
    "DeconvolutionDepthWise1D",
    "Dequantize",
    "LayerNorm",
    "Quantize",
    "RNN",
    "Requantize",
}


def test_the_table_is_what_the_bundled_ncnn_can_create() -> None:
    spec = importlib.util.find_spec("sherpa_ncnn")
    assert spec and spec.origin
    path = Path(spec.origin).parent / "lib" / "libncnn.so"
    library = ctypes.CDLL(str(path))
    index_of = library._ZN4ncnn14layer_to_indexEPKc  # int ncnn::layer_to_index(const char*)
    create = library._ZN4ncnn12create_layerEPKc  # Layer* ncnn::create_layer(const char*)
    create.restype = ctypes.c_void_p
    # Every word that stands in the library, and its ends: linkers store ReLU within PReLU.
    words = set(re.findall(rb"[A-Za-z0-9]{3,}(?=\0)", path.read_bytes()))
    words |= {word[i:] for word in words for i in range(1, len(word) - 2)}
    registered = {word.decode(): i for word in words if (i := index_of(word)) >= 0}
    # Indexes are handed out without gaps: none of the registry is missing here.
    assert set(registered.values()) == set(range(len(registered))) and len(registered) > 100
    created = {name for name in registered if create(name.encode())}
    assert created == set(TABLE) | NOT_NEEDED
    assert not set(TABLE) & NOT_NEEDED


def test_what_is_observed_in_pytorch_is_what_ncnn_quantizes_with_a_fixed_scale() -> None:
    assert set(TIME_AXIS) == set(OBSERVED)
    types = {type_ for types in OBSERVED.values() for type_ in types}
    assert types == set(CALIBRATED) == {"Convolution", "InnerProduct"}


@pytest.mark.parametrize("type_", ["Clip", "Swish", "RMSNorm", "ConvolutionDepthWise", "LayerNorm"])
def test_a_graph_with_any_other_layer_is_refused_by_name(exported: Export, type_: str) -> None:
    graph = param.read(exported.files("fp32")["joiner"][0])
    sherpa.check_layers(graph, "joiner.param")
    odd = param.parse_layer(f"{type_} odd_one 1 1 out0 out1")
    with pytest.raises(UserError, match=f"joiner.param: .* layer odd_one of type {type_}"):
        sherpa.check_layers(param.Param((*graph.layers, odd), graph.num_blobs + 1), "joiner.param")


def test_such_a_graph_is_refused_as_soon_as_it_is_made(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.SiLU())
    with pytest.warns(DeprecationWarning):
        traced = torch.jit.trace(network, (torch.zeros(1, 4),), _store_inputs=False)
        traced.save(tmp_path / "x.pt")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"x.pt, converted: .* of type Swish"):
        convert.convert(tmp_path / "x.pt", out / "x.param", out / "x.bin")
    assert list(out.iterdir()) == []
