"""Manifests: recordings with their transcripts, in the formats that icefall's users have at hand.

- a TSV with the columns ``wav``, ``text`` and, if wanted, ``id``;
- lhotse cuts, ``.jsonl`` or ``.jsonl.gz``: a MonoCut a line, with recording and supervisions;
- a Kaldi folder with ``wav.scp``, ``text`` and, if there is one, ``segments``.

A path that is not absolute is looked for below the corpus's root if one is given, beside the
manifest, and from the working directory.
Recordings are not opened here.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.paths import is_file, is_folder
from transducer2ncnn.speech import kaldi, lhotse
from transducer2ncnn.speech.entry import Entries, Entry, Find


def files(manifest: str | Path, root: str | Path | None = None) -> list[str]:
    """The files that a manifest consists of and the recordings that it names, if they exist.

    What is wrong with the manifest is said where it is checked.

    Args:
        root: where the corpus is, which relative paths lead from.
    """
    manifest = Path(manifest)
    parts = [manifest]
    if is_folder(manifest):
        parts = [manifest / name for name in (*kaldi.FILES, "segments")]
    try:
        wavs = [entry.wav for entry in entries(manifest, root) if isinstance(entry, Entry)]
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
        missing = [name for name in kaldi.FILES if not (path / name).is_file()]
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


def entries(manifest: str | Path, root: str | Path | None = None) -> Entries:
    """
    Args:
        root: where the corpus is, which relative paths lead from.

    Raises:
        UserError: the manifest as a whole cannot be read.
    """
    path = Path(manifest)

    def find(wav: str) -> Path:
        folders = [*([Path(root)] if root else []), path if is_folder(path) else path.parent]
        found = (folder / wav for folder in (*folders, Path()) if is_file(folder / wav))
        return next(found, folders[0] / wav)

    readers: dict[str, Callable[[Path, Find], Entries]] = {
        "kaldi": kaldi.entries,
        "lhotse": lhotse.entries,
        "table": _table,
    }
    found = readers[kind(manifest)](path, find)
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
    if (entry.channel or 0) < 0:
        return f"{entry.where}: there is no channel {entry.channel}"
    return entry


def _table(path: Path, find: Find) -> Entries:
    for line, row in read_table(path):
        where = f"line {line}"
        if None in row:
            yield f"{where}: has more columns than the table's first line"
        elif not row["wav"]:
            yield f"{where}: names no wav"
        else:
            wav = row["wav"]
            yield Entry(where, row.get("id") or wav, find(wav), row["text"] or "")
