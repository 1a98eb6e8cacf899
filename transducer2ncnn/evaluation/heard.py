"""What a system made of each utterance, as it is kept in files between decoding and scoring."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from transducer2ncnn.base import files


@dataclass(frozen=True)
class Heard:
    """What a system makes of an utterance."""

    #: Symbols of tokens.txt.
    tokens: list[str]
    text: str


def write(path: str | Path, heard: Mapping[str, Heard]) -> None:
    """A shard's utterances by id, in their order."""
    lines = (
        json.dumps({"id": id_} | asdict(one), ensure_ascii=False) + "\n"
        for id_, one in heard.items()
    )
    files.write_text(path, "".join(lines))


def read(paths: Iterable[str | Path]) -> dict[str, Heard]:
    """What was recognised in each utterance by its id, out of all shards."""
    found: dict[str, Heard] = {}
    for path in paths:
        with open(path, encoding="utf-8") as f:
            for line in f:
                row = json.loads(line)
                found[row["id"]] = Heard(row["tokens"], row["text"])
    return found
