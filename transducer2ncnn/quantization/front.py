"""Which formats of all layers together cost least for what they lose: the Pareto front.

What is lost is added up: the errors of layers, each measured alone, are independent and small, so
their squares, and the divergence of the posteriors with them, add up well enough to rank by.
Of all combinations, those on the lower convex hull are taken. From the cheapest on, each next one
has one group of layers in a better format, the one that gains most for what it costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """A format of a group of layers, what it costs (bytes, or seconds) and what it loses."""

    format: str
    cost: float
    error: float


@dataclass(frozen=True)
class Point:
    """A format for each group, in their order; what all cost together, and lose by prediction."""

    formats: tuple[str, ...]
    cost: float
    error: float


def front(groups: Sequence[Sequence[Option]]) -> list[Point]:
    """The combinations of formats that are worth to be looked at, from the cheapest to the most
    exact.

    Args:
        groups: the options of each group, one at least.
    """
    hulls = [_hull(options) for options in groups]
    steps = sorted(
        (-_gain(before, after), i, j)
        for i, hull in enumerate(hulls)
        for j, (before, after) in enumerate(itertools.pairwise(hull), start=1)
    )
    chosen = [hull[0] for hull in hulls]
    points = [_point(chosen)]
    for _, i, j in steps:
        chosen[i] = hulls[i][j]
        points.append(_point(chosen))
    return points


def _point(chosen: Sequence[Option]) -> Point:
    return Point(
        tuple(option.format for option in chosen),
        sum(option.cost for option in chosen),
        sum(option.error for option in chosen),
    )


def _gain(before: Option, after: Option) -> float:
    """What is lost less, for each unit that it costs more."""
    return (before.error - after.error) / (after.cost - before.cost)


def _hull(options: Sequence[Option]) -> list[Option]:
    """The options that are best for some price of an error, the cheapest first."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda x: (x.cost, x.error)):
        if hull and option.error >= hull[-1].error:
            continue
        # One that a straight line between its neighbours passes below is never best.
        while len(hull) > 1 and _gain(hull[-2], hull[-1]) <= _gain(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def cheapest(count: int, passes: Callable[[int], bool]) -> int | None:
    """The first of some points, the cheapest first, that passes; None if the last does not.

    Points are tried from the cheapest on, in strides that double until one passes, and then
    halfway between that and the last that did not. So the one that is found passes, and the one
    before it does not.

    Args:
        passes: whether a point passes, by its number; asked once for each that is tried.
    """
    failed, stride = -1, 1
    while True:
        passed = min(failed + stride, count - 1)
        if passes(passed):
            break
        if passed == count - 1:
            return None
        failed, stride = passed, 2 * stride
    while passed - failed > 1:
        middle = (failed + passed) // 2
        if passes(middle):
            passed = middle
        else:
            failed = middle
    return passed
