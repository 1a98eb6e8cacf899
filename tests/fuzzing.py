"""Damaging files at random, and seeing that every reader reads them or says what is wrong.

The same code as in ``benchmarks/fuzz.py``, which tries far more. What is tried follows from a
number alone, so that a failure can be had again.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import resource
import shutil
import struct
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transducer2ncnn.base.errors import UserError

#: Contents of files by name.
Files = dict[str, bytes]

#: Beyond what the process has, while a reader runs; what asks for more fails.
EXTRA_MEMORY = 1_500_000_000
#: Megabytes by which all attempts together may grow the process.
MAX_GROWTH = 400
#: Seconds for one file, on a busy machine.
MAX_SECONDS = 20.0

NUMBERS = (
    *("0", "-1", "1", "-0", "2147483647", "2147483648", "-2147483648", "4294967296", "1e400"),
    *("9223372036854775807", "-9223372036854775809", "nan", "inf", "-inf", "1e-400", "1e38"),
    *("9" * 5000, "-" + "9" * 400, "0x10", "1_0", "1.5", "", "٣", "1e999999999", "true", "null"),
)
WORDS = (
    *("", " ", "\t", "\n", "\r", "\0", "\ufeff", "\u2028", "=", "/", "..", "../../evil", "/", "%s"),
    *(
        "x" * 70_000,
        "é",
        "▁",
        "\x1b[31m",
        '"',
        "'",
        "\\ud800",
        "{}",
        "[]",
        "null",
        "|",
        "#0",
        "NaN",
    ),
)
BYTES = (b"\0", b"\xff", b"\x80", b"PK\5\6", b"PK\1\2", b"\xed\xa0\x80", b"\n", bytes(64))
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**31, 2**63, 10**400, float("inf"), "", "x", "../../evil", [], {}),
    *([[]], {"a": 1}, "\ud800", "x" * 5000, [None], 1e308, "nan", "\0"),
)


@dataclass(frozen=True)
class Reader:
    """Something that reads files, and such files.

    Attributes:
        seeds: whole files, a folder's each.
        read: is given the folder.
        spared: files that stay as they are.
    """

    name: str
    seeds: list[Files]
    read: Callable[[Path], object]
    spared: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Failure:
    """An attempt that neither read its files nor said what is wrong with them."""

    reader: str
    attempt: int
    what: str


def damaged(reader: Reader, attempt: int) -> Files:
    """One of the reader's seeds with something wrong in it, the same for the same number."""
    rng = random.Random(f"{reader.name} {attempt}")
    files = dict(rng.choice(reader.seeds))
    name = rng.choice(sorted(files.keys() - reader.spared))
    files[name] = _damage(rng, files[name], [x for seed in reader.seeds for x in seed.values()])
    return files


def attempts(reader: Reader, numbers: range, folder: Path) -> Iterator[Failure]:
    """What fails of some attempts; their files are made in ``folder``."""
    with peak_memory() as peak:
        for number in numbers:
            failure = _attempt(reader, number, folder / "files")
            if failure:
                yield Failure(reader.name, number, failure)
    if peak[0] > MAX_GROWTH:
        yield Failure(reader.name, numbers[0], f"and those after it took {peak[0]:.0f} MB")


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Megabytes by which the process grew at its largest: one number, which is there afterwards."""
    # What was the largest before does not count: 5 has the kernel begin anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    found: list[float] = []
    yield found
    found.append((_status("VmHWM") - before) / 1000)


def _status(key: str) -> int:
    """Kilobytes, of the process."""
    match = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1])


def _attempt(reader: Reader, number: int, folder: Path) -> str:
    """What is wrong with how a reader took the attempt's files; empty if nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in damaged(reader, number).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    start = time.monotonic()
    try:
        with _limited_memory(), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(folder)
    except UserError as e:
        if not str(e) or len(str(e)) > 20_000:
            return f"a message of {len(str(e))} characters"
    except Exception:
        return traceback.format_exc()
    took = time.monotonic() - start
    return f"took {took:.0f} s" if took > MAX_SECONDS else ""


