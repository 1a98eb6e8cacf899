"""A line of a manifest as it stands, whatever the format."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from transducer2ncnn.base.errors import UserError

#: How many times its size a compressed manifest may have when unpacked; cuts have 10 to 30 times.
MAX_UNPACKED = 100


@dataclass(frozen=True)
class Entry:
    where: str
    id: str
    wav: Path
    text: str
    start: float = 0.0
    #: None: to the recording's end.
    duration: float | None = None
    channel: int | None = None
    #: Hz that the recording is to be resampled to, one after the other.
    rates: tuple[int, ...] = ()


#: What stands in a manifest, or what is wrong with a line of it.
Entries = Iterator[Entry | str]

#: From a path in a manifest to where it leads.
Find = Callable[[str], Path]


def read_text(path: Path) -> str:
    """A manifest's file, unpacked if need be, without a byte order mark.

    Raises:
        UserError: the file is missing, cannot be read, or is no UTF-8.
    """
    try:
        content = _unpacked(path) if path.suffix == ".gz" else path.read_bytes()
        return content.decode("utf-8-sig")
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
