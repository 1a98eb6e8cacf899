"""Families by name.

A family's package is found by its name and loaded when it is asked for: a step that runs one
family reads no code of another, and its results do not depend on any.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, get_type_hints

from transducer2ncnn import families
from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.reading import MissingKeyError
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
        raise UserError(
            f"{shown(repr(name))} is not a model family. Expected one of {', '.join(names())}."
        )
    family: Family = importlib.import_module(f"{families.__name__}.{name}").FAMILY
    return family


def described(description: Mapping[str, Any]) -> Architecture[Any, Any]:
    """The architecture of a model, out of what ``model.inspect`` found.

    Raises:
        UserError: it describes no model of a family that there is.
    """
    sizes: dict[str, Any]
    settings: dict[str, Any]
    try:
        family = find(description["family"])
        # A tuple comes back from a file as a list.
        sizes, settings = (
            {key: tuple(x) if isinstance(x, list) else x for key, x in description[part].items()}
            for part in ("sizes", "settings")
        )
        found = family.architecture(family.sizes(**sizes), family.settings(**settings))
    except MissingKeyError:  # which names the file, and says what to do
        raise
    except (KeyError, TypeError, AttributeError) as e:
        raise UserError(
            f"model.json: describes no model that can be exported ({shown(str(e))})."
        ) from None
    hints = get_type_hints(family.sizes)
    for name, value in sizes.items():
        numbers = (value,) if hints[name] is int else value
        if not isinstance(numbers, tuple) or not all(
            type(number) is int and 0 < number < 2**31 for number in numbers
        ):
            raise UserError(
                f"model.json: {name} is {shown(repr(value))}, expected whole numbers above 0."
            )
    return found
