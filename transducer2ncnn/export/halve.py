"""fp32 files to fp16: the same graph, the weights in half precision."""

from __future__ import annotations

from pathlib import Path

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import weights
from transducer2ncnn.formats.weights import to_fp16


def halve(fp32: tuple[str | Path, str | Path], param: str | Path, bin_: str | Path) -> None:
    """Store the weights of a network in half precision, rounded to nearest even.

    What opens with no tag, biases of convolutions and linear layers and constants among it, stays
    fp32: ncnn reads it as nothing else.

    Args:
        fp32: param and bin.

    Raises:
        UserError: the files cannot be read, or a weight is larger than half precision holds.
    """
    graph = param_file.read(fp32[0])
    blocks = weights.read(graph, fp32[1])
    try:
        # One layer after the other is in memory; the param last, for a pair is complete with it.
        weights.write(
            bin_,
            (
                [to_fp16(layer, block) for block in own]
                for layer, own in zip(graph.layers, blocks, strict=True)
            ),
        )
    except UserError as e:
        raise UserError(f"{fp32[1]}: {e}") from None
    param_file.write(param, graph)
