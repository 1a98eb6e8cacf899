"""How the page writes figures and lists."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from transducer2ncnn.report.artifacts import Json

MINUS, NO_BREAK_SPACE = "−", "\u00a0"

#: Values of a setting that are shown, at most.
LISTED = 6


def size(num_bytes: float) -> str:
    """Bytes in a unit of which there are a few."""
    unit, value = next(
        (unit, num_bytes / factor)
        for unit, factor in (("MiB", 2**20), ("KiB", 2**10), ("bytes", 1))
        if num_bytes >= factor or factor == 1
    )
    digits = 0 if unit == "bytes" else 2 if value < 10 else 1
    return f"{value:,.{digits}f}{NO_BREAK_SPACE}{unit}"


def percent(rate: float, digits: int = 2) -> str:
    return f"{100 * rate:.{digits}f}{NO_BREAK_SPACE}%"


def share(rate: float | None) -> str:
    """A percentage, or a dash where there was nothing to take it of."""
    return "–" if rate is None else percent(rate)


def decibels(ratio: float | None) -> str:
    """A signal-to-noise ratio; None where there is no noise."""
    return "∞" if ratio is None else f"{fixed(ratio, 1)}{NO_BREAK_SPACE}dB"


def points(rate: float, digits: int = 2) -> str:
    """A difference of rates in percentage points, with its sign."""
    text = f"{100 * abs(rate):.{digits}f}"
    sign = "" if float(text) == 0 else "+" if rate > 0 else MINUS
    return sign + text


def power(value: float) -> Markup:
    """A small number with a power of ten."""
    if value == 0:
        return Markup("0")
    mantissa, exponent = f"{value:.1e}".split("e")
    exponent = f"{int(exponent)}".replace("-", MINUS)
    return Markup("{}·10<sup>{}</sup>").format(mantissa, exponent)


def number(value: float, significant: int = 4) -> str:
    """A number with so many significant digits, and no power of ten."""
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return fixed(value, max(0, significant - 1 - magnitude))


def fixed(value: float, digits: int = 2) -> str:
    return f"{value:,.{digits}f}".replace("-", MINUS)


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f}{NO_BREAK_SPACE}s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes}{NO_BREAK_SPACE}minutes"
    return f"{minutes / 60:.1f}{NO_BREAK_SPACE}hours"


def listed(words: list[str]) -> str:
    """One, two and three."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def unimportant(normalised: Json) -> str:
    """What makes no difference between two texts."""
    words = {"case": "case", "punctuation": "punctuation", "full_width": "full width"}
    return listed(["white space", *(word for key, word in words.items() if normalised[key])])


def amounts(value: int | list[int]) -> str:
    """A size, or one for each stack of layers."""
    return ", ".join(f"{x:,}" for x in (value if isinstance(value, list) else [value]))


# What the sections show


def grouped(layers: list[Json], key: str) -> list[tuple[str, list[tuple[int, Json]]]]:
    """Layers by a key, in the order in which they come, each with its number among all."""
    groups: dict[str, list[tuple[int, Json]]] = {}
    for i, layer in enumerate(layers):
        groups.setdefault(layer[key], []).append((i, layer))
    return list(groups.items())


def settings(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted keys and texts."""
    if isinstance(values, dict) and values:
        return [
            row
            for key, value in values.items()
            for row in settings(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(values, list):
        shown = ", ".join(map(str, values[:LISTED]))
        if len(values) > LISTED:
            shown += f" and {len(values) - LISTED} more"
        return [(prefix, shown or "none")]
    if isinstance(values, bool):
        return [(prefix, str(values).lower())]
    return [(prefix, "none" if values in (None, {}) else str(values))]
