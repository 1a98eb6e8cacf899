"""int8 weights: their scales, and the quantized param and bin as ncnn2int8 makes them.

What is quantized is what the scale table says: a convolution or linear layer with weight scales
and an input scale; an LSTM with scales for its input and its hidden weights; a Gemm or an
embedding with one scale for all of its weights. Everything else keeps its place and is stored as
fp16 or fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats.layers import TABLE
from transducer2ncnn.formats.param import Layer, Param
from transducer2ncnn.formats.scale_table import INT8_MAX, ScaleTable
from transducer2ncnn.formats.weights import INT8_TAG, Block, Weights, to_fp16

#: In place of INT8_MAX for convolutions that ncnn runs as Winograd.
WINOGRAD_MAX = 31

#: Layers whose inputs are quantized by a scale of the table.
CALIBRATED = frozenset(name for name, known in TABLE.items() if known.observed)


def types_of(part: str, lstm: bool) -> set[str]:
    """The layer types that are quantized in a part of a transducer."""
    if part == "decoder":
        return {"Embed"}
    return {*CALIBRATED, "LSTM"} if lstm else set(CALIBRATED)


def weight_scales(
    param: Param, weights: Weights, types: set[str], keep: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Scales of the weights of every layer of some types, by table key, LSTMs first as the tool.

    Args:
        param, weights: a network in fp32.
        types: the layer types to quantize.
        keep: names of layers not to quantize.

    Returns:
        ``<layer>_param_0`` (and ``_1`` for an LSTM's hidden weights) → fp32 scales: one per
        output channel or gate row, or a single one for a Gemm or an embedding.
    """
    scales = {}
    layers = sorted(
        zip(param.layers, weights, strict=True), key=lambda pair: pair[0].type != "LSTM"
    )
    for layer, blocks in layers:
        if layer.type not in types or layer.name in keep:
            continue
        for i, (block, rows) in enumerate(_quantizable(layer, blocks)):
            largest = np.abs(block.values.reshape(rows, -1)).max(axis=1)
            # Weights that are all zero stay zero by any scale; none would be infinite.
            largest[largest == 0] = 1
            limit = np.float32(WINOGRAD_MAX if _is_winograd(layer) else INT8_MAX)
            # In fp32, to the last bit as in the reference tables, whose LSTM scales are made by
            # way of the reciprocal.
            reciprocal = layer.type == "LSTM"
            found = np.float32(1) / largest * limit if reciprocal else limit / largest
            scales[f"{layer.name}_param_{i}"] = found
    return scales


def quantize(
    param: Param, weights: Weights, table: ScaleTable, rest: str
) -> tuple[Param, Iterator[list[Block]]]:
    """A network with the layers of a scale table in int8.

    Args:
        param, weights: the network in fp32.
        rest: "fp16" or "fp32", what everything else is stored as. Biases of convolutions and
            linear layers and scales are always fp32.

    Returns:
        The param, and its weights, made layer by layer as they are asked for.

    Raises:
        UserError: the table does not fit the network; naming the layer.
    """
    _check_fit(param, weights, table)
    layers = tuple(
        layer.with_param(*term) if (term := _int8_term(layer, table)) else layer
        for layer in param.layers
    )

    def as_rest(layer: Layer, block: Block) -> Block:
        return to_fp16(layer, block) if rest == "fp16" else block

    def quantized() -> Iterator[list[Block]]:
        for layer, blocks in zip(param.layers, weights, strict=True):
            scales = [table.weights[key] for key in _scale_keys(layer, table)]
            if scales:
                yield _quantized_blocks(layer, blocks, scales, table, as_rest)
            else:
                yield [as_rest(layer, block) for block in blocks]

    return Param(layers, param.num_blobs), quantized()


def to_int8(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(rows, …) fp32 and a scale a row → int8, rounded half away from zero, within ±127."""
    scaled = values.reshape(len(scales), -1) * scales[:, None]
    # Not rint, which rounds half to even; and not floor(x + 0.5) in fp32, where the sum rounds.
    rounded = np.trunc(scaled)
    rounded += np.sign(scaled) * (np.abs(scaled - rounded) >= 0.5)
    return np.clip(rounded, -INT8_MAX, INT8_MAX).astype(np.int8).reshape(-1)


def _quantizable(layer: Layer, blocks: list[Block]) -> list[tuple[Block, int]]:
    """The blocks of a layer that int8 can hold, each with its number of scales."""
    rows = TABLE[layer.type].int8_rows(layer)
    return [(block, rows[block.name]) for block in blocks if block.name in rows]


def _is_winograd(layer: Layer) -> bool:
    """Whether ncnn runs it as int8 Winograd, which needs a bit of headroom: 3×3, stride 1."""
    if layer.type != "Convolution":
        return False
    pairs = {}
    for what, width, height in (("kernel", 1, 11), ("dilation", 2, 12), ("stride", 3, 13)):
        value = layer.integer(width, 1)
        pairs[what] = (value, layer.integer(height, value))
    return pairs == {"kernel": (3, 3), "dilation": (1, 1), "stride": (1, 1)}


def _int8_term(layer: Layer, table: ScaleTable) -> tuple[int, int] | None:
    """The parameter that says that a layer is int8, as the table has it."""
    return TABLE[layer.type].int8_term if _scale_keys(layer, table) else None


def _scale_keys(layer: Layer, table: ScaleTable) -> list[str]:
    """The table's keys for a layer's weights; none where it is not quantized."""
    known = TABLE.get(layer.type)
    if known is None or known.int8_term is None:
        return []
    keys = [f"{layer.name}_param_{i}" for i in range(len(known.int8_rows(layer)))]
    return keys if all(key in table.weights for key in keys) else []


def _check_fit(param: Param, weights: Weights, table: ScaleTable) -> None:
    expected_inputs, used = set(), set()
    for layer, blocks in zip(param.layers, weights, strict=True):
        if any(block.tag == INT8_TAG for block in blocks):
            raise UserError(f"layer {layer.name} is int8 already; expected a network in fp32.")
        keys = _scale_keys(layer, table)
        used.update(keys)
        if not keys:
            continue
        for key, (_, rows) in zip(keys, _quantizable(layer, blocks), strict=True):
            if table.weights[key].size != rows:
                raise UserError(
                    f"the scale table does not fit: {key} has {table.weights[key].size} scales, "
                    f"and layer {layer.name} needs {rows}."
                )
        if layer.type in CALIBRATED:
            expected_inputs.add(layer.name)
    left = sorted(table.weights.keys() - used)
    wrong = sorted(table.inputs.keys() ^ expected_inputs)
    if left or wrong:
        names = ", ".join([*left, *wrong][:5])
        raise UserError(
            f"the scale table does not fit the network: {names} "
            "stand in one of them only, or without a scale that belongs to them."
        )


def _quantized_blocks(
    layer: Layer,
    blocks: list[Block],
    scales: list[np.ndarray],
    table: ScaleTable,
    as_rest: Callable[[Layer, Block], Block],
) -> list[Block]:
    quantizable = [block.name for block, _ in _quantizable(layer, blocks)]
    result = []
    for block in blocks:
        if block.name in quantizable:
            rows = scales[quantizable.index(block.name)]
            result.append(Block.tagged(block.name, to_int8(block.values, rows)))
        else:
            result.append(as_rest(layer, block))
    result += [Block.bare("scales", rows) for rows in scales]
    if layer.type in CALIBRATED:
        result.append(Block.bare("input_scale", np.array([table.inputs[layer.name]])))
    return result
