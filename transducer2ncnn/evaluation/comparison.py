"""The table of an evaluation: what each precision costs and gains, a row each."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from transducer2ncnn.base.files import replacing
from transducer2ncnn.evaluation.units import NAMES, Unit

#: What a terminal has no room for.
HIDDEN = {
    *("substitutions", "deletions", "insertions", "SER %"),
    *("above PyTorch", "its 95 % interval"),
}


def rows(scores: list[dict[str, Any]], speed: dict[str, Any]) -> list[dict[str, str]]:
    """A row for PyTorch and one for each precision; figures of speed are medians.

    The error rate's column is called after what is counted: WER, CER or MER.

    Args:
        scores: what was found for each precision; one at least.
        speed: what was measured.
    """
    reference, unit = scores[0]["pytorch"], scores[0]["unit"]
    measures = ("above PyTorch", "its 95 % interval", "same tokens %", "RTF")
    empty = dict.fromkeys((*measures, "first token s", "memory MB", "disk MB"), "")
    table = [{"system": "PyTorch fp32"} | _accuracy(reference, unit) | empty]
    for score in scores:
        rise, measured = score["rise"], speed["precisions"][score["precision"]]
        latency = measured["first_token_latency"]
        table.append(
            {"system": score["precision"]}
            | _accuracy(score, unit)
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
        writer = csv.DictWriter(f, list(table[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def read(path: str | Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f, delimiter="\t"))


def verdict(comparison: dict[str, Any]) -> str | None:
    """What of the differences between systems is more than chance, in a sentence; None where
    nothing was compared.

    Args:
        comparison: comparison.json.
    """
    if not comparison["pairs"]:
        return None
    clear = [
        f"{pair['b']} is {100 * pair['difference']:+.2f} points from {_shown(pair['a'])}"
        for pair in comparison["pairs"]
        if pair["significant"]
    ]
    if clear:
        return f"More than chance: {'; '.join(clear)}."
    return "Differences between the error rates of PyTorch and of the precisions are within chance."


def _shown(system: str) -> str:
    return "PyTorch" if system == "pytorch" else system


def _accuracy(rates: dict[str, Any], unit: Unit) -> dict[str, str]:
    """A system's "wer", "cer" and "ser" as cells."""
    found = rates["wer"]
    by_unit = {
        f"{NAMES[unit].short} %": f"{100 * found['rate']:.2f}",
        "95 % interval": f"{100 * found['low']:.2f} to {100 * found['high']:.2f}",
        "substitutions": str(found["substitutions"]),
        "deletions": str(found["deletions"]),
        "insertions": str(found["insertions"]),
    }
    # Where characters are what is counted, it is the same column.
    by_character = {"CER %": f"{100 * rates['cer']['rate']:.2f}"}
    return by_unit | by_character | {"SER %": f"{100 * rates['ser']['rate']:.2f}"}
