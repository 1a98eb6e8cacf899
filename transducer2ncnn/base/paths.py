"""Paths that come from elsewhere."""

import re

#: A name that becomes a folder's name below results/, and cannot lead out of there.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_inside(path: str) -> bool:
    """Whether a relative path with forward slashes is one, and stays in the folder it is put in."""
    return path.isprintable() and all(name not in ("", ".", "..") for name in path.split("/"))
