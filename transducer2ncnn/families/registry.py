"""Families by name.

A family's package is found by its name and loaded when it is asked for: a step that runs one
family reads no code of another, and its results do not depend on any.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from transducer2ncnn import families
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families.contract import Architecture, Family


def names() -> list[str]:
    """The families that there are. None is loaded."""
    return sorted(module.name for module in pkgutil.iter_modules(families.__path__) if module.ispkg)


def find(name: str) -> Family:
    """A family by its name.

    Raises:
        UserError: there is none of this name; with those that there are.
    """
    if name not in names():
        raise UserError(f"{name!r} is not a model family. Expected one of {', '.join(names())}.")
    family: Family = importlib.import_module(f"{families.__name__}.{name}").FAMILY
    return family


def described(description: Mapping[str, Any]) -> Architecture[Any, Any]:
    """The architecture of a model, out of what ``model.describe`` returned."""
    family = find(description["family"])
    # A tuple comes back from a file as a list.
    sizes: dict[str, Any]
    settings: dict[str, Any]
    sizes, settings = (
        {key: tuple(x) if isinstance(x, list) else x for key, x in description[part].items()}
        for part in ("sizes", "settings")
    )
    return family.architecture(family.sizes(**sizes), family.settings(**settings))
