"""A network with each of its layers in a format of its own: param and bin as ncnn reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats.param import Layer, Param
from transducer2ncnn.formats.scale_table import WEIGHTS, ScaleTable
from transducer2ncnn.formats.weights import FP16_TAG, INT8_TAG, Block, Weights
from transducer2ncnn.quantization import rewrite
from transducer2ncnn.quantization.layer_formats import FORMATS, REST, Format, Fp32


def apply(
    param: Param,
    weights: Weights,
    formats: Mapping[str, str],
    rest: str,
    table: ScaleTable | None = None,
) -> tuple[Param, Iterator[list[Block]]]:
    """A network as it is delivered.

    Args:
        param, weights: the network in fp32.
        formats: the format (``layer_formats.FORMATS``) of each layer that is named.
        rest: "fp16" or "fp32", the format of every other layer, and of what int8 leaves of a layer.
        table: the scales of the layers in int8-table; others that it has are left alone.

    Returns:
        The param, and its weights, made layer by layer as they are asked for.

    Raises:
        UserError: a format is unknown, a layer is missing or cannot have its format, or the table
            does not fit the network; naming the layer.
    """
    pieces = _pieces(param, weights, formats, rest, table)
    layers = [stored.layer(layer) for layer, _, stored in pieces]

    def blocks() -> Iterator[list[Block]]:
        for layer, own, stored in pieces:
            yield stored.blocks(layer, own)

    return _graph(param, layers), blocks()


def rewritten(
    param: Param, weights: Weights, formats: Mapping[str, str], table: ScaleTable | None = None
) -> tuple[Param, Weights]:
    """The graph that ``apply`` makes, with all weights in fp32: equal to the one given.

    Raises:
        UserError: as by ``apply``.
    """
    pieces = _pieces(param, weights, formats, Fp32.NAME, table)
    return _graph(param, [layer for layer, _, _ in pieces]), [own for _, own, _ in pieces]


def check_frames(formats: Mapping[str, str], frames_per_segment: int) -> None:
    """Refuse formats that compute something else with what sherpa-ncnn gives the encoder at a time.

    Args:
        formats: of the encoder's layers, by name.
        frames_per_segment: that the encoder puts out.

    Raises:
        UserError: naming a layer.
    """
    for name, format_ in formats.items():
        if frames_per_segment != 1 and FORMATS[format_].ONE_FRAME:
            raise UserError(
                f"layer {name}: the format {format_} takes one frame a call, and this encoder puts "
                f"out {frames_per_segment} for each segment. Use int8 instead."
            )


def layers_of(table: ScaleTable) -> set[str]:
    """The names of the layers that a table has scales of."""
    return {*(key.rpartition(WEIGHTS)[0] for key in table.weights), *table.inputs}


def _pieces(
    param: Param,
    weights: Weights,
    formats: Mapping[str, str],
    rest: str,
    table: ScaleTable | None,
) -> list[tuple[Layer, list[Block], Format]]:
    """The layers in fp32 that the network becomes, each with how it is to be stored."""
    if unknown := sorted({*formats.values(), rest} - FORMATS.keys()):
        raise UserError(
            f"there is no format {unknown[0]!r} for a layer. There are {', '.join(FORMATS)}."
        )
    if rest not in REST:
        raise UserError(f"the rest cannot be stored as {rest}, only as {' or '.join(REST)}.")
    _check_names(param, formats, table)
    stores = {name: FORMATS[name](rest, table) for name in {*formats.values(), rest}}
    any_rank: set[str] = set()
    pieces = []
    for layer, blocks in zip(param.layers, weights, strict=True):
        if wrong := [block for block in blocks if block.tag in (INT8_TAG, FP16_TAG)]:
            kind = "int8" if wrong[0].tag == INT8_TAG else "fp16"
            raise UserError(f"layer {layer.name} is {kind} already; expected a network in fp32.")
        stored = stores[formats.get(layer.name, rest)]
        stored.check(layer, blocks)
        free = all(blob in any_rank for blob in layer.inputs)
        for piece, own in stored.rewritten(layer, blocks, free):
            pieces.append((piece, own, stored))
            if rewrite.has_any_rank(piece, any_rank):
                any_rank.update(piece.outputs)
    return pieces


def _check_names(param: Param, formats: Mapping[str, str], table: ScaleTable | None) -> None:
    names = {layer.name for layer in param.layers}
    if missing := sorted(formats.keys() - names):
        raise UserError(
            f"the network has no layer {', '.join(missing[:5])}, which a format is given for."
        )
    if table and (missing := sorted(layers_of(table) - names)):
        raise UserError(
            f"the scale table does not fit: the network has no layer {', '.join(missing[:5])}."
        )


def _graph(param: Param, layers: list[Layer]) -> Param:
    """The layers as a graph; a blob more or less is one of them more or less that makes it."""
    before, after = (sum(len(layer.outputs) for layer in some) for some in (param.layers, layers))
    return Param(tuple(layers), param.num_blobs + after - before)
