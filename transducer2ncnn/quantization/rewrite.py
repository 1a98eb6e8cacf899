"""A linear layer or an LSTM as other layers of ncnn that compute the same.

Why: ncnn's ``Gemm`` in int8 quantizes its input as it comes, with a scale of its own at every call,
where an ``InnerProduct`` needs one scale that calibration found for all speech. The weight is the
Gemm's constant A, so that every output channel has a scale; as B the whole matrix would share one.

Nothing is rounded here: weights stay fp32 and are views of what was given, so a rewritten graph can
be compared with the plain one apart from int8. The blobs that a layer puts out keep their names.

Only layers that the ncnn inside sherpa-ncnn 2.1.15 can create are used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats.param import Layer, parse_layer
from transducer2ncnn.formats.weights import Block

#: A layer with its blocks in the bin.
Piece = tuple[Layer, list[Block]]

#: BinaryOp's parameter 0.
ADD, MULTIPLY = 0, 2
#: Eltwise's.
SUM = 1

#: Layers that give two axes or more, whatever they are given, as does a Reshape to so many.
_GIVE_ROWS = {
    "Convolution",
    "Convolution1D",
    "ConvolutionDepthWise1D",
    "Embed",
    "ExpandDims",
    "Gemm",
    "LSTM",
    "MatMul",
    "Permute",
}
#: Layers that may give a single one.
_GIVE_ANY = {"Flatten", "Input", "MemoryData", "Reduction", "Reshape", "Squeeze"}


def has_any_rank(layer: Layer, any_rank: Collection[str]) -> bool:
    """Whether what a layer puts out may be a vector, for all that the graph tells.

    A joiner is given one frame as a vector or several as rows, and its InnerProducts take both. A
    Gemm takes rows only, and gives rows.

    Args:
        any_rank: the blobs before it that may be vectors.
    """
    if layer.type in _GIVE_ROWS or (layer.type == "Reshape" and 1 in layer.params):
        return False
    return layer.type in _GIVE_ANY or all(blob in any_rank for blob in layer.inputs)


def linear_as_gemm(
    layer: Layer, blocks: list[Block], any_rank: bool, groups: int = 1
) -> list[Piece]:
    """A linear layer, N values to M for each row of its input, as a Gemm with the weight as A.

    Args:
        layer: an InnerProduct, or a Gemm with a constant transposed B.
        blocks: its weights in fp32.
        any_rank: whether the input may be a vector, which a Reshape then makes a row of. The
            output has two axes in any case.
        groups: Gemms that share the N values out among them, in order; what comes out is added up.
            In int8 each has scales of its own, for its values and for its weights.

    Raises:
        UserError: the layer does more than a linear layer does, or has fewer inputs than groups.
    """
    weight, bias = _linear_weights(layer, blocks)
    (source,), (target,), name = layer.inputs, layer.outputs, layer.name
    pieces: list[Piece] = []
    if any_rank:
        rows = f"{name}_rows"
        pieces.append(_plain("Reshape", rows, [source], [rows], f"0={weight.shape[1]} 1=-1"))
        source = rows
    if groups == 1:
        return [*pieces, _gemm(name, source, target, weight, bias)]
    if groups > weight.shape[1]:
        raise UserError(f"layer {name} has {weight.shape[1]} inputs, too few for {groups} groups.")
    shares = np.array_split(weight, groups, axis=1)
    inputs, outputs = ([f"{name}_{what}{i}" for i in range(groups)] for what in ("in", "out"))
    pieces.append(_slice(f"{name}_slice", source, inputs, [share.shape[1] for share in shares]))
    for i, share in enumerate(shares):
        share_name = name if i == 0 else f"{name}_{i}"
        pieces.append(_gemm(share_name, inputs[i], outputs[i], share, None if i else bias))
    return [*pieces, _plain("Eltwise", f"{name}_sum", outputs, [target], f"0={SUM}")]


def lstm_apart(layer: Layer, blocks: list[Block]) -> list[Piece]:
    """An LSTM's step as plain layers: Gemms for its weights, and what is done to the gates.

    It takes one frame a call, from the states that it is given. Of several frames it makes other
    numbers without any error, so it is for encoders that put out one frame a segment.

    Args:
        layer: an LSTM in one direction with its states as inputs and outputs.
        blocks: its weights in fp32.

    Raises:
        UserError: the LSTM is another one.
    """
    if len(layer.inputs) != 3 or len(layer.outputs) != 3 or layer.integer(2) != 0:
        raise UserError(
            f"layer {layer.name} cannot be taken apart: expected an LSTM that runs forward, with "
            "its hidden and cell state as inputs and outputs."
        )
    by_name = {block.name: block.values for block in blocks}
    name, outputs = layer.name, layer.integer(0)
    hidden = by_name["bias"].size // 4
    (x, h, c), (y, next_h, next_c) = layer.inputs, layer.outputs
    weight_xc = by_name["weight_xc"].reshape(4 * hidden, -1)
    weight_hc = by_name["weight_hc"].reshape(4 * hidden, outputs)

    def blob(suffix: str) -> str:
        return f"{name}_{suffix}"

    def plain(type_: str, suffix: str, inputs: Iterable[str], params: str = "") -> Piece:
        return _plain(type_, blob(suffix), list(inputs), [blob(suffix)], params)

    # ncnn's order of gates is I F O G, so the three that a sigmoid squashes are one slice. Two
    # Gemms rather than one on both inputs together: each input then has a scale of its own.
    projected = "weight_hr" in by_name
    h_apart = blob("hidden")
    pieces = [
        _gemm(blob("xc"), x, blob("xc"), weight_xc, by_name["bias"]),
        _gemm(blob("hc"), h, blob("hc"), weight_hc, None),
        plain("BinaryOp", "gates", [blob("xc"), blob("hc")], f"0={ADD}"),
        _slice(blob("slice"), blob("gates"), [blob("ifo"), blob("g")], [3 * hidden, hidden]),
        plain("Sigmoid", "squashed", [blob("ifo")]),
        _slice(blob("slice_ifo"), blob("squashed"), [blob(x) for x in "ifo"], [hidden] * 3),
        plain("TanH", "candidate", [blob("g")]),
        plain("BinaryOp", "written", [blob("i"), blob("candidate")], f"0={MULTIPLY}"),
        plain("BinaryOp", "kept", [blob("f"), c], f"0={MULTIPLY}"),
        plain("BinaryOp", "cell", [blob("kept"), blob("written")], f"0={ADD}"),
        _plain("Split", blob("split_cell"), [blob("cell")], [next_c, blob("cell_out")], ""),
        plain("TanH", "read", [blob("cell_out")]),
        plain("BinaryOp", "hidden", [blob("o"), blob("read")], f"0={MULTIPLY}"),
    ]
    if projected:
        weight_hr = by_name["weight_hr"].reshape(outputs, hidden)
        h_apart = blob("hr")
        pieces.append(_gemm(blob("hr"), blob("hidden"), h_apart, weight_hr, None))
    return [*pieces, _plain("Split", blob("split_hidden"), [h_apart], [y, next_h], "")]


def _linear_weights(layer: Layer, blocks: list[Block]) -> tuple[np.ndarray, np.ndarray | None]:
    """Weight (M, N) and bias (M,) or None of a linear layer."""
    by_name = {block.name: block.values for block in blocks}
    if layer.type == "InnerProduct":
        if activation := layer.integer(9):
            raise UserError(
                f"layer {layer.name} cannot become a Gemm: it has an activation in it "
                f"(9={activation})."
            )
        return by_name["weight"].reshape(layer.integer(0), -1), by_name.get("bias")
    # A linear layer as pnnx writes it where it knows the shapes: x·Bᵀ + C.
    expected = {2: 0, 3: 1, 4: 0, 5: 1, 6: 1, 11: 0, 14: 0}
    scaled = any(float(layer.params.get(key, 1)) != 1 for key in (0, 1))
    row = layer.integer(10) in (-1, 4)
    if scaled or not row or any(layer.integer(key) != value for key, value in expected.items()):
        raise UserError(
            f"layer {layer.name} cannot be rewritten: it is a Gemm that is not a linear layer "
            "with a constant weight as its transposed B and a bias per output."
        )
    return by_name["b"].reshape(layer.integer(8), -1), by_name.get("c")


def _gemm(
    name: str, source: str, target: str, weight: np.ndarray, bias: np.ndarray | None
) -> Piece:
    """Rows of N values, (T, N), to (T, M): A is the weight (M, N), B the rows, transposed.

    B's scale is shared by all rows. What comes out is transposed back (14), and C is broadcast
    as a column (10=1), one value for each output channel.
    """
    m, n = weight.shape
    params = f"3=1 4=1 6=1 7={m} 9={n} 10={-1 if bias is None else 1} 14=1"
    layer, blocks = _plain("Gemm", name, [source], [target], params)
    blocks.append(Block.tagged("a", weight.reshape(-1)))
    if bias is not None:
        blocks.append(Block.tagged("c", bias))
    return layer, blocks


def _slice(name: str, source: str, targets: list[str], sizes: list[int]) -> Piece:
    """Rows cut into shorter ones."""
    listed = ",".join(map(str, [len(sizes), *sizes]))
    return _plain("Slice", name, [source], targets, f"-23300={listed} 1=1")


def _plain(type_: str, name: str, inputs: list[str], outputs: list[str], params: str) -> Piece:
    """A layer without weights."""
    blobs = " ".join([*inputs, *outputs])
    line = f"{type_:<24} {name:<24} {len(inputs)} {len(outputs)} {blobs} {params}"
    return parse_layer(line.rstrip()), []
