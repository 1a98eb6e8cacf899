"""What a report is made of: the artifacts of one model, read from their files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transducer2ncnn.base import reading
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.report.rule_graph import RuleGraph

Json = dict[str, Any]


@dataclass(frozen=True)
class Artifacts:
    """Contents of files; None or empty where the configuration does not ask for them."""

    model: str
    #: model.json
    description: Json
    rule_graph: RuleGraph
    #: By precision, in the order of the configuration, which is the reader's.
    verification: dict[str, Json]
    manifest: Json | None = None
    #: verification/headroom.json
    headroom: Json | None = None
    #: verification/target-<cpu>.json, by processor.
    targets: dict[str, Json] = field(default_factory=dict)
    #: By precision; of those that are quantized.
    quantization: dict[str, Json] = field(default_factory=dict)
    #: search/<precision>.json; of those whose recipe was searched.
    searches: dict[str, Json] = field(default_factory=dict)
    #: By precision.
    evaluation: dict[str, Json] = field(default_factory=dict)
    comparison: Json | None = None
    speed: Json | None = None
    #: The evaluated recordings by id.
    recordings: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class _Recording:
    """What the report shows of a line of the evaluation's manifest."""

    id: str
    wav: str
    start: float
    duration: float


def by_precision(paths: Iterable[str | Path]) -> dict[str, Json]:
    """Files named after precisions, in their order."""
    return {Path(path).name.removesuffix(".json"): reading.read_json(path) for path in paths}


def by_processor(paths: Iterable[str | Path]) -> dict[str, Json]:
    """Files of what was found on emulated processors, by their names."""
    return {name.removeprefix("target-"): x for name, x in by_precision(paths).items()}


def read_recordings(path: str | Path) -> dict[str, Json]:
    """The lines of the evaluation's manifest.jsonl by id.

    Raises:
        UserError: the file is missing or a line of it is no recording.
    """
    return {row.id: vars(row) for row in reading.read_rows(path, _Recording)}


def read_rule_graph(path: str | Path) -> RuleGraph:
    """
    Raises:
        UserError: the file is missing or is no graph of rules.
    """
    found = reading.read_json(path)
    try:
        return RuleGraph(tuple(found["rules"]), tuple((a, b) for a, b in found["edges"]))
    except (TypeError, ValueError) as e:
        raise UserError(f"{path}: is no graph of rules ({e}). {reading.REMAKE}") from None
