"""ncnn's param files: the graph as text, a layer a line.

    7767517
    <layers> <blobs>
    <type> <name> <#inputs> <#outputs> <input blobs> <output blobs> <key>=<value> …

Source: ncnn's own reader, https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import write_text
from transducer2ncnn.base.reading import REMAKE, read_text

MAGIC = "7767517"

#: ncnn holds whole numbers in 32 bits.
MAX_INTEGER = 2**31


@dataclass(frozen=True)
class Layer:
    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    #: Values as written; an array's key is −23300 − k.
    params: dict[int, str]
    #: The line it was read from, which is how it is written again.
    line: str

    def integer(self, key: int, default: int = 0) -> int:
        """A parameter that is a whole number.

        Raises:
            UserError: it is none, or too large for ncnn to hold.
        """
        value = self.params.get(key)
        if value is None:
            return default
        try:
            number = int(value)
        except ValueError:
            number = MAX_INTEGER
        if not -MAX_INTEGER <= number < MAX_INTEGER:
            raise UserError(
                f"parameter {key} of layer {self.name} is {value[:40]}, expected a whole number."
            )
        return number

    def with_param(self, key: int, value: int) -> Layer:
        """The layer with one parameter more, or another value of one."""
        return parse_layer(re.sub(rf"\s{key}=\S+", "", self.line).rstrip() + f" {key}={value}")


@dataclass(frozen=True)
class Param:
    layers: tuple[Layer, ...]
    num_blobs: int

    def text(self) -> str:
        lines = [MAGIC, f"{len(self.layers)} {self.num_blobs}"]
        return "\n".join([*lines, *(layer.line for layer in self.layers)]) + "\n"


def read(path: str | Path) -> Param:
    """Parse a param file.

    Raises:
        UserError: the file is missing or is not a param file; the message names the line.
    """
    lines = read_text(path, "an ncnn param file").splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise UserError(f"{path}: not an ncnn param file, whose first line is {MAGIC}. {REMAKE}")
    try:
        num_layers, num_blobs = map(int, lines[1].split())
    except (IndexError, ValueError):
        raise UserError(
            f"{path}, line 2: expected the numbers of layers and of blobs. {REMAKE}"
        ) from None
    layers = []
    for number, line in enumerate(lines[2:], start=3):
        if line.strip():
            try:
                layers.append(parse_layer(line))
            except (IndexError, ValueError):
                raise UserError(
                    f"{path}, line {number}: not a layer: {line.strip()[:200]!r}. {REMAKE}"
                ) from None
    if len(layers) != num_layers:
        promised = f"{num_layers:,}" if abs(num_layers) < MAX_INTEGER else "too many"
        raise UserError(
            f"{path}: line 2 promises {promised} layers, and {len(layers)} follow. {REMAKE}"
        )
    return Param(tuple(layers), num_blobs)


def write(path: str | Path, param: Param) -> None:
    write_text(path, param.text())


def parse_layer(line: str) -> Layer:
    """A layer's line; ValueError or IndexError if it is none."""
    words = line.split()
    type_, name, num_inputs, num_outputs = words[0], words[1], int(words[2]), int(words[3])
    blobs, params = words[4 : 4 + num_inputs + num_outputs], words[4 + num_inputs + num_outputs :]
    if min(num_inputs, num_outputs) < 0 or len(blobs) != num_inputs + num_outputs:
        raise ValueError(line)
    pairs = [word.split("=", 1) for word in params]
    return Layer(
        type_,
        name,
        tuple(blobs[:num_inputs]),
        tuple(blobs[num_inputs:]),
        {int(key): value for key, value in pairs},
        line,
    )