@contextmanager
def _limited_memory() -> Iterator[None]:
    with open("/proc/self/statm") as f:
        size = int(f.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + EXTRA_MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _damage(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Damage in the bytes, or where there is a structure, within it."""
    if rng.random() < 0.6:
        if data[:4] == b"PK\3\4":
            return _damage_archive(rng, data, others)
        if data[:2] == b"\x1f\x8b":
            return gzip.compress(_damage(rng, gzip.decompress(data), others), mtime=0)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            pass
        else:
            return _damage_text(rng, text).encode("utf-8", "surrogatepass")
    for _ in range(rng.choice((1, 1, 2, 5))):
        data = _damage_bytes(rng, data, others)
    return data


def _damage_bytes(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    # Headers are where readers decide.
    at = (
        rng.randrange(len(data) + 1)
        if rng.random() < 0.6
        else rng.randrange(min(len(data), 200) + 1)
    )
    span = rng.choice((1, 2, 4, 16, 300))
    match rng.randrange(8):
        case 0 if data:
            at %= len(data)
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + data[at + span :]
        case 3:
            return data[:at] + rng.choice((*BYTES, rng.randbytes(span))) + data[at:]
        case 4:
            return (
                data[: at + span]
                + data[at : at + span] * rng.choice((1, 3, 200))
                + data[at + span :]
            )
        case 5:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            return data[:at] + other[start : start + 10 * span] + data[at:]
        case _:
            size, kind = rng.choice(((1, "B"), (2, "H"), (4, "L"), (8, "Q")))
            top = 1 << 8 * size
            number = rng.choice(
                (0, 1, top - 1, top // 2, top // 2 - 1, rng.randrange(top), 1000 % top)
            )
            packed = struct.pack(rng.choice("<>") + kind, number)
            return data[:at] + packed + data[at + size :]


def _damage_text(rng: random.Random, text: str) -> str:
    if rng.random() < 0.5 and (damaged_json := _damage_json(rng, text)) is not None:
        return damaged_json
    for _ in range(rng.choice((1, 1, 2, 5))):
        lines = text.split("\n")
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(7):
            case 0:
                lines[i] = ""
            case 1:
                lines.insert(i, lines[j])
            case 2:
                lines[i], lines[j] = lines[j], lines[i]
            case 3:
                del lines[i]
            case 4:
                lines[i] = _replaced(rng, r"-?\d+(\.\d+)?", lines[i], rng.choice(NUMBERS))
            case 5:
                lines[i] = _replaced(rng, r"[^\s\",:]+", lines[i], rng.choice((*WORDS, *NUMBERS)))
            case _:
                at = rng.randrange(len(lines[i]) + 1)
                lines[i] = lines[i][:at] + rng.choice(WORDS) + lines[i][at:]
        text = "\n".join(lines)
    return text


def _replaced(rng: random.Random, pattern: str, line: str, by: str) -> str:
    found = list(re.finditer(pattern, line))
    if not found:
        return line + by
    match = rng.choice(found)
    return line[: match.start()] + by + line[match.end() :]


def _damage_json(rng: random.Random, text: str) -> str | None:
    """Another value somewhere in it, or in one of its lines; None if it holds no JSON."""
    lines = [text] if text.startswith("{\n") else text.split("\n")
    i = rng.randrange(len(lines))
    try:
        value = json.loads(lines[i])
    except ValueError:
        return None
    if rng.random() < 0.05:
        lines[i] = "[" * 100_000
    else:
        lines[i] = json.dumps(_damage_value(rng, value))
    return "\n".join(lines)


def _damage_value(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        changed = value.copy()
        if rng.random() < 0.15:
            del changed[key]
        else:
            changed[key] = _damage_value(rng, value[key])
        return changed
    return rng.choice(VALUES)


def _damage_archive(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """An archive whose checksums are right, and whose contents are not."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    # The pickle and the headers of arrays are what is interpreted.
    of_interest = [i for i, (name, _) in enumerate(entries) if name.endswith((".pkl", ".npy"))]
    i = (
        rng.choice(of_interest)
        if of_interest and rng.random() < 0.8
        else rng.randrange(len(entries))
    )
    name, content = entries[i]
    match rng.randrange(8):
        case 0:
            del entries[i]
        case 1:
            entries[i] = (rng.choice((name + "x", "../" + name, "data.pkl", name.upper())), content)
        case 2:
            entries.append((name + "2", content))
        case _:
            entries[i] = (name, _damage_bytes(rng, content, [content for _, content in entries]))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content)  # with a date that stays
    return made.getvalue()
