"""Files of safetensors: a header in JSON that says where each tensor is, and the tensors behind it.

    <8 bytes: the header's length, little-endian> <header> <tensors>

A header is written by whoever wrote the file: every number in it is checked before a tensor is made
by it. Tensors are mapped, not read.

Source: the format, https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from transducer2ncnn.base import inputs
from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.reading import parse_json

SUFFIX = ".safetensors"
#: Bytes of the header and axes of a tensor, at most; a large model's header has some 100,000.
MAX_HEADER = 8_000_000
MAX_AXES = 8
LENGTH_SIZE = 8

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def is_one(path: Path) -> bool:
    """Whether a file says that it is one, by its name or by how it begins."""
    try:
        with open(path, "rb") as file:
            head = file.read(LENGTH_SIZE + 1)
    except OSError:
        head = b""
    length = int.from_bytes(head[:LENGTH_SIZE], "little")
    begins = 0 < length <= MAX_HEADER and head[LENGTH_SIZE:] == b"{"
    return begins or path.suffix == SUFFIX


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors by name. They are mapped from the file: what is written to them stays in memory.

    Raises:
        UserError: the file cannot be read, is cut off, or its header makes no sense.
    """
    try:
        inputs.check(path)
        with open(path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as e:
        _refuse(path, str(e))
    except UserError as e:
        raise UserError(f"{e}.") from None
    start = LENGTH_SIZE + int.from_bytes(content[:LENGTH_SIZE], "little")
    if not LENGTH_SIZE < start <= min(len(content), LENGTH_SIZE + MAX_HEADER):
        _refuse(path, "its header is longer than it, or than any model's")
    try:
        header = parse_json(content[LENGTH_SIZE:start].decode("utf-8"))
    except ValueError as e:
        _refuse(path, f"its header is no JSON: {e}")
    if not isinstance(header, dict):
        _refuse(path, "its header holds no names")
    header.pop("__metadata__", None)
    tensors = {}
    spans = []
    for name, entry in header.items():
        dtype, shape, first, last = _entry(path, name, entry)
        if first == last:
            tensors[name] = torch.empty(shape, dtype=dtype)
            continue
        if start + last > len(content):
            _refuse(path, f"it is cut off in front of the end of {shown(name)!r}")
        spans.append((first, last))
        values = torch.frombuffer(
            content, dtype=torch.uint8, count=last - first, offset=start + first
        )
        if (start + first) % dtype.itemsize:
            values = values.clone()
        tensors[name] = values.view(dtype).view(shape)
    spans.sort()
    # No two tensors share what is stored, and nothing else is stored.
    ends = [0, *(last for _, last in spans)]
    if [first for first, _ in spans] != ends[:-1] or start + ends[-1] != len(content):
        _refuse(path, "its tensors do not lie one behind the other, up to its end")
    return tensors


def _entry(path: str | Path, name: str, entry: Any) -> tuple[torch.dtype, list[int], int, int]:
    """Type, shape, and where the values begin and end behind the header."""
    try:
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        first, last = entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        _refuse(path, f"of {shown(name)!r} it states no type, shape and place that are known")
    numbers = [first, last, *shape] if isinstance(shape, list) and len(shape) <= MAX_AXES else [-1]
    if not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
        _refuse(path, f"the shape or the place of {shown(name)!r} is none")
    if last - first != math.prod(shape) * dtype.itemsize:
        _refuse(path, f"{shown(name)!r} takes another number of bytes than its shape does")
    return dtype, shape, first, last


def _refuse(path: str | Path, why: str) -> NoReturn:
    raise UserError(
        f"{path}: cannot be read as safetensors ({why}). Fetch or copy the file again, or name "
        "the checkpoint that it was made of."
    )
