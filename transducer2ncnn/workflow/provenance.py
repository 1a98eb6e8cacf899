"""manifest.json: what was delivered, out of what, and by what; and the check against it.

Nothing in it says when or where it was made: the same export gives the same manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from transducer2ncnn.base import reading
from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.paths import is_file, is_inside

#: The libraries that an exported model depends on.
DISTRIBUTIONS = ("torch", "pnnx", "ncnn", "sherpa-ncnn")

#: The folder in a model's results whose files are delivered.
DELIVERED = "sherpa-ncnn"


def fingerprint(path: str | Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256")
        return {"size": f.tell(), "sha256": digest.hexdigest()}


def make(
    source: dict[str, Any],
    description: dict[str, Any],
    delivered: Iterable[str | Path],
    folder: str | Path,
    config: dict[str, Any],
    gates: dict[str, Any],
    warnings: list[str],
) -> dict[str, Any]:
    """The manifest of one model.

    Args:
        source: where it comes from, with its files' fingerprints.
        description: what ``model.describe`` found.
        delivered: its files for sherpa-ncnn, below ``folder``.
        folder: its results; its name is the model's.
        config: what of the configuration it was made with.
        gates: what each precision had to reach and did, by ``gates``.
        warnings: what whoever uses it should know.
    """
    return {
        "model": Path(folder).name,
        "source": source,
        **{key: value for key, value in description.items() if key != "modules"},
        "versions": {name: metadata.version(name) for name in DISTRIBUTIONS},
        "config": config,
        "gates": gates,
        "warnings": warnings,
        "delivered": {
            Path(file).relative_to(folder).as_posix(): fingerprint(file)
            for file in sorted(map(str, delivered))
        },
    }


def gates(
    verification: dict[str, dict[str, Any]],
    evaluation: dict[str, dict[str, Any]],
    max_rise: dict[str, float],
) -> dict[str, Any]:
    """What each precision had to reach to be delivered, and what it reached.

    Args:
        verification, evaluation: <precision>.json by precision; of the latter not all have one.
        max_rise: limits of the evaluation, by precision, in percentage points.
    """
    return {
        precision: {
            "verification": _verified(found),
            "evaluation": _evaluated(evaluation[precision], max_rise.get(precision))
            if precision in evaluation
            else None,
        }
        for precision, found in verification.items()
    }


def _verified(found: dict[str, Any]) -> dict[str, Any]:
    if "tolerance" in found:
        largest = max(part["max_error"] for part in found["parts"].values())
        return {"limits": {"tolerance": found["tolerance"]}, "max_error": largest}
    reached = ("token_edit_rate", "fp32_tokens", "proves_nothing")
    agreement = {"agreement": found["all"]["agreement"]}
    return {"limits": found["limits"]} | agreement | {key: found[key] for key in reached}


def _evaluated(score: dict[str, Any], max_rise: float | None) -> dict[str, Any]:
    return {
        "limits": {"max_rise": max_rise},
        "unit": score["unit"],
        "rate": score["wer"]["rate"],
        "pytorch_rate": score["pytorch"]["wer"]["rate"],
        # As the limit is stated.
        "rise": 100 * score["rise"]["rate"],
        "outcome": "not limited" if max_rise is None else "passed",
    }


def differences(folder: str | Path) -> Iterator[str]:
    """What of a model's results is not as its manifest says, a line each.

    Raises:
        UserError: there is no manifest, or it is none.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(f"{path}: not there. Export the model to get it.")
    try:
        delivered = reading.read_json(path)["delivered"]
        stated = {file: (int(x["size"]), str(x["sha256"])) for file, x in delivered.items()}
    except (UserError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise UserError(f"{path}: is no manifest that this workflow wrote.") from None
    for file, (size, sha256) in stated.items():
        if not is_inside(file):
            raise UserError(f"{path}: refused, for it names the file {shown(file)!r}.")
        if not is_file(folder / file):
            yield f"{folder / file}: is missing"
            continue
        found = fingerprint(folder / file)
        if found["size"] != size:
            yield f"{folder / file}: has {found['size']:,} bytes, {size:,} were delivered"
        elif found["sha256"] != sha256:
            yield f"{folder / file}: was changed; its SHA-256 is {found['sha256']}, not {sha256}"
    for file in sorted((folder / DELIVERED).rglob("*")):
        if file.is_file() and file.relative_to(folder).as_posix() not in stated:
            yield f"{file}: was not delivered by the workflow"
