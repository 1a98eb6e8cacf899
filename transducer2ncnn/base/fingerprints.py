"""Fingerprints of files: what tells whether a file is still what it was."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transducer2ncnn.base.paths import is_file

#: Size in bytes ("size") and SHA-256 ("sha256").
Fingerprint = dict[str, Any]


def fingerprint(path: str | Path) -> Fingerprint:
    """Size in bytes and SHA-256 of a file."""
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256")
        return {"size": f.tell(), "sha256": digest.hexdigest()}


def difference(path: str | Path, stated: Mapping[str, Any]) -> str | None:
    """How a file is not what its fingerprint states, as a line; None if it is."""
    if not is_file(path):
        return f"{path}: is missing"
    found = fingerprint(path)
    if found["size"] != stated["size"]:
        return f"{path}: has {found['size']:,} bytes, {stated['size']:,} were delivered"
    if found["sha256"] != stated["sha256"]:
        return f"{path}: was changed; its SHA-256 is {found['sha256']}, not {stated['sha256']}"
    return None
