"""The workflow's rules and which depends on which, laid out in layers.

The layout is Sugiyama's: rules in layers, such that every edge leads down; edges that span several
layers are led through each by an invisible node; the nodes of a layer are put in the order of
their neighbours' means, which leaves few crossings; and then moved to where these are.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter

#: Sweeps over the layers, for their order and for the positions.
SWEEPS = 24

Edge = tuple[str, str]


@dataclass(frozen=True)
class RuleGraph:
    rules: tuple[str, ...]
    #: From a rule to one that needs what it makes.
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Layout:
    #: (x, y) by rule; y counts the layers downward from 0, x is in the units of the widths.
    positions: dict[str, tuple[float, float]]
    #: The points that each edge leads through, its ends included.
    routes: dict[Edge, list[tuple[float, float]]]


def reduced(graph: RuleGraph) -> RuleGraph:
    """Without the edges that follow from others, so that a drawing can be read."""
    after = _by_first(graph.edges)
    reach: dict[str, set[str]] = {}
    for rule in reversed(_in_order(graph)):
        reach[rule] = {rule}.union(*(reach[b] for b in after[rule]))
    edges = tuple(
        (a, b)
        for a, b in graph.edges
        if not any(b in reach[other] for other in after[a] if other != b)
    )
    return RuleGraph(graph.rules, edges)


def layout(graph: RuleGraph, widths: dict[str, float], gap: float) -> Layout:
    """Where to draw each rule and each edge.

    Args:
        widths: of each rule's box.
        gap: what to leave between two boxes.
    """
    level: dict[str, int] = {}
    before = _by_first((b, a) for a, b in graph.edges)
    for rule in _in_order(graph):
        level[rule] = 1 + max((level[a] for a in before[rule]), default=-1)

    # An edge's invisible nodes are named after it, one for each layer between its ends.
    chains: dict[Edge, list[str]] = {}
    wide = dict(widths)
    for a, b in graph.edges:
        between = [f"{a}>{b}>{y}" for y in range(level[a] + 1, level[b])]
        level |= {node: level[a] + 1 + i for i, node in enumerate(between)}
        wide |= dict.fromkeys(between, gap)
        chains[a, b] = [a, *between, b]
    links = [pair for chain in chains.values() for pair in itertools.pairwise(chain)]
    above, below = _by_first((b, a) for a, b in links), _by_first(links)

    layers: list[list[str]] = [[] for _ in range(1 + max(level.values(), default=-1))]
    for node in sorted(level):
        layers[level[node]].append(node)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            _order(layer, layers, above if down else below, level)

    x = {node: float(i) for layer in layers for i, node in enumerate(layer)}
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            _place(layer, x, above if down else below, wide, gap)
    points = {node: (x[node], float(level[node])) for node in level}
    return Layout(
        {rule: points[rule] for rule in graph.rules},
        {edge: [points[node] for node in chain] for edge, chain in chains.items()},
    )


def _order(
    layer: list[str], layers: list[list[str]], neighbours: dict[str, list[str]], level: dict
) -> None:
    """Sort a layer by where its neighbours stand; nodes without any stay where they are."""
    rank = {node: i / max(1, len(row) - 1) for row in layers for i, node in enumerate(row)}

    def mean(node: str) -> float:
        near = neighbours[node]
        return sum(rank[other] for other in near) / len(near) if near else rank[node]

    layer.sort(key=lambda node: (mean(node), rank[node]))


def _place(
    layer: list[str],
    x: dict[str, float],
    neighbours: dict[str, list[str]],
    widths: dict[str, float],
    gap: float,
) -> None:
    """Move a layer's nodes towards their neighbours, in their order and not over each other."""
    wanted = []
    for node in layer:
        near = [x[other] for other in neighbours[node]] or [x[node]]
        wanted.append(sum(near) / len(near))
    steps = [(widths[a] + widths[b]) / 2 + gap for a, b in itertools.pairwise(layer)]
    # From either side as far as needed; the middle of the two keeps every distance.
    left, right = wanted.copy(), wanted.copy()
    for i, step in enumerate(steps, start=1):
        left[i] = max(left[i], left[i - 1] + step)
    for i, step in reversed(list(enumerate(steps))):
        right[i] = min(right[i], right[i + 1] - step)
    x |= {node: (a + b) / 2 for node, a, b in zip(layer, left, right, strict=True)}


def _in_order(graph: RuleGraph) -> list[str]:
    before: dict[str, list[str]] = {rule: [] for rule in graph.rules}
    for a, b in graph.edges:
        before[b].append(a)
    return list(TopologicalSorter(before).static_order())


def _by_first(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for a, b in pairs:
        found[a].append(b)
    return found
