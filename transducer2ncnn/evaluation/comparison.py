"""The table of an evaluation: what each precision costs and gains, a row each."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from transducer2ncnn.base.files import replacing

COLUMNS = [
    "system",
    "WER %",
    "95 % interval",
    "substitutions",
    "deletions",
    "insertions",
    "SER %",
    "above PyTorch",
    "its 95 % interval",
    "same tokens %",
    "RTF",
    "first token s",
    "memory MB",
    "disk MB",
]
#: Those that fit a terminal.
SHOWN = [x for x in COLUMNS if x not in {*COLUMNS[3:9]}]


def rows(scores: list[dict[str, Any]], speed: dict[str, Any]) -> list[dict[str, str]]:
    """A row for PyTorch and one for each precision; figures of speed are medians.

    Args:
        scores: what was found for each precision; one at least.
        speed: what was measured.
    """
    reference = scores[0]["pytorch"]
    table = [{"system": "PyTorch fp32"} | _accuracy(reference["wer"], reference["ser"])]
    for score in scores:
        rise, measured = score["rise"], speed["precisions"][score["precision"]]
        latency = measured["first_token_latency"]
        table.append(
            {"system": score["precision"]}
            | _accuracy(score["wer"], score["ser"])
            | {
                "above PyTorch": f"{100 * rise['rate']:+.2f}",
                "its 95 % interval": f"{100 * rise['low']:+.2f} to {100 * rise['high']:+.2f}",
                "same tokens %": f"{100 * score['agreement']['rate']:.2f}",
                "RTF": f"{measured['real_time_factor']['median']:.3f}",
                "first token s": f"{latency['median']:.2f}" if latency else "",
                "memory MB": f"{measured['peak_memory_mb']['median']:.0f}",
                "disk MB": f"{measured['bytes'] / 1e6:.1f}",
            }
        )
    return table


def write(path: str | Path, table: list[dict[str, str]]) -> None:
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def read(path: str | Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f, delimiter="\t"))


def verdict(comparison: dict[str, Any]) -> str:
    """What of the differences between precisions is more than chance, in a sentence.

    Args:
        comparison: comparison.json.
    """
    clear = [
        f"{pair['b']} is {100 * pair['difference']:+.2f} points from {pair['a']}"
        for pair in comparison["pairs"]
        if pair["significant"]
    ]
    if clear:
        return f"More than chance: {'; '.join(clear)}."
    return "Differences between the precisions' word error rates are within chance."


def _accuracy(wer: dict[str, Any], ser: dict[str, Any]) -> dict[str, str]:
    return {
        "WER %": f"{100 * wer['rate']:.2f}",
        "95 % interval": f"{100 * wer['low']:.2f} to {100 * wer['high']:.2f}",
        "substitutions": str(wer["substitutions"]),
        "deletions": str(wer["deletions"]),
        "insertions": str(wer["insertions"]),
        "SER %": f"{100 * ser['rate']:.2f}",
    }
