"""What sherpa-ncnn asks of an exported model's files, as of sherpa-ncnn 2.1.15."""

from __future__ import annotations

from collections.abc import Mapping

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats.layers import TABLE
from transducer2ncnn.formats.param import Param, parse_layer

#: The context size of the decoder, fixed in sherpa-ncnn.
CONTEXT_SIZE = 2

BLANK = 0
#: Token ids that its search never emits, fixed in its code: the blank, and <unk>.
NEVER_EMITTED = (BLANK, 2)

META_DATA_TYPE = "SherpaMetaData"
#: ncnn writes an array under this minus its key, its length first.
ARRAY_KEY = -23300


def check_layers(param: Param, name: str) -> None:
    """Refuse a graph that the ncnn inside sherpa-ncnn cannot run.

    Raises:
        UserError: naming each layer of a type that it cannot create, or a shape given as an
            expression, which it would misread without a word.
    """
    bad = [
        f"layer {layer.name} of type {layer.type}"
        for layer in param.layers
        if layer.type not in TABLE
    ]
    bad += [
        f"layer {layer.name}, a {layer.type} whose parameter {key} is the expression {value}"
        for layer in param.layers
        for key, value in layer.params.items()
        if value.startswith('"')
    ]
    if bad:
        raise UserError(
            f"{name}: sherpa-ncnn's ncnn cannot run {'; '.join(bad)}. The exported graph must use "
            "only layers that this ncnn has and whose weights are known here; another version of "
            "pnnx, or a change to the model's graph, is needed."
        )


def with_meta_data(param: Param, meta_data: Mapping[int, int | tuple[int, ...]]) -> Param:
    """The encoder's param as sherpa-ncnn wants it: its sizes stated by a layer in front.

    Args:
        meta_data: parameters by key; a tuple becomes one of ncnn's arrays.
    """
    values = " ".join(_parameter(key, value) for key, value in meta_data.items())
    layer = parse_layer(f"{META_DATA_TYPE:<24} {'sherpa_meta_data1':<24} 0 0 {values}")
    return Param((layer, *param.layers), param.num_blobs)


def _parameter(key: int, value: int | tuple[int, ...]) -> str:
    if isinstance(value, int):
        return f"{key}={value}"
    return f"{ARRAY_KEY - key}={','.join(map(str, (len(value), *value)))}"
