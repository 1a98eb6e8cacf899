"""Scale tables: what every int8 value stands for, in the file that ncnn2int8 reads.

    conv_5_param_0 90.180740 90.888153 …
    conv_5 7.968131

A line of weight scales for each array of weights, then a line with the input scale of each layer;
each number is followed by a blank. An int8 value is the real one times its scale, rounded.

Source: ncnn's tools, https://github.com/Tencent/ncnn/tree/master/tools/quantize
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.files import write_text

#: The largest int8 magnitude that is used.
INT8_MAX = 127

#: Between a layer's name and the number of its array of weights.
WEIGHTS = "_param_"


@dataclass
class ScaleTable:
    #: (n,) float32 scales by layer and array, such as "conv_5_param_0".
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    #: Scales by layer, such as "conv_5".
    inputs: dict[str, float] = field(default_factory=dict)


def read(path: str | Path) -> ScaleTable:
    """Parse a table; the order of its lines is kept.

    Raises:
        UserError: the file is missing or a line of it is not one of a scale table; the message
            names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read as a scale table ({e}).") from None
    table = ScaleTable()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                _add_line(table, line)
            except ValueError as e:
                raise UserError(f"{path}, line {number}: {e}") from None
    return table


def _add_line(table: ScaleTable, line: str) -> None:
    """Parse one line into the table; ValueError if it is none."""
    key, *words = line.split()
    try:
        scales = np.array([float(word) for word in words])
    except ValueError:
        raise ValueError(f"expected a name and its scales, found {shown(line)!r}.") from None
    if key in table.weights or key in table.inputs:
        raise ValueError(f"{shown(key)} has a line already.")
    _check(key, scales)
    if _is_weights(key):
        table.weights[key] = scales.astype(np.float32)
    elif len(scales) == 1:
        table.inputs[key] = float(scales[0])
    else:
        raise ValueError(f"{shown(key)} has {len(scales)} input scales; a layer has one.")


def write(path: str | Path, table: ScaleTable) -> None:
    """Write a table, in the order in which its entries were made.

    Raises:
        UserError: a scale is not a positive number, or too small for the file's six decimals.
    """
    entries = [*table.weights.items(), *((k, np.array([v])) for k, v in table.inputs.items())]
    lines = []
    for key, scales in entries:
        texts = [f"{scale:f}" for scale in scales]
        try:
            # As a reader will find them: 1e-9 is written as 0.000000.
            _check(key, np.array([float(text) for text in texts]))
        except ValueError as e:
            raise UserError(f"{path}: {e}") from None
        lines.append(" ".join([key, *texts, "\n"]))
    write_text(path, "".join(lines))


def as_written(scale: float) -> float:
    """What becomes of a scale in a table's six decimals, and in the float32 of a bin file."""
    return float(np.float32(f"{scale:f}"))


def _check(key: str, scales: np.ndarray) -> None:
    if len(scales) == 0:
        raise ValueError(f"{shown(key)} has no scale.")
    with np.errstate(over="ignore"):
        stored = scales.astype(np.float32)  # as a bin holds them
    for i, scale in enumerate(stored):
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(
                f"{shown(key)}: scale number {i + 1} is {scales[i]:g}, not a positive number that "
                "fp32 holds."
            )


def _is_weights(key: str) -> bool:
    layer, found, number = key.rpartition(WEIGHTS)
    return bool(layer and found and number.isdecimal())
