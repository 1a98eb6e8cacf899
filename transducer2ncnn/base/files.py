"""Writing files so that none is ever left half-written under its own name."""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transducer2ncnn.base.errors import UserError

PREFIX = ".partial-"
#: A file in such a folder, locked for as long as the process that writes there lives.
LOCK = ".lock"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; what is written there becomes ``path`` if nothing raises."""
    path = Path(path)
    # In a folder of its own it can have its final name, which some formats write into the file.
    with scratch(path.parent) as folder:
        partial = folder / path.name
        yield partial
        partial.replace(path)


@contextmanager
def scratch(parent: str | Path) -> Iterator[Path]:
    """Yield a folder in ``parent`` for what is in the making.

    It is removed in the end, and what writers that were killed left behind there as well.
    """
    parent = Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    with tempfile.TemporaryDirectory(dir=parent, prefix=PREFIX) as folder, _held(Path(folder)):
        yield Path(folder)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder's lock."""
    unlocked = folder / f"{LOCK}-to-be"
    with unlocked.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # the file system has no locks; without one, nobody removes the folder
            pass
        else:
            # Only now, so that nobody finds it before it is locked.
            unlocked.rename(folder / LOCK)
        yield


def _remove_abandoned(parent: Path) -> None:
    for lock in parent.glob(f"{PREFIX}*/{LOCK}"):
        try:
            with lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:  # its writer lives, or has just removed it
            continue


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write JSON as every reader takes it.

    Raises:
        UserError: a number in it is NaN or infinite, which JSON has no word for.
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError:
        raise UserError(
            f"{path}: not written, for one of its figures would be NaN or infinite: what it "
            "describes is broken."
        ) from None
    write_text(path, text + "\n")
