"""A vector that ncnn would have to guess the axis of.

ncnn's BinaryOp has no rule for a vector against a matrix: a vector of as many numbers as the matrix
has rows is taken a number a row, and only otherwise a number a column. PyTorch always means the
columns. pnnx converts such a vector without a word, and the graph is then right except where the
two numbers happen to be equal. A matrix of one row, (1, C), leaves nothing to guess.
"""

from __future__ import annotations

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats.param import Layer, Param

#: Layers whose one input and outputs have as many axes.
KEEP_AXES = frozenset({"Split", "BinaryOp", "UnaryOp", "Sigmoid", "TanH", "ReLU", "Cast", "Crop"})


def check_vectors(param: Param, name: str) -> None:
    """Refuse a graph in which a constant vector meets another operand in a BinaryOp.

    The other's axes are not known before the graph runs, so a vector is refused too. Two constants
    are let through, and a vector of one number.

    Raises:
        UserError: naming each such layer.
    """
    constants: set[str] = set()
    vectors: set[str] = set()
    guessed: list[Layer] = []
    for layer in param.layers:
        inputs = set(layer.inputs)
        if layer.type == "MemoryData":
            constants.update(layer.outputs)
            if _is_vector(layer):
                vectors.update(layer.outputs)
        elif inputs and inputs <= constants:
            constants.update(layer.outputs)
            if layer.type in KEEP_AXES and inputs <= vectors:
                vectors.update(layer.outputs)
        elif layer.type == "BinaryOp" and inputs & vectors:
            guessed.append(layer)
    if guessed:
        raise UserError(
            f"{name}: {', '.join(layer.name for layer in guessed)} would take a constant vector "
            "against another operand, and ncnn guesses along which axis: wrongly, without an "
            "error, where both axes are equally long. In the model's code, state the vector with "
            "all its axes, (1, C) against (T, C)."
        )


def _is_vector(memory: Layer) -> bool:
    """Whether a MemoryData holds one axis of more than one number; key 0 is w, 1 h, 11 d, 2 c."""
    return memory.integer(0) > 1 and not any(memory.integer(key) for key in (1, 11, 2))
