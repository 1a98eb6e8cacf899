"""A repository on the Hub as the Hub states it: its commit, and its files with size and hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from transducer2ncnn.base.errors import UserError, some


@dataclass(frozen=True)
class HubFile:
    """A file of a repository, as the Hub states it.

    Attributes:
        hash: SHA-256 of a large file, 64 digits; Git's blob id of any other, 40 digits.
    """

    path: str
    size: int
    hash: str


@dataclass(frozen=True)
class Snapshot:
    """A repository at a commit."""

    repo_id: str
    revision: str
    commit: str
    files: tuple[HubFile, ...]

    def file(self, path: str, key: str) -> HubFile:
        """One file by its path.

        Args:
            key: the key of the configuration that names it, for the message.

        Raises:
            UserError: it is not there; with those that are like it.
        """
        for file in self.files:
            if file.path == path:
                return file
        raise self._missing(path, key)

    def matching(self, patterns: list[str], key: str) -> list[HubFile]:
        """The files that match one of the patterns, sorted by path; `*` stays within a folder.

        Raises:
            UserError: a pattern matches none.
        """
        found: dict[str, HubFile] = {}
        for pattern in patterns:
            matching = [file for file in self.files if _matches(file.path, pattern)]
            if not matching:
                raise self._missing(pattern, key)
            found.update((file.path, file) for file in matching)
        return [found[path] for path in sorted(found)]

    def _missing(self, path: str, key: str) -> UserError:
        suffix = path.rsplit(".", 1)[-1]
        alike = [file.path for file in self.files if file.path.endswith(f".{suffix}")]
        there = alike or [file.path for file in self.files]
        return UserError(
            f"{key}: {self.repo_id} has no {path!r} at {self.revision} (commit {self.commit}). "
            f"There: {some(there, 8) or 'no files'}."
        )


def _matches(path: str, pattern: str) -> bool:
    names, parts = path.split("/"), pattern.split("/")
    return path == pattern or (len(names) == len(parts) and all(map(fnmatchcase, names, parts)))


def is_whole(path: Path, file: HubFile) -> bool:
    """Whether a file is here as the Hub states it."""
    return path.is_file() and path.stat().st_size == file.size and hash_of(path, file) == file.hash


def hash_of(path: Path, file: HubFile) -> str:
    """The hash of a file that is here, of the kind that the Hub states of it."""
    with open(path, "rb") as f:
        if len(file.hash) == 64:
            return hashlib.file_digest(f, "sha256").hexdigest()
        header = f"blob {path.stat().st_size}\0".encode()
        blob = hashlib.sha1(header, usedforsecurity=False)
        return hashlib.file_digest(f, lambda: blob).hexdigest()
