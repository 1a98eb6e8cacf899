"""ncnn's layers: the one table of what an exported graph may be made of.

sherpa-ncnn 2.1.15 brings an ncnn of its own, of September 2025, with most layers switched off at
build time. Their names are still found there, but to create one fails, and then the process
crashes. So a graph may use the layers of this table only: those that this ncnn creates, without
those whose weights no model needs (a test asks the library itself).

Sources: what ncnn's layers load, https://github.com/Tencent/ncnn/tree/master/src/layer, and which
are built, sherpa-ncnn's cmake/ncnn.cmake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from transducer2ncnn.formats.param import Layer


@dataclass(frozen=True)
class Expected:
    """A block that a layer has in the bin; a tagged one says there how its values are stored."""

    name: str
    count: int
    tagged: bool


#: Values of a layer's blocks, or of a module's tensors, by name.
Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LayerType:
    """What the project knows of one of ncnn's layers.

    Attributes:
        blocks: its blocks in the bin, in order, of its parameters.
        modules: PyTorch's modules that become it.
        tensors: what its blocks are in PyTorch's order and by PyTorch's names; a module's two
            biases are one there, ``bias``, their sum.
        int8_term: key and value of the parameter that says that its weights are int8; None where
            they never are.
        int8_rows: the blocks that int8 stores, each with its number of scales.
        observed: whether int8 takes its input by a scale that calibration finds.
    """

    blocks: Callable[[Layer], list[Expected]] = lambda layer: []
    modules: tuple[str, ...] = ()
    tensors: Callable[[Layer, Tensors], Tensors] = lambda layer, blocks: blocks
    int8_term: tuple[int, int] | None = None
    int8_rows: Callable[[Layer], dict[str, int]] = lambda layer: {}
    observed: bool = False


def _convolution(layer: Layer) -> list[Expected]:
    outputs, int8 = layer.integer(0), layer.integer(8)
    blocks = [Expected("weight", layer.integer(6), True)]
    if layer.integer(5):
        blocks.append(Expected("bias", outputs, False))
    if int8:
        blocks += [Expected("weight_scales", outputs, False), Expected("input_scale", 1, False)]
        if int8 > 100:
            blocks.append(Expected("output_scale", 1, False))
    return blocks


def _inner_product(layer: Layer) -> list[Expected]:
    outputs = layer.integer(0)
    blocks = [Expected("weight", layer.integer(2), True)]
    if layer.integer(1):
        blocks.append(Expected("bias", outputs, False))
    if layer.integer(8):
        blocks += [Expected("weight_scales", outputs, False), Expected("input_scale", 1, False)]
    return blocks


def _gemm(layer: Layer) -> list[Expected]:
    m, n, k = layer.integer(7), layer.integer(8), layer.integer(9)
    int8 = layer.integer(18)
    # Values of C by how it is broadcast: one, a column, a matrix, a row.
    c_count = {0: 1, 1: m, 2: m, 3: m * n, 4: n}
    blocks = []
    if layer.integer(4):
        blocks.append(Expected("a", m * k, True))
    if layer.integer(5):
        blocks.append(Expected("b", n * k, True))
    if layer.integer(6) and layer.integer(10) != -1:
        blocks.append(Expected("c", c_count.get(layer.integer(10), 0), True))
    if int8 and layer.integer(4):
        blocks.append(Expected("a_scales", m, False))
    if int8 and layer.integer(5):
        blocks.append(Expected("b_scale", 1, False))
    return blocks


def _gemm_tensors(layer: Layer, blocks: Tensors) -> Tensors:
    """A linear layer's weight is the constant one of A (out, in) and B, (in, out); it is
    PyTorch's as it stands if A is not transposed, or B is."""
    m, n, k = layer.integer(7), layer.integer(8), layer.integer(9)
    tensors = {}
    if "a" in blocks:
        tensors["weight"] = blocks["a"].reshape(k, m).T if layer.integer(2) else blocks["a"]
    if "b" in blocks:
        tensors["weight"] = blocks["b"] if layer.integer(3) else blocks["b"].reshape(k, n).T
    if "c" in blocks:
        tensors["bias"] = blocks["c"]
    return tensors


