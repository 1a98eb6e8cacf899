"""Manifests: recordings with their transcripts, in the formats that icefall's users have at hand.

- a TSV with the columns ``wav``, ``text`` and, if wanted, ``id``;
- lhotse cuts, ``.jsonl`` or ``.jsonl.gz``: a MonoCut a line, with recording and supervisions;
- a Kaldi folder with ``wav.scp``, ``text`` and, if there is one, ``segments``.

A path that is not absolute is looked for beside the manifest, and then from the working directory.
Recordings are not opened here.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.paths import is_file, is_folder
from transducer2ncnn.base.reading import parse_json

KALDI_FILES = ("wav.scp", "text")

#: How many times its size a compressed manifest may have when unpacked; cuts have 10 to 30 times.
MAX_UNPACKED = 100


@dataclass(frozen=True)
class Entry:
    """A line of a manifest as it stands."""

    where: str
    id: str
    wav: Path
    text: str
    start: float = 0.0
    #: None: to the recording's end.
    duration: float | None = None
    channel: int | None = None


#: What stands in a manifest, or what is wrong with a line of it.
Entries = Iterator[Entry | str]


def files(manifest: str | Path) -> list[str]:
    """The files that a manifest consists of and the recordings that it names, if they exist.

    What is wrong with the manifest is for ``entries`` to say.
    """
    manifest = Path(manifest)
    parts = [manifest]
    if is_folder(manifest):
        parts = [manifest / name for name in (*KALDI_FILES, "segments")]
    try:
        wavs = [entry.wav for entry in entries(manifest) if isinstance(entry, Entry)]
    except UserError:
        wavs = []
    return [str(f) for f in dict.fromkeys([*parts, *wavs]) if is_file(f)]


def read_table(path: str | Path) -> list[tuple[int, dict[str, Any]]]:
    """The rows of a tab-separated table with the columns ``wav`` and ``text``, by line number.

    Raises:
        UserError: the file is missing or has other columns.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as f:
            reader = csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read as a table of transcripts ({e}).") from None
    if not rows or not {"wav", "text"} <= rows[0][1].keys():
        raise UserError(
            f"{path}: expected a tab-separated table with the columns wav and text in its first "
            "line, and a recording a line below."
        )
    return rows


def kind(manifest: str | Path) -> str:
    """ "kaldi", "lhotse" or "table".

    Raises:
        UserError: it is none of them.
    """
    path = Path(manifest)
    if is_folder(path):
        missing = [name for name in KALDI_FILES if not (path / name).is_file()]
        if missing:
            raise UserError(f"{path}: is a folder, but not Kaldi's: no {' and no '.join(missing)}")
        return "kaldi"
    if not is_file(path):
        raise UserError(f"there is no file or folder {str(path)!r} (looked for from {Path.cwd()})")
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return "lhotse"
    if path.suffix == ".tsv":
        return "table"
    raise UserError(
        f"{path}: expected a table (.tsv), lhotse cuts (.jsonl or .jsonl.gz), or a Kaldi folder"
    )


def entries(manifest: str | Path) -> Entries:
    """
    Raises:
        UserError: the manifest as a whole cannot be read.
    """
    readers: dict[str, Callable[[Path], Entries]] = {
        "kaldi": _kaldi,
        "lhotse": _lhotse,
        "table": _table,
    }
    found = readers[kind(manifest)](Path(manifest))
    return (_checked(entry) if isinstance(entry, Entry) else entry for entry in found)


def _checked(entry: Entry) -> Entry | str:
    """The entry, or what is wrong with it whatever the format."""
    if not all(isinstance(value, str) for value in (entry.id, entry.text)):
        return f"{entry.where}: its id and its text are not both text"
    try:
        f"{entry.id}{entry.text}{entry.wav}".encode()
    except UnicodeEncodeError:
        return f"{entry.where}: holds characters that no text can hold"
    if not math.isfinite(entry.start) or not math.isfinite(entry.duration or 0):
        return f"{entry.where}: its start and its duration are not both numbers"
    return entry


def _table(path: Path) -> Entries:
    for line, row in read_table(path):
        where = f"line {line}"
        if None in row:
            yield f"{where}: has more columns than the table's first line"
        elif not row["wav"]:
            yield f"{where}: names no wav"
        else:
            wav = row["wav"]
            yield Entry(where, row.get("id") or wav, _find(wav, path), row["text"] or "")


