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

MAGIC = "7767517"


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
        return int(self.params.get(key, default))

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
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read as an ncnn param file ({e}).") from None
    lines = text.splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise UserError(f"{path}: not an ncnn param file, whose first line is {MAGIC}.")
    try:
        num_layers, num_blobs = map(int, lines[1].split())
    except (IndexError, ValueError):
        raise UserError(f"{path}, line 2: expected the numbers of layers and of blobs.") from None
    layers = []
    for number, line in enumerate(lines[2:], start=3):
        if line.strip():
            try:
                layers.append(parse_layer(line))
            except (IndexError, ValueError):
                raise UserError(f"{path}, line {number}: not a layer: {line.strip()!r}.") from None
    if len(layers) != num_layers:
        raise UserError(f"{path}: line 2 promises {num_layers} layers, and {len(layers)} follow.")
    return Param(tuple(layers), num_blobs)


def write(path: str | Path, param: Param) -> None:
    write_text(path, param.text())


def parse_layer(line: str) -> Layer:
    """A layer's line; ValueError or IndexError if it is none."""
    words = line.split()
    type_, name, num_inputs, num_outputs = words[0], words[1], int(words[2]), int(words[3])
    blobs, params = words[4 : 4 + num_inputs + num_outputs], words[4 + num_inputs + num_outputs :]
    if len(blobs) != num_inputs + num_outputs:
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
