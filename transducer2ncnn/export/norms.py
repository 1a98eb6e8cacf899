"""BasicNorm in a form that fp16 can compute.

pnnx converts ``x · (Σx²/N + ε)^−½`` as it stands, and a blob of ncnn's then holds x². Where ncnn
computes in fp16, as it does by default on ARMv8.2, the square of anything above 255.9 is infinite,
its power is zero, and so is the frame, without NaN or an error. The same function, for every x that
fp16 itself can hold:

    x / (√(Σx² + Nε) / √N)

The divisor is one Reduction, which ncnn computes in fp32 on every processor. It runs over x with
one value more in each row, √(Nε), and has the coefficient 1/√N.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats.param import Layer, Param, parse_layer

#: Operations of BinaryOp, key 0.
ADD, MULTIPLY, DIVIDE, POWER = 0, 2, 3, 6
#: Operations of Reduction, key 0: the sum, and the root of the sum of squares.
SUM, ROOT = 0, 8
#: Reduction's parameters for the last axis, of which one value is left.
LAST_AXIS = {1: "0", -23303: "1,-1", 4: "1", 5: "1"}


def rewrite(param: Param, name: str) -> Param:
    """The same graph with every norm in the form above.

    Raises:
        UserError: naming squares that are added up and are not of a norm as it is known.
    """
    made_by = {blob: layer for layer in param.layers for blob in layer.outputs}
    replaced: dict[str, Layer | None] = {}
    num_norms = 0
    for layer in param.layers:
        if layer.type == "BinaryOp" and (found := _norm(layer, made_by)):
            replaced |= _replacements(found, num_norms)
            num_norms += 1
    layers = tuple(
        new for layer in param.layers if (new := replaced.get(layer.name, layer)) is not None
    )
    _check_none_left(layers, name)
    return Param(layers, len({blob for layer in layers for blob in layer.outputs}))


def _norm(product: Layer, made_by: Mapping[str, Layer]) -> list[Layer] | None:
    """The layers of a norm, from the Split of x to the product that it ends with."""
    if len(product.inputs) != 2 or product.integer(0) != MULTIPLY:
        return None
    x, factor = product.inputs
    # A Split of one blob copies it to several, so no layer but the next takes what these put out.
    chain = [product]
    for operation, value in ((POWER, -0.5), (ADD, None), (DIVIDE, None)):
        layer = made_by[factor]
        if layer.type != "BinaryOp" or layer.integer(0) != operation or not layer.integer(1):
            return None
        if value is not None and _constant(layer) != value:
            return None
        chain.append(layer)
        (factor,) = layer.inputs
    reduction = made_by[factor]
    if reduction.type != "Reduction" or reduction.params != {0: str(SUM)} | LAST_AXIS:
        return None
    square, split = made_by[reduction.inputs[0]], made_by[x]
    if square.type != "BinaryOp" or not _is_square(square, made_by):
        return None
    if len(square.inputs) != 2 or made_by[square.inputs[0]] is not split:
        return None
    return [split, square, reduction, *reversed(chain)]


def _is_square(layer: Layer, made_by: Mapping[str, Layer]) -> bool:
    """Whether a layer multiplies a blob by itself."""
    if layer.type == "UnaryOp":
        return layer.integer(0) == 4
    if layer.type != "BinaryOp":
        return False
    if layer.integer(1):
        return layer.integer(0) == POWER and _constant(layer) == 2
    # The copies that a Split makes are one blob.
    of = {made_by[blob].name if made_by[blob].type == "Split" else blob for blob in layer.inputs}
    return layer.integer(0) == MULTIPLY and len(of) == 1


def _replacements(norm: list[Layer], number: int) -> dict[str, Layer | None]:
    """What takes the place of a norm's layers, by their names."""
    split, square, reduction, divided, added, power, product = norm
    values, eps = _constant(divided), _constant(added)
    kept, dropped = square.inputs
    copies = [blob for blob in split.outputs if blob != dropped]
    root = power.outputs[0]
    axis = " ".join(f"{key}={value}" for key, value in LAST_AXIS.items())
    new = {
        split.name: ("Split", split.name, split.inputs, copies, ""),
        square.name: (
            "Padding",
            f"norm_{number}_padded",
            [kept],
            square.outputs,
            f"0=0 1=0 2=0 3=1 4=0 5={math.sqrt(values * eps):.9e}",
        ),
        reduction.name: (
            "Reduction",
            f"norm_{number}_root",
            square.outputs,
            [root],
            f"0={ROOT} 2={1 / math.sqrt(values):.9e} {axis}",
        ),
        product.name: (
            "BinaryOp",
            f"norm_{number}",
            product.inputs,
            product.outputs,
            f"0={DIVIDE}",
        ),
    }
    made: dict[str, Layer | None] = {layer.name: None for layer in (divided, added, power)}
    for replaced, (type_, name, inputs, outputs, parameters) in new.items():
        blobs = " ".join([*inputs, *outputs])
        made[replaced] = parse_layer(
            f"{type_:<24} {name:<24} {len(inputs)} {len(outputs)} {blobs} {parameters}".rstrip()
        )
    return made


def _check_none_left(layers: tuple[Layer, ...], name: str) -> None:
    made_by = {blob: layer for layer in layers for blob in layer.outputs}
    for layer in layers:
        if layer.type == "Reduction" and _is_square(made_by[layer.inputs[0]], made_by):
            raise UserError(
                f"{name}: {layer.name} adds up squares that {made_by[layer.inputs[0]].name} puts "
                "out, and where ncnn computes in fp16 they are infinite for values above 255.9. "
                "Expected a norm as families.modules.BasicNorm states it, which is converted to "
                "another form."
            )


def _constant(layer: Layer) -> float:
    """The number that a BinaryOp takes in place of a second input."""
    return float(layer.params[2])
