"""The report's plots, as SVG that stands in a page: the same bytes for the same numbers.

Text is drawn as outlines, so that it looks the same on every machine and never runs into what is
beside it. Sizes are in inches; a page scales what is wider than itself.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator, NullFormatter

from transducer2ncnn.report.rule_graph import RuleGraph, layout, reduced

INK, MUTED, LINE, FAINT = "#1f2933", "#5b6770", "#c9d1d8", "#eef1f4"
#: Of the systems that are in most reports, told apart by readers who see no red or no green, too.
KNOWN = {"pytorch": "#5b6770", "fp32": "#0072b2", "fp16": "#008a63", "int8": "#c8501a"}
#: Of the others, in their order; after the last the first comes again.
OTHERS = ("#8e4b9e", "#a07400", "#3d4fb5", "#a8325a", "#53701c", "#1b7f9c", "#7a5230")
#: Of what a threshold cuts off.
CLIPPED = "#c8501a"
#: From dark to light, of the encoder, the decoder and the joiner.
SHADES = (1.0, 0.35, 0.6)

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "svg.fonttype": "path",
    # Ids in the file are random without it.
    "svg.hashsalt": "transducer2ncnn",
}


@dataclass(frozen=True)
class Bar:
    """A measured value, and the interval around it."""

    system: str
    color: str
    value: float
    low: float
    high: float


def colors(systems: Sequence[str]) -> dict[str, str]:
    """A colour for each system."""
    others = itertools.cycle(OTHERS)
    return {system: KNOWN.get(system) or next(others) for system in ("pytorch", *systems)}


def label(system: str) -> str:
    return "PyTorch" if system == "pytorch" else system


def sizes(name: str, rows: Sequence[tuple[str, str, dict[str, int]]]) -> str:
    """How large the checkpoint and the delivered folders are.

    Args:
        rows: of each, its label, its colour and its bytes by part.
    """
    with _drawing(name, 7.2, 0.55 + 0.34 * len(rows)) as drawing:
        ax = drawing.axes
        largest = max(sum(parts.values()) for _, _, parts in rows)
        for i, (_, color, parts) in enumerate(rows):
            left = 0.0
            for size, shade in zip(parts.values(), SHADES, strict=False):
                ax.barh(
                    i,
                    size / 2**20,
                    left=left / 2**20,
                    height=0.62,
                    color=color,
                    alpha=shade,
                    linewidth=0,
                )
                left += size
            ax.text(
                (left + 0.01 * largest) / 2**20,
                i,
                f"{left / 2**20:.2f}",
                va="center",
                color=INK,
            )
        ax.set_yticks(range(len(rows)), [row[0] for row in rows])
        ax.set_xlim(0, 1.1 * largest / 2**20)
        ax.set_xlabel("MiB")
        _lying(ax)
    return drawing.svg


def intervals(
    name: str, bars: Sequence[Bar], xlabel: str, factor: float = 1.0, digits: int = 2
) -> str:
    """Values side by side, each with its interval.

    Args:
        factor: what values are multiplied with.
        digits: decimals of the values that are written beside them.
    """
    with _drawing(name, 3.5, 0.62 + 0.34 * len(bars)) as drawing:
        ax = drawing.axes
        for i, bar in enumerate(bars):
            value, low, high = (factor * x for x in (bar.value, bar.low, bar.high))
            ax.plot([low, high], [i, i], color=bar.color, linewidth=5, alpha=0.28)
            ax.plot(value, i, "o", color=bar.color, markersize=6)
            ax.text(
                1.03,
                i,
                f"{value:.{digits}f}",
                transform=ax.get_yaxis_transform(),
                va="center",
                color=INK,
            )
        ax.set_yticks(range(len(bars)), [label(bar.system) for bar in bars])
        ax.set_ylim(-0.5, len(bars) - 0.5)
        highest = max(bar.high for bar in bars) * factor
        # Without any error there is still an axis to see that on.
        ax.set_xlim(0, 1.06 * highest or 1)
        ax.set_xlabel(xlabel)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        _lying(ax)
    return drawing.svg


def parity(name: str, rows: Sequence[tuple[str, str, str, float, float]]) -> str:
    """The largest errors against PyTorch, on a logarithmic axis, with what is allowed.

    Args:
        rows: precision, colour, part, error and what is allowed of each.
    """
    with _drawing(name, 7.2, 0.62 + 0.27 * len(rows)) as drawing:
        ax = drawing.axes
        # An error of nothing has no place on the axis: it stands at its left end.
        floor = min([x for *_, error, _ in rows if (x := error)] + [1e-8]) / 3
        for i, (_, color, _, error, allowed) in enumerate(rows):
            ax.plot([floor, max(error, floor)], [i, i], color=color, linewidth=1.5, alpha=0.35)
            ax.plot(max(error, floor), i, "o", color=color, markersize=6)
            ax.plot([allowed] * 2, [i - 0.34, i + 0.34], color=INK, linewidth=1.6)
        ax.set_xscale("log")
        # As errors are written elsewhere. Powers of ten would be typeset, which takes 0.1 s.
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:.0e}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlim(floor, 3 * max(max(error, allowed) for *_, error, allowed in rows))
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.set_yticks(range(len(rows)), [f"{part}, {precision}" for precision, _, part, *_ in rows])
        ax.set_xlabel("largest error against PyTorch (dot), and the error allowed (bar)")
        _lying(ax)
    return drawing.svg


def layer_errors(name: str, layers: Sequence[dict[str, Any]], color: str) -> str:
    """The signal-to-noise ratio of each quantized layer: alone, after the norm, accumulated."""
    with _drawing(name, 7.2, 0.75 + 0.2 * len(layers)) as drawing:
        ax = drawing.axes
        highest = 0.0
        for i, layer in enumerate(layers):
            alone, accumulated = (layer[kind]["snr_db"] for kind in ("alone", "accumulated"))
            normed = (layer["after_norm"] or {"snr_db": None})["snr_db"]
            if normed is not None:
                ax.plot(normed, i, "D", markersize=4, color=INK, zorder=3)
                highest = max(highest, normed)
            present = [x for x in (alone, accumulated) if x is not None]
            highest = max([highest, *present])
            if len(present) == 2:
                ax.plot(present, [i, i], color=LINE, linewidth=1.5, zorder=1)
            if accumulated is not None:
                ax.plot(accumulated, i, "o", markersize=5, markeredgecolor=color, color="white")
            if alone is not None:
                ax.plot(alone, i, "o", markersize=5, color=color)
        for i, (layer, following) in enumerate(itertools.pairwise(layers)):
            if layer["part"] != following["part"]:
                ax.axhline(i + 0.5, color=LINE, linewidth=0.8)
        names = [f"{layer['part']}  {layer['name']}" for layer in layers]
        ax.set_yticks(range(len(layers)), names, fontsize=7.5)
        ax.set_ylim(-0.7, len(layers) - 0.3)
        ax.set_xlim(0, 1.06 * highest or 1)
        ax.set_xlabel(
            "signal-to-noise ratio in dB: the layer alone (●) and after the norm that follows (◆), "
            "all of its part quantized (○)"
        )
        _lying(ax)
    return drawing.svg


def search(name: str, found: dict[str, Any], color: str) -> str:
    """Size, or time, against the frames that differ, of the points that were measured.

    Args:
        found: ``evaluation.curve.describe``'s, with what was to be least in it.
    """
    timed = found["minimise"] == "time"
    key, scale = ("seconds", 1e-3) if timed else ("bytes", 2**20)
    points = [x for x in found["points"] if x["measured"]]
    with _drawing(name, 7.2, 2.6) as drawing:
        ax = drawing.axes
        at = [
            (x[key] / scale, 100 * (x["measured"]["agreement"]), x["measured"]["differing_frames"])
            for x in points
        ]
        ax.plot([x for x, *_ in at], [y for _, y, _ in at], "-", color=LINE, linewidth=1.2)
        for point, (x, y, frames) in zip(points, at, strict=True):
            chosen = point is found["points"][found["chosen"]]
            face = color if chosen else "white"
            ax.plot(x, y, "o", markersize=7, markeredgecolor=color, color=face, zorder=3)
            ax.annotate(
                str(frames), (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=7.5
            )
        ax.margins(x=0.06, y=0.2)
        ax.set_xlabel(
            "time of the layers, ms for a second of audio" if timed else "size of the bins, MiB"
        )
        ax.set_ylabel("frames with fp32’s best token, %")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    return drawing.svg


def histogram(name: str, shares: Sequence[float], absmax: float, threshold: float) -> str:
    """A small histogram of magnitudes from 0 to the largest, and the threshold in it.

    How often they occur is on a logarithmic axis; what lies beyond the threshold is coloured.
    """
    with _drawing(name, 2.1, 0.5) as drawing:
        ax = drawing.axes
        width = absmax / len(shares)
        floor = min((x for x in shares if x > 0), default=1.0) / 2
        edges = [i * width for i in range(len(shares) + 1)]
        ax.stairs(shares, edges, baseline=floor, fill=True, color="#9fb3c1")
        ax.axvspan(threshold, absmax, color=CLIPPED, alpha=0.16, linewidth=0)
        ax.axvline(threshold, color=CLIPPED, linewidth=1.4)
        ax.set_yscale("log")
        ax.set_ylim(floor, max([*shares, 2 * floor]) * 1.3)
        ax.set_xlim(0, absmax)
        ax.grid(False)
        ax.set_xticks([])
        ax.yaxis.set_visible(False)
        for side in ("top", "left", "right"):
            ax.spines[side].set_visible(False)
    return drawing.svg


#: A row of boxes, and the boxes.
LAYER_HEIGHT, BOX_HEIGHT, PADDING, GAP, RULE_SIZE = 0.52, 0.27, 0.09, 0.14, 8.0


def rules(name: str, graph: RuleGraph) -> str:
    """The rules in layers, each leading down to those that need what it makes."""
    drawn = reduced(graph)
    widths = {rule: _text_width(rule, RULE_SIZE) + 2 * PADDING for rule in drawn.rules}
    placed = layout(drawn, widths, GAP)
    left = min(x - widths[rule] / 2 for rule, (x, _) in placed.positions.items()) - 0.05
    right = max(x + widths[rule] / 2 for rule, (x, _) in placed.positions.items()) + 0.05
    route_xs = [x for route in placed.routes.values() for x, _ in route]
    left, right = min([left, *route_xs]), max([right, *route_xs])
    rows = 1 + max(y for _, y in placed.positions.values())
    height = (rows - 1) * LAYER_HEIGHT + BOX_HEIGHT + 0.1
    with _drawing(name, right - left, height, margins=False) as drawing:
        ax = drawing.axes
        ax.set_xlim(left, right)
        ax.set_ylim(height - BOX_HEIGHT / 2 - 0.05, -BOX_HEIGHT / 2 - 0.05)
        ax.axis("off")
        for route in placed.routes.values():
            _draw_edge(ax, [(x, y * LAYER_HEIGHT) for x, y in route])
        for rule, (x, y) in placed.positions.items():
            width, middle = widths[rule], y * LAYER_HEIGHT
            ax.add_patch(
                FancyBboxPatch(
                    (x - width / 2 + 0.06, middle - BOX_HEIGHT / 2 + 0.06),
                    width - 0.12,
                    BOX_HEIGHT - 0.12,
                    boxstyle="round,pad=0.06,rounding_size=0.06",
                    facecolor="#f4f7f9",
                    edgecolor="#7b8b98",
                    linewidth=0.9,
                    zorder=3,
                )
            )
            ax.text(
                x, middle, rule, ha="center", va="center_baseline", fontsize=RULE_SIZE, zorder=4
            )
    return drawing.svg


def _draw_edge(ax: Axes, points: list[tuple[float, float]]) -> None:
    """A curve through the points that leaves and arrives upright, with a head at its end."""
    half = BOX_HEIGHT / 2
    (x0, y0), (xn, yn) = points[0], points[-1]
    stops = [(x0, y0 + half), *points[1:-1], (xn, yn - half)]
    vertices, codes = [stops[0]], [Path.MOVETO]
    for (ax_, ay), (bx, by) in itertools.pairwise(stops):
        middle = (ay + by) / 2
        vertices += [(ax_, middle), (bx, middle), (bx, by)]
        codes += [Path.CURVE4] * 3
    ax.add_patch(
        FancyArrowPatch(
            path=Path(vertices, codes),
            arrowstyle="-|>,head_length=3.2,head_width=1.8",
            color="#93a1ac",
            linewidth=0.9,
            zorder=2,
            shrinkA=0,
            shrinkB=0,
        )
    )


def _text_width(text: str, size: float) -> float:
    """Inches."""
    with matplotlib.rc_context(STYLE):
        return TextPath((0, 0), text, size=size).get_extents().width / 72


def _lying(ax: Axes) -> None:
    """Bars that lie: the first on top, lines across only."""
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


class _Drawing:
    axes: Axes
    svg: str


@contextmanager
def _drawing(name: str, width: float, height: float, margins: bool = True) -> Iterator[_Drawing]:
    """A drawing with ``axes``; in the end it has the ``svg``, whose ids begin with ``name``."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained" if margins else None)
        drawing = _Drawing()
        drawing.axes = figure.add_axes((0, 0, 1, 1)) if not margins else figure.subplots()
        yield drawing
        with io.StringIO() as out:
            figure.savefig(
                out,
                format="svg",
                transparent=True,
                metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
            )
            drawing.svg = _inline(out.getvalue(), name)


def _inline(svg: str, name: str) -> str:
    """Without what stands around the svg element, and with ids that no other figure has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    for before in ('id="', 'href="#', "url(#"):
        svg = svg.replace(before, f"{before}{name}-")
    return svg.rstrip()
