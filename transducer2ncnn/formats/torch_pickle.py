"""The pickle in a file of ``torch.save``, read by a machine that makes plain values and tensors.

A pickle is a program for a stack machine, and whoever wrote the file wrote the program. This
machine knows the instructions that ``torch.save`` uses, and calls nothing but its own functions
below: a pickle cannot run code or change what is in memory already. None of them copies its
arguments, which a few bytes could have it do again and again, so what a pickle makes grows with
its length alone. Tensors are views of storages that are in the file.

Source: the instructions, https://github.com/python/cpython/blob/main/Lib/pickletools.py
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: The bytes of the storage of this name, as a 1-D tensor of this type and number of values.
FindStorage = Callable[[str, torch.dtype, int], Tensor]

#: Axes of a tensor, and tensors, at most: a large training checkpoint has some thousands.
MAX_AXES = 8
MAX_TENSORS = 100_000


class RefusedError(Exception):
    """The pickle asks for something by name that is not in ``GLOBALS``; the name."""


class MalformedError(Exception):
    """The pickle is not one that ``torch.save`` writes; says why."""


@dataclass(frozen=True)
class _Storage:
    """A kind of storage, by the type of its values."""

    dtype: torch.dtype


@dataclass(frozen=True)
class _Function:
    """What a pickle may call, with a tuple of arguments."""

    call: Callable[[tuple[Any, ...]], Any]


def load(data: bytes, find_storage: FindStorage) -> Any:
    """What a pickle holds: None, bool, int, float, str, list, tuple, dict and tensor.

    Types and devices of PyTorch come as their names, paths as the tuple of their parts, and
    subclasses of dict as dict.

    Raises:
        RefusedError, MalformedError
        UserError: as ``find_storage`` raises it.
    """
    try:
        return _run(data, find_storage)
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as e:
        raise MalformedError(_first_line(e)) from None


def _run(data: bytes, find_storage: FindStorage) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def popped(count: int) -> list[Any]:
        if len(stack) - (marks[-1] if marks else 0) < count:
            raise ValueError("takes more than there is")
        items = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return items

    def popped_to_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    tensors = 0
    argument: Any
    for opcode, argument, position in pickletools.genops(data):
        match opcode.name:
            case "PROTO":
                pass
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE":
                argument.encode()  # lone surrogates can be pickled, and not printed
                stack.append(argument)
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(popped(int(opcode.name[-1]))))
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(popped_to_mark()))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "APPEND" | "APPENDS":
                items = popped(1) if opcode.name == "APPEND" else popped_to_mark()
                _expect(list, stack[-1]).extend(items)
            case "SETITEM" | "SETITEMS":
                items = popped(2) if opcode.name == "SETITEM" else popped_to_mark()
                pairs = zip(items[::2], items[1::2], strict=True)
                _expect(dict, stack[-1]).update((_key(key), value) for key, value in pairs)
            case "GLOBAL":
                name = argument.replace(" ", ".")
                if name not in GLOBALS:
                    raise RefusedError(name)
                stack.append(GLOBALS[name])
            case "BINPERSID":
                what, kind, name, _, count = popped(1)[0]
                if what != "storage" or not isinstance(name, str):
                    raise ValueError("it refers to something that is no storage")
                _expect_whole([count])
                stack.append(find_storage(name, _expect(_Storage, kind).dtype, count))
            case "REDUCE":
                function, arguments = popped(2)
                stack.append(_expect(_Function, function).call(_expect(tuple, arguments)))
                tensors += isinstance(stack[-1], Tensor)
                if tensors > MAX_TENSORS:
                    raise ValueError(f"it holds more than {MAX_TENSORS:,} tensors")
            case "BUILD":
                popped(1)  # the version notes of a state dict, which nothing here needs
                _expect(dict, stack[-1])
            case "STOP":
                return popped(1)[0]
            case other:
                raise ValueError(f"it holds the instruction {other} at {position}")
    raise ValueError("it has no end")


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    """What ``torch._utils._rebuild_tensor_v2`` makes, checked to lie in its storage."""
    storage, offset, size, stride, _, _, *metadata = arguments
    _expect(Tensor, storage)
    axes = len(_expect(tuple, size))
    if len(_expect(tuple, stride)) != axes or axes > MAX_AXES or any(metadata):
        raise ValueError(f"it holds a tensor of {axes} axes that is no plain one")
    _expect_whole([offset, *size, *stride])
    if 0 in size:
        return torch.empty(size, dtype=storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if storage.dim() != 1 or last >= len(storage):
        raise ValueError(f"it holds a tensor of shape {size} in a storage of {len(storage)} values")
    return storage.as_strided(size, stride, offset)


def _parameter(arguments: tuple[Any, ...]) -> Tensor:
    return _expect(Tensor, arguments[0])


def _dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    return _expect(dict, arguments[0]) if arguments else {}


def _first(arguments: tuple[Any, ...]) -> Any:
    return arguments[0]


def _all(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return arguments


_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}

#: What a pickle may name. Training parameters hold a ``pathlib.PosixPath``, under either of its
#: names: Python 3.13 moved it.
GLOBALS: dict[str, object] = {
    "torch._utils._rebuild_tensor_v2": _Function(_tensor),
    "torch._utils._rebuild_parameter": _Function(_parameter),
    "torch.Size": _Function(_first),
    "torch.device": _Function(_first),
    "collections.OrderedDict": _Function(_dict),
    "collections.Counter": _Function(_dict),
    "pathlib.PosixPath": _Function(_all),
    "pathlib._local.PosixPath": _Function(_all),
    **{f"torch.{name}Storage": _Storage(dtype) for name, dtype in _DTYPES.items()},
    **{str(dtype): str(dtype) for dtype in _DTYPES.values()},
}


def _expect(type_: type[Any], value: Any) -> Any:
    if not isinstance(value, type_):
        raise TypeError(f"it takes a {type(value).__name__} for a {type_.__name__.lstrip('_')}")
    return value


def _expect_whole(numbers: Any) -> None:
    if not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise ValueError("it holds a size that is no whole number")


def _key(value: Any) -> Any:
    # Only what is hashed at once: the hash of a tuple of tuples can take forever.
    if not isinstance(value, (str, int, float, type(None))):
        raise TypeError(f"it has a {type(value).__name__} for a key")
    return value


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
