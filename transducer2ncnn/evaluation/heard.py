"""What a system made of each utterance, as it is kept in files between decoding and scoring."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from transducer2ncnn.base import files, reading


@dataclass(frozen=True)
class Heard:
    """What a system makes of an utterance."""

    #: Symbols of tokens.txt.
    tokens: list[str]
    text: str


@dataclass(frozen=True)
class _Row(Heard):
    """The same in a file."""

    id: str


def write(path: str | Path, heard: Mapping[str, Heard]) -> None:
    """A shard's utterances by id, in their order."""
    lines = (
        json.dumps({"id": id_} | asdict(one), ensure_ascii=False) + "\n"
        for id_, one in heard.items()
    )
    files.write_text(path, "".join(lines))


def read(paths: Iterable[str | Path]) -> dict[str, Heard]:
    """What was recognised in each utterance by its id, out of all shards.

    Raises:
        UserError: a file is missing or is not as ``write`` writes it.
    """
    rows = (row for path in paths for row in reading.read_rows(path, _Row))
    return {row.id: Heard(row.tokens, row.text) for row in rows}
