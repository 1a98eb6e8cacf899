"""A model's settings: what no tensor tells, and where each value comes from.

A training checkpoint may hold them among its own keys; the configuration may state them. What
neither of the two does, and the family has no default for, is an error: with a wrong value the
network computes something, and the text is wrong.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families.contract import Family, Settings

#: What a setting may be.
Value = int | float | str | bool

_KINDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
}


@dataclass(frozen=True)
class Settled:
    """The settings of one model.

    Attributes:
        origins: by setting, where its value comes from.
        remarks: what a user should know of that, a sentence each.
    """

    settings: Settings
    origins: dict[str, str]
    remarks: list[str]


def problems(family: Family, stated: Mapping[str, Value]) -> Iterator[tuple[str, str]]:
    """What is wrong with settings of the configuration by themselves: setting and sentence."""
    kinds = _kinds(family)
    for name, value in stated.items():
        if name not in kinds:
            known = f"Known here: {', '.join(kinds)}" if kinds else "It has none"
            yield name, f"unknown setting of {family.title}. {known}."
        elif not _fits(value, kinds[name]):
            yield name, f"expected {_KINDS[kinds[name]]}; found {value!r}."


def settle(
    family: Family,
    stated: Mapping[str, Value],
    kept: Mapping[str, Value],
    checkpoint: object,
    taken_from: Mapping[str, str] | None = None,
) -> Settled:
    """The settings of a model.

    Args:
        stated: those in the configuration.
        kept: the plain values among the checkpoint's own keys.
        checkpoint: what to call it.
        taken_from: of what is stated, where it was found if no person stated it.

    Raises:
        UserError: a setting is missing, unknown or of another type, or the configuration
            contradicts the checkpoint.
    """
    for name, problem in problems(family, stated):
        raise UserError(f"settings.{name}: {problem}")
    values: dict[str, Value] = {}
    origins: dict[str, str] = {}
    remarks: list[str] = []
    missing: list[str] = []
    for field in dataclasses.fields(family.settings):
        name, about = field.name, field.metadata
        key = next((key for key in about["keys"] or (name,) if key in kept), None)
        if name in stated:
            origin = (taken_from or {}).get(name, "the configuration")
            values[name], origins[name] = stated[name], origin
            if key is not None and kept[key] != stated[name]:
                both = (
                    f"settings.{name} is {stated[name]!r} in {origin}, and {key} is "
                    f"{kept[key]!r} in {checkpoint}"
                )
                if not about["hint"]:
                    raise UserError(
                        f"{both}, which was trained with that. Correct the configuration, or "
                        "leave the setting out."
                    )
                remarks.append(f"{both}: the former is taken.")
        elif key is not None:
            kind = _kinds(family)[name]
            if not _fits(kept[key], kind):
                raise UserError(
                    f"{checkpoint}: its {key}, the setting {name}, is {kept[key]!r}, expected "
                    f"{_KINDS[kind]}."
                )
            values[name], origins[name] = kept[key], f"{key} in the checkpoint"
            if about["hint"]:
                remarks.append(
                    f"settings.{name} is taken from {checkpoint}, where {key} is {kept[key]!r}. "
                    "That may be no more than training's own default: in the published models it "
                    f"is {about['published']}. State it in the configuration to be sure."
                )
        elif field.default is not dataclasses.MISSING:
            values[name], origins[name] = field.default, "the default"
        else:
            missing.append(
                f"{name} ({about['description']}; in the published models {about['published']})"
            )
    if missing:
        raise UserError(
            f"{checkpoint}: {family.title} has settings that no tensor tells, and the checkpoint "
            f"holds none of: {'; '.join(missing)}. Expected them in the configuration, under the "
            "model's `settings`. A wrong one gives bad text without any error, so take them from "
            "the command that the model was trained or decoded with."
        )
    # A float may be stated as a whole number.
    kinds = _kinds(family)
    settings = family.settings(**{name: kinds[name](x) for name, x in values.items()})
    return Settled(settings, origins, remarks)


def _kinds(family: Family) -> dict[str, Any]:
    """The type of each setting."""
    kinds = typing.get_type_hints(family.settings)
    return {field.name: kinds[field.name] for field in dataclasses.fields(family.settings)}


def _fits(value: object, kind: type) -> bool:
    # A truth value is a whole number to Python.
    return type(value) is kind or (kind is float and type(value) is int)