def _lhotse(path: Path) -> Entries:
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            yield _cut(where, _json(line), path)
        except UserError as e:
            yield f"{where}: {e}"
        except KeyError as e:
            yield f"{where}: is not a MonoCut with its recording: it has no {e.args[0]!r}"
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as e:
            yield f"{where}: is not a MonoCut with its recording ({e})"


def _json(line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as e:
        raise UserError(f"is not JSON ({e})") from None


def _cut(where: str, cut: dict[str, Any], path: Path) -> Entry:
    if cut.get("type", "MonoCut") != "MonoCut":
        raise UserError(f"is a {cut['type']}; only a MonoCut can be read")
    if cut.get("recording") is None:
        raise UserError("has no recording (a cut of features alone cannot be decoded)")
    recording, channel = cut["recording"], cut["channel"]
    if recording.get("transforms"):
        raise UserError("its recording is to be transformed; store what comes out of that")
    sources = [source for source in recording["sources"] if channel in source["channels"]]
    if not sources:
        raise UserError(f"its recording has no source with channel {channel}")
    if sources[0]["type"] != "file":
        raise UserError(f"its recording comes from a {sources[0]['type']}; expected a file")
    supervisions = sorted(cut["supervisions"], key=lambda s: s["start"])
    return Entry(
        where,
        cut["id"],
        _find(sources[0]["source"], path),
        " ".join(s.get("text") or "" for s in supervisions),
        float(cut["start"]),
        float(cut["duration"]),
        sources[0]["channels"].index(channel),
    )


def _kaldi(folder: Path) -> Entries:
    recordings, texts = _Keyed(folder / "wav.scp"), _Keyed(folder / "text")
    segments = _Keyed(folder / "segments") if (folder / "segments").is_file() else None
    for table in (recordings, texts, *([segments] if segments else [])):
        yield from table.wrong
    commands = [id_ for id_, (_, wav) in recordings.lines.items() if wav.endswith("|")]
    for id_ in commands:
        where, _ = recordings.lines[id_]
        yield f"{where}: {id_!r} is a command; run it, and name the file that it makes"
    utterances = (
        segments.lines if segments else {r: (w, r) for r, (w, _) in recordings.lines.items()}
    )
    for id_, (where, segment) in utterances.items():
        try:
            recording, start, end = _segment(segment) if segments else (segment, 0.0, -1.0)
        except ValueError:
            yield f"{where}: expected '<utterance> <recording> <start> <end>'"
            continue
        if recording not in recordings.lines:
            yield f"{where}: recording {recording!r} is not in wav.scp"
        elif recording not in commands:
            _, wav = recordings.lines[recording]
            _, text = texts.lines.get(id_, ("", ""))
            # Kaldi writes -1 where it means the recording's end.
            duration = None if end == -1 else end - start
            yield Entry(where, id_, _find(wav, folder / "wav.scp"), text, start, duration)
    for id_, (where, _) in texts.lines.items():
        if id_ not in utterances:
            yield f"{where}: {id_!r} has no recording"


def _segment(text: str) -> tuple[str, float, float]:
    """Recording, start and end; ValueError if it is not these."""
    recording, start, end = text.split()
    return recording, float(start), float(end)


class _Keyed:
    """A file of Kaldi's: a key and what stands behind it in every line."""

    def __init__(self, path: Path) -> None:
        #: Where a key was found, and the rest of its line.
        self.lines: dict[str, tuple[str, str]] = {}
        self.wrong: list[str] = []
        for number, line in enumerate(_text(path).splitlines(), start=1):
            where = f"{path.name}, line {number}"
            if not line.strip():
                continue
            key, *rest = line.split(maxsplit=1)
            if key in self.lines:
                self.wrong.append(f"{where}: {key!r} was given before, in {self.lines[key][0]}")
            else:
                self.lines[key] = (where, rest[0].strip() if rest else "")


def _text(path: Path) -> str:
    try:
        return (_unpacked(path) if path.suffix == ".gz" else path.read_bytes()).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read ({e}).") from None


def _unpacked(path: Path) -> bytes:
    """What a gzip file holds, unless that is far more than text would be."""
    limit = MAX_UNPACKED * path.stat().st_size + 1_000_000
    with gzip.open(path) as f:
        content = f.read(limit + 1)
    if len(content) > limit:
        raise UserError(
            f"{path}: refused, for it is more than {MAX_UNPACKED} times as large when unpacked, "
            "which cuts never are, and could fill the memory. Unpack it, and name the .jsonl file."
        )
    return content


def _find(wav: str, manifest: Path) -> Path:
    beside = manifest.parent / wav
    return Path(wav) if not is_file(beside) and is_file(wav) else beside
