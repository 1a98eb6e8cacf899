"""What is wrong with a value of the configuration, in the words of who wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from transducer2ncnn.base.errors import shown
from transducer2ncnn.quantization.recipes import SHIPPED
from transducer2ncnn.workflow.models import SOURCES

#: What was expected, by pydantic's kind of error; the braces are for what it tells of the limit.
EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list, such as [a, b]",
    "dict_type": "keys and values below it",
    "model_type": "keys and values below it",
    "model_attributes_type": "keys and values below it",
    "literal_error": "one of {expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_too_short": "a text that is not empty",
    "too_short": "at least {min_length} in it",
}


def explain(error: Any, level_of: Callable[[list[str]], type[BaseModel]]) -> str:
    """A sentence on an error of pydantic's.

    Args:
        level_of: the section that holds the key that a location ends with.
    """
    location = [str(x) for x in error["loc"] if x != "[key]"]
    level = level_of(location)
    if location[:1] in (["models"], ["precisions"]):
        del location[2:3]  # the kind of source or recipe, which is no key
    key = ".".join(map(shown, location))
    kind, value = error["type"], error["input"]
    if kind == "union_tag_not_found":
        found = "missing" if "recipe" not in value else f"found {_shown(value['recipe'])}"
        return (
            f"{key}.recipe: {found}. Expected the recipe that {location[1]} starts from, one of "
            f"{', '.join(SHIPPED)}; or `auto`, to have one found."
        )
    if kind == "extra_forbidden":
        known = list(level.model_fields)
        hint = _of_another_source(location[-1], level)
        if not hint and (close := difflib.get_close_matches(location[-1], known, n=1)):
            hint = f" Did you mean `{close[0]}`?"
        return f"{key}: unknown key.{hint} Known here: {', '.join(known)}."
    if kind == "missing":
        field = level.model_fields.get(location[-1])
        return f"{key}: missing. Expected {(field and field.description) or 'a value'}."
    if kind == "union_tag_invalid":
        return (
            f"{key}.source: expected one of {', '.join(SOURCES)}; found {_shown(value['source'])}."
        )
    if kind == "value_error":
        return f"{key}: {error['ctx']['error']}."
    if error["loc"][-1] == "[key]" and not isinstance(value, str):
        return f"{key}: expected a name in quotes: {str(value)!r}; YAML takes it for a value."
    if kind in EXPECTED:
        expected = EXPECTED[kind].format(**error.get("ctx", {}))
        if location[:1] == ["models"] and len(location) == 2:
            expected = "keys such as `checkpoint` and `tokens` below it"
        return f"{key}: expected {expected}; found {_shown(value)}."
    message = error["msg"]
    return f"{key}: {message[0].lower()}{message[1:]}; found {_shown(value)}."


def _of_another_source(key: str, level: type[BaseModel]) -> str:
    """What to say of a key that models from elsewhere have."""
    here = [source for source, section in SOURCES.items() if section is level]
    there = [source for source, section in SOURCES.items() if key in section.model_fields]
    if not here or not there:
        return ""
    return f" It goes with `source: {there[0]}`; this model's source is `{here[0]}`."


def _shown(value: Any) -> str:
    """A value as the message shows it: of YAML's null, that there is none."""
    return "nothing" if value is None or value in ({}, []) else shown(repr(value))
