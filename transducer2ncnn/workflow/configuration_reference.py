"""docs/configuration.md, written from the models that validate the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from transducer2ncnn.workflow.config import SOURCES, Config

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
        rows = list(_models() if name == "models" else _rows(name, field))
        sections.append(f"## `{name}`\n\n{_sentence(field)}\n\n{_table(rows)}")
    return "\n".join(sections)


Row = tuple[str, str, str]


def _models() -> Iterator[Row]:
    """The keys of a model; those that only some sources have say so."""
    seen: dict[str, Row] = {}
    having: dict[str, list[str]] = {}
    for source, model in SOURCES.items():
        for name, field in model.model_fields.items():
            if name == "source":
                continue
            for key, default, meaning in _rows(f"models.<name>.{name}", field):
                having.setdefault(key, []).append(source)
                seen.setdefault(key, (key, default, meaning))
    sources = ", ".join(f"`{source}`" for source in SOURCES)
    yield "models.<name>.source", "`file`", f"Where it comes from: one of {sources}."
    for key, (_, default, meaning) in seen.items():
        only = having[key]
        if len(only) < len(SOURCES):
            meaning += f" With `source: {'`, `'.join(only)}` only."
        yield key, default, meaning


def _rows(key: str, field: FieldInfo) -> Iterator[Row]:
    """A key, or the keys below it where it is a section."""
    section = _section(field.annotation)
    if section is None:
        yield key, _default(field), _sentence(field)
        return
    inner, is_mapping = section
    below = f"{key}.<name>" if is_mapping else key
    for name, nested in inner.model_fields.items():
        yield from _rows(f"{below}.{name}", nested)


def _section(annotation: Any) -> tuple[type[BaseModel], bool] | None:
    """The section that a key holds, and whether it holds one under each name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in get_args(annotation):
        found = _section(argument)
        if found is not None:
            return found[0], found[1] or "dict" in str(annotation)
    return None


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
