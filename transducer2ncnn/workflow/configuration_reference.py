"""docs/configuration.md, written from the models that validate the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from transducer2ncnn.workflow.config import Config
from transducer2ncnn.workflow.models import SOURCES
from transducer2ncnn.workflow.precisions import Auto, Fp16, Fp32, Quantized

HEADER = """\
# Configuration

<!-- Generated from transducer2ncnn/workflow/config.py by `make docs`. -->

The configuration is one YAML file: `config.yaml`, or your own with `--configfile my.yaml`. Paths
are relative to the folder that `snakemake` runs in; some may be addresses
[in a storage](storage.md). A wrong key, type or path is reported by name before anything runs.
"""


def text() -> str:
    """The whole page."""
    sections = [HEADER]
    for name, field in Config.model_fields.items():
        rows = list(_rows(name, field))
        sections.append(f"## `{name}`\n\n{_sentence(field)}\n\n{_table(rows)}")
    return "\n".join(sections)


Row = tuple[str, str, str]

#: Of sections that stand for one another, what tells each: a value of the first key.
KINDS: dict[type[BaseModel], str] = {
    **{model: f"`source: {source}`" for source, model in SOURCES.items()},
    Fp32: "fp32",
    Fp16: "fp16",
    Quantized: "recipes that quantize",
    Auto: "a recipe that is found",
}


def _rows(key: str, field: FieldInfo) -> Iterator[Row]:
    """A key, or the keys below it where it holds a section, or one of several kinds of it."""
    kinds = list(_sections(field.annotation))
    if not kinds:
        yield key, _default(field), _sentence(field)
        return
    below = f"{key}.<name>" if "dict" in str(field.annotation) else key
    found: dict[str, dict[str, list[type[BaseModel]]]] = {}
    for kind in kinds:
        for name, nested in kind.model_fields.items():
            for nested_key, default, meaning in _rows(f"{below}.{name}", nested):
                row = f"{default}\n{meaning}"
                found.setdefault(nested_key, {}).setdefault(row, []).append(kind)
    for nested_key, rows in found.items():
        for row, having in rows.items():
            default, _, meaning = row.partition("\n")
            if len(having) < len(kinds):
                meaning += f" For {' and '.join(KINDS[kind] for kind in having)}."
            yield nested_key, default, meaning


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a key may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    default = field.get_default(call_default_factory=True)
    if default is None or default in ([], {}):
        return "none"
    return f"`{json.dumps(default)}`" if not isinstance(default, str) else f"`{default}`"


def _sentence(field: FieldInfo) -> str:
    text = field.description or ""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") or not text else ".")


def _table(rows: list[Row]) -> str:
    lines = ["| key | default | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in rows]
    return "\n".join(lines) + "\n"
