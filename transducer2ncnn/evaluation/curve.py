"""What a search for a recipe found, as it is kept: the curve, the recipe, and both for people."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from transducer2ncnn.base.layout import PARTS, Files
from transducer2ncnn.evaluation import automatic
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.quantization.front import Point
from transducer2ncnn.quantization.groups import Group, plain_size, selectors
from transducer2ncnn.quantization.layer_formats import Fp16
from transducer2ncnn.quantization.recipes import Part

#: The recipe that the configuration to copy starts from, and states every layer's format besides.
STARTS_FROM = "int8"

#: What of a measured point is in the table.
MEASURED = (
    "emitting_frames",
    "differing_frames",
    "agreement",
    "divergence",
    "mean_square",
    "encoder_snr_db",
    "token_edits",
    "rise",
)


def describe(
    fp32: Files,
    groups: Sequence[Group],
    points: Sequence[Point],
    times: Sequence[Mapping[str, float]] | None,
    chosen: int,
    measured: Mapping[int, dict[str, Any]],
) -> dict[str, Any]:
    """The curve and the recipe, for JSON.

    Args:
        times: seconds for a second of audio of each group's formats, where they were measured.
        chosen, measured: what ``automatic.search`` found.

    Returns:
        "points", from the cheapest to the most exact: the "bytes" of the three bins, the "seconds"
        of the layers that are searched or None, the "error" that is predicted, the mean square by
        which logits are off, the "change" from the point before in words, the "formats" of layers
        by part and selector, and what was "measured" or None. "chosen", the number of one.
        "recipe", how each part is stored then.
    """
    graphs = {part: param_file.read(fp32[part][0]) for part in PARTS}
    layers = {part: [(x.name, x.type) for x in graph.layers] for part, graph in graphs.items()}
    others = plain_size(fp32) - sum(group.sizes[Fp16.NAME] for group in groups)

    def stated(point: Point) -> dict[str, dict[str, str]]:
        by_part = automatic.formats(groups, point)
        return {part: selectors(layers[part], by_part.get(part, {})) for part in PARTS}

    rows = []
    for i, (before, point) in enumerate(itertools.pairwise([None, *points])):
        assert point is not None
        own = list(zip(groups, point.formats, strict=True))
        rows.append(
            {
                "bytes": others + sum(group.sizes[format_] for group, format_ in own),
                "seconds": None
                if times is None
                else sum(x[format_] for x, format_ in zip(times, point.formats, strict=True)),
                "error": point.error,
                "change": _change(groups, before, point),
                "formats": stated(point),
                "measured": measured.get(i),
            }
        )
    recipe = {part: asdict(Part({}, x)) for part, x in stated(points[chosen]).items()}
    return {"points": rows, "chosen": chosen, "recipe": recipe}


def _change(groups: Sequence[Group], before: Point | None, after: Point) -> str:
    if before is None:
        return "the cheapest of all"
    return "; ".join(
        f"{group.name}: {a} to {b}"
        for group, a, b in zip(groups, before.formats, after.formats, strict=True)
        if a != b
    )


def table(found: Mapping[str, Any]) -> str:
    """The curve as a TSV, a point a line; what was not measured is empty."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(
        ["point", "chosen", "bytes", "seconds", "predicted_mean_square", *MEASURED, "change"]
    )
    for i, x in enumerate(found["points"]):
        measured = x["measured"] or dict.fromkeys(MEASURED)
        writer.writerow(
            [
                i + 1,
                "yes" if i == found["chosen"] else "",
                x["bytes"],
                x["seconds"],
                f"{x['error']:.6g}",
                *(measured[key] for key in MEASURED),
                x["change"],
            ]
        )
    return out.getvalue()


def configuration(precision: str, found: Mapping[str, Any]) -> str:
    """The recipe as YAML, to be copied into a configuration in place of ``auto``."""
    point = found["points"][found["chosen"]]
    measured = point["measured"]
    lines = [
        f"# Found by precisions.{precision}.auto: {point['bytes']:,} bytes in the three bins; "
        f"{measured['differing_frames']} of",
        f"# {measured['emitting_frames']:,} frames in which one emits a token differ from fp32.",
        "precisions:",
        f"  {json.dumps(precision)}:",
        f"    recipe: {STARTS_FROM}",
    ]
    for part, stated in point["formats"].items():
        lines.append(f"    {part}:" if stated else f"    {part}: {{}}")
        lines += [f"      {json.dumps(selector)}: {name}" for selector, name in stated.items()]
    return "\n".join(lines) + "\n"
