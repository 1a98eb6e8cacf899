"""Paths that come from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

#: A name that becomes a folder's name below results/, and cannot lead out of there. File systems
#: take 255 bytes, of which the names of logs and reports need some.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

#: Bytes of a file's name in a repository: its log's has some more.
MAX_NAME = 240


def is_file(path: str | Path) -> bool:
    """Whether there is a file; there is none of a name that no file can have."""
    try:
        return Path(path).is_file()
    except OSError:  # too long, or in a folder that may not be looked into
        return False


def is_folder(path: str | Path) -> bool:
    """The same of a folder."""
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def is_inside(path: str) -> bool:
    """Whether a relative path with forward slashes is one, and stays in the folder it is put in."""
    return path.isprintable() and all(name not in ("", ".", "..") for name in path.split("/"))