def _gemm_rows(layer: Layer) -> dict[str, int]:
    # Of A, ncnn takes a scale for each row; of B, one for the whole matrix.
    a = {"a": layer.integer(7)} if layer.integer(4) else {}
    return a | ({"b": 1} if layer.integer(5) else {})


def _embed(layer: Layer) -> list[Expected]:
    blocks = [Expected("weight", layer.integer(3), True)]
    if layer.integer(2):
        blocks.append(Expected("bias", layer.integer(0), False))
    if layer.integer(18):
        blocks.append(Expected("weight_scale", 1, False))
    return blocks


def _lstm(layer: Layer) -> list[Expected]:
    outputs, directions = layer.integer(0), 2 if layer.integer(2) == 2 else 1
    hidden = layer.integer(3) or outputs
    blocks = [
        Expected("weight_xc", layer.integer(1), True),
        Expected("bias", 4 * hidden * directions, True),
        Expected("weight_hc", 4 * hidden * outputs * directions, True),
    ]
    if outputs != hidden:
        blocks.append(Expected("weight_hr", outputs * hidden * directions, True))
    if layer.integer(8):
        blocks += [
            Expected(f"weight_{which}_scales", 4 * hidden * directions, False)
            for which in ("xc", "hc")
        ]
    return blocks


def _lstm_tensors(layer: Layer, blocks: Tensors) -> Tensors:
    """ncnn's gates are I F O G, and PyTorch's i f g o."""

    def gates(name: str) -> np.ndarray:
        i, f, o, g = blocks[name].reshape(4, -1)
        return np.concatenate([i, f, g, o])

    tensors = {
        "weight_ih_l0": gates("weight_xc"),
        "weight_hh_l0": gates("weight_hc"),
        "bias": gates("bias"),
    }
    if "weight_hr" in blocks:
        tensors["weight_hr_l0"] = blocks["weight_hr"]
    return tensors


def _lstm_rows(layer: Layer) -> dict[str, int]:
    (rows,) = (block.count for block in _lstm(layer) if block.name == "bias")
    return {"weight_xc": rows, "weight_hc": rows}


def _memory_data(layer: Layer) -> list[Expected]:
    count = 1
    for key in (0, 1, 11, 2):  # w, h, d, c; an axis that is not there is 0
        count *= layer.integer(key) or 1
    return [Expected("data", count, layer.integer(21, 1) == 0)]


def _outputs(layer: Layer) -> dict[str, int]:
    return {"weight": layer.integer(0)}


TABLE: dict[str, LayerType] = {
    "Convolution": LayerType(
        _convolution, ("Conv2d",), int8_term=(8, 2), int8_rows=_outputs, observed=True
    ),
    "Convolution1D": LayerType(_convolution, ("Conv1d",)),
    "ConvolutionDepthWise1D": LayerType(_convolution, ("Conv1d",)),
    "InnerProduct": LayerType(
        _inner_product, ("Linear",), int8_term=(8, 2), int8_rows=_outputs, observed=True
    ),
    "Gemm": LayerType(_gemm, ("Linear",), _gemm_tensors, int8_term=(18, 2), int8_rows=_gemm_rows),
    "LSTM": LayerType(_lstm, ("LSTM",), _lstm_tensors, int8_term=(8, 2), int8_rows=_lstm_rows),
    "Embed": LayerType(
        _embed, ("Embedding",), int8_term=(18, 2), int8_rows=lambda layer: {"weight": 1}
    ),
    "MemoryData": LayerType(_memory_data),
} | dict.fromkeys(
    """
    BinaryOp Cast Concat Crop Dropout Eltwise ExpandDims Flatten Flip GELU GLU Input MatMul
    Packing Padding Permute ReLU Reduction Reshape Sigmoid Slice Softmax Split Squeeze TanH UnaryOp
    """.split(),  # noqa: SIM905, a table rather than a column of strings
    LayerType(),
)


def _by_module(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        for module in TABLE[name].modules:
            found[module] = (*found.get(module, ()), name)
    return found


#: What PyTorch's modules with weights become; and those whose input calibration observes.
BY_MODULE = _by_module(TABLE)
OBSERVED = _by_module(name for name, known in TABLE.items() if known.observed)

#: The layers that stand for a module of PyTorch's: the same in number and order on both sides.
WEIGHTED = tuple(name for name, known in TABLE.items() if known.modules)
