"""Reading text and JSON that may be damaged: what comes of it is a value or one message."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from transducer2ncnn.base.errors import UserError

T = TypeVar("T")

REMAKE = "Delete the file, and run snakemake to have it made again."


def read_text(path: str | Path, what: str = "text") -> str:
    """A whole file in UTF-8, its lines' ends as they are.

    Args:
        what: what it should be, for the message.

    Raises:
        UserError: the file is missing, cannot be read, or is no UTF-8.
    """
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as e:
        raise UserError(
            f"{path}: cannot be read as {what}: it is not in UTF-8 (byte {e.start}). Save it so."
        ) from None
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read as {what} ({e}).") from None


class MissingKeyError(UserError, KeyError):
    """An object of a file lacks a key."""

    __str__ = Exception.__str__  # KeyError's would show the message in quotes


class _Object(dict[str, Any]):
    """An object of a file in JSON: who asks it for a key that it lacks is told which file."""

    def __init__(self, values: dict[str, Any], path: str) -> None:
        super().__init__(values)
        self._path = path

    def __missing__(self, key: str) -> NoReturn:
        raise MissingKeyError(f"{self._path}: has no key {key!r} where one is expected. {REMAKE}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _Object, (dict(self), self._path)


def parse_json(text: str, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The value that a text in JSON stands for.

    Args:
        object_hook: makes what stands for an object out of its values.

    Raises:
        ValueError: it stands for none, holds NaN or infinity, which JSON has not, or is nested so
            deeply that it can only be meant to do harm.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_hook=object_hook)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: str | Path) -> dict[str, Any]:
    """An object in JSON, as the workflow's files of that kind all are.

    It and the objects in it raise a ``MissingKeyError`` that names the file where they lack a key.

    Raises:
        UserError: the file is missing or holds something else.
    """
    text = read_text(path, "JSON")
    try:
        value = parse_json(text, lambda values: _Object(values, str(path)))
    except ValueError as e:
        raise UserError(f"{path}: cannot be read as JSON ({e}). {REMAKE}") from None
    if not isinstance(value, dict):
        raise UserError(
            f"{path}: holds a {type(value).__name__} in JSON. Expected an object. {REMAKE}"
        )
    return value


def read_rows(path: str | Path, type_: type[T]) -> list[T]:
    """The lines of a file, each an object in JSON with the attributes of a dataclass.

    Raises:
        UserError: the file is missing, or a line is none; the message names it.
    """
    rows = []
    for number, line in enumerate(read_text(path, "lines of JSON").split("\n"), start=1):
        if line.strip():
            try:
                rows.append(parse_row(line, type_))
            except ValueError as e:
                raise UserError(f"{path}, line {number}: {e}. {REMAKE}") from None
    return rows


def parse_row(text: str | bytes, type_: type[T]) -> T:
    """The dataclass that an object in JSON stands for.

    Raises:
        ValueError: it is no JSON, or an attribute is missing, of another type or not finite; one
            line says which.
    """
    # Not above: what reads no rows needs not wait for it.
    from pydantic import TypeAdapter, ValidationError

    try:
        row = TypeAdapter(type_).validate_json(text, strict=True)
    except ValidationError as e:
        error = e.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, error["loc"]))
        raise ValueError(f"{where}: {error['msg']}" if where else error["msg"]) from None
    for name, value in vars(row).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}: {value} is not finite")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which JSON has not")
