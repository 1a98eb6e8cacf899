"""manifest.json: what was delivered, out of what, and by what; and the check against it.

Nothing in it says when or where it was made: the same export gives the same manifest. What a
precision's files are is recorded by the job that delivers them, so that a file that was changed
later is reported and not taken for what was delivered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from transducer2ncnn.base import reading
from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.fingerprints import Fingerprint, difference
from transducer2ncnn.base.layout import DELIVERED
from transducer2ncnn.base.paths import is_inside

#: The libraries that an exported model depends on.
DISTRIBUTIONS = ("torch", "pnnx", "ncnn", "sherpa-ncnn")

#: The folder beside it with a record for each precision, written by the job that delivered it.
RECORDS = "delivered"


def make(
    source: dict[str, Any],
    description: dict[str, Any],
    delivered: dict[str, Fingerprint],
    model: str,
    config: dict[str, Any],
    gates: dict[str, Any],
    warnings: list[str],
) -> dict[str, Any]:
    """The manifest of one model.

    Args:
        source: where it comes from, with its files' fingerprints.
        description: what ``model.inspect`` found.
        delivered: its files for sherpa-ncnn, by their paths in its results.
        model: its name.
        config: what of the configuration it was made with.
        gates: what each precision had to reach and did, by ``gates``.
        warnings: what whoever uses it should know.
    """
    return {
        "model": model,
        # Asked for by its name: what is made of the manifest needs them.
        "source": source | {"files": source["files"]},
        **{key: value for key, value in description.items() if key != "modules"},
        "versions": {name: metadata.version(name) for name in DISTRIBUTIONS},
        "config": config,
        "gates": gates,
        "warnings": warnings,
        "delivered": dict(sorted(delivered.items())),
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
        worst: dict[str, Any] = max(found["parts"].values(), key=lambda part: part["max_error"])
        # Where rounding alone explains it, more than the tolerance is allowed.
        off = {key: worst[key] for key in ("max_error", "allowed")}
        return {"limits": {"tolerance": found["tolerance"]}} | off
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


def recorded(records: Iterable[str | Path]) -> dict[str, Fingerprint]:
    """What was delivered, by paths in the model's results.

    Args:
        records: files that the delivering jobs wrote, each named after its precision.

    Raises:
        UserError: one of them is no such record.
    """
    delivered: dict[str, Fingerprint] = {}
    for record in map(Path, records):
        files = _fingerprints(record, "files", "record of a delivery")
        delivered |= {f"{DELIVERED}/{record.stem}/{name}": x for name, x in files.items()}
    return delivered


def check_delivered(folder: str | Path, delivered: dict[str, Fingerprint]) -> None:
    """Refuse delivered files that are not what the jobs that made them recorded.

    Args:
        folder: the model's results.

    Raises:
        UserError: naming each.
    """
    changed = list(_changed(Path(folder), delivered))
    if changed:
        raise UserError(
            f"what was delivered is not what is there: {'; '.join(changed)}. Delete what differs, "
            "and run snakemake to have it made again."
        )


def differences(folder: str | Path) -> Iterator[str]:
    """What of a model's results is not as its manifest and its records say, a line each.

    Raises:
        UserError: the manifest or a record is none.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    records = sorted((folder / RECORDS).glob("*.json"))
    delivered = recorded(records)
    if path.is_file():
        stated = _fingerprints(path, "delivered", "manifest")
        for file in stated.keys() & delivered.keys():
            if stated[file] != delivered[file]:
                yield f"{path}: states another {file} than was delivered"
        delivered = stated | delivered
    else:
        yield f"{path}: not there. Run snakemake to have it made"
    yield from _changed(folder, delivered)
    for found in sorted((folder / DELIVERED).rglob("*")):
        if found.is_file() and found.relative_to(folder).as_posix() not in delivered:
            yield f"{found}: was not delivered by the workflow"


def _changed(folder: Path, delivered: dict[str, Fingerprint]) -> Iterator[str]:
    for file, stated in delivered.items():
        if (line := difference(folder / file, stated)) is not None:
            yield line


def _fingerprints(path: Path, key: str, what: str) -> dict[str, Fingerprint]:
    """Fingerprints by path, read from a file that may have been changed.

    Raises:
        UserError: they are none, or a path leads elsewhere.
    """
    try:
        found = {
            file: {"size": int(x["size"]), "sha256": str(x["sha256"])}
            for file, x in reading.read_json(path)[key].items()
        }
    except (UserError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise UserError(
            f"{path}: is no {what} that this workflow wrote. {reading.REMAKE}"
        ) from None
    for file in found:
        if not is_inside(file):
            raise UserError(f"{path}: refused, for it names the file {shown(file)!r}.")
    return found
