"""Why a plan makes again what is there: which of a rule's parameters changed, by their names.

Snakemake keeps the values alone, as ``repr`` writes them.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Jobs that are named, at most.
LISTED = 12
CODE = "the code behind it, or a library"


@dataclass(frozen=True)
class Stale:
    """A job that would be run again."""

    message: str
    #: By name, its parameters as they are now.
    params: Mapping[str, Any]
    #: Values that only the last run had, and that only this one has.
    before: Collection[str] = ()
    now: Collection[str] = ()
    #: Files that are newer than what was made of them.
    newer: Collection[str] = ()
    #: Whether it has other files than it had.
    other_files: bool = False


def lines(jobs: Iterable[Stale]) -> Iterator[str]:
    """A line for each job that is run again, and is where that begins."""
    said = [f"  {job.message}: {why}" for job in jobs if (why := ", ".join(_why(job)))]
    if said:
        yield "What is made again, and what changed:"
        yield from said[:LISTED]
    if len(said) > LISTED:
        yield f"  … and {len(said) - LISTED} more; `snakemake -n --quiet host` gives every reason"


def _why(job: Stale) -> Iterator[str]:
    old = [found for text in job.before if isinstance(found := _parsed(text), dict)]
    left = set(job.before)
    for name, value in job.params.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        if not any(repr(x) in job.now for x in values):
            continue
        left.clear()
        stated = _parsed(repr(value))
        alike = [x for x in old if isinstance(stated, dict) and x.keys() & stated.keys()]
        if name == "code":
            yield CODE
        elif alike:
            yield from (f"{name}.{key}" for key in _differing(stated, alike[0]))
        else:
            yield name
    if left:
        yield "a parameter that it no longer has"
    yield from (f"{file} is newer" for file in sorted(job.newer))
    if job.other_files:
        yield "other input files"


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def _parsed(text: str) -> Any:
    """What a value is that was written as the ``repr`` of JSON."""
    try:
        return json.loads(ast.literal_eval(text))
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return None
