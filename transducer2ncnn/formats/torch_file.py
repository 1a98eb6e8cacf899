"""Files of ``torch.save``: a zip archive of a pickle and the storages of its tensors.

The archive's directory is read once, by ``zipfile``, and everything is opened by what it says
there: no second reader can find another directory in the same file. Storages are mapped, not
read, so that a large training checkpoint costs only what is used of it.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats import foreign, torch_pickle

PICKLE = "data.pkl"

#: Bytes of the pickle and of the archive's directory, at most. A large training checkpoint's have
#: about one million; what is made of them can take 80 times as much memory.
MAX_PICKLE = 8_000_000
MAX_DIRECTORY = 8_000_000

#: What ends an archive without a comment, its length and what stands in front of it where the
#: archive is or could be large.
END, END_SIZE = b"PK\5\6", 22
END64, END64_SIZE = b"PK\6\6", 56
LOCATOR, LOCATOR_SIZE = b"PK\6\7", 20

#: The header in front of each entry, up to the lengths of its name and of an extra field.
HEADER, HEADER_SIZE = b"PK\3\4", 30

#: How a file of PyTorch before 1.6 begins: a pickled number.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class TorchFile:
    """A file of ``torch.save``, opened without running anything in it.

    Attributes:
        content: what was saved, as ``torch_pickle.load`` makes it. Its tensors are mapped from
            the file and not checked: ``read`` has those that are to be computed with.

    Raises:
        UserError: the file is missing or damaged, would run code when unpickled, or would grow
            in memory beyond its own size.
    """

    content: Any

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        #: The entry of each mapped storage, by its address in memory.
        self._entries: dict[int, zipfile.ZipInfo] = {}
        self._storages: dict[tuple[str, torch.dtype], Tensor] = {}
        foreign.check(path)
        try:
            with open(self._path, "rb") as file:
                self._open(file)
        except OSError as e:
            raise self._unreadable(e.strerror or "it cannot be read") from None
        except torch_pickle.RefusedError as e:
            raise UserError(
                f"{path}: refused, and nothing in it was run. Beyond tensors and plain values it "
                f"asks for {str(e)[:200]!r}, which opening it freely would call. If you trust its "
                'origin, save it again there as torch.save({"model": model.state_dict()}, path).'
            ) from None
        except torch_pickle.MalformedError as e:
            raise self._unreadable(f"in its {PICKLE}: {e}") from None

    def read(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """These tensors in memory of their own, what the file holds of them checked.

        A checksum stands in the archive for each storage. Only those of these tensors are read:
        the optimizer's are twice as large. Memory of its own is in large pages where the system
        has them (``environment.use_large_pages``), and a mapped file never is.

        Raises:
            UserError: naming the entry that is damaged.
        """
        storages: dict[int, Tensor] = {}
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            address = tensor.untyped_storage().data_ptr()
            entry = self._entries.get(address)
            if entry is None:  # it has its own already
                found[name] = tensor
                continue
            if address not in storages:
                storages[address] = self._copied(entry)
            storage = storages[address].view(tensor.dtype)
            found[name] = storage.as_strided(
                tensor.size(), tensor.stride(), tensor.storage_offset()
            )
        return found

    def _open(self, file: Any) -> None:
        try:
            # Private: what might be written to the tensors would not reach the file.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except ValueError:  # an empty file
            raise self._unreadable("it is empty") from None
        if self._map[: len(LEGACY)] == LEGACY:
            raise UserError(
                f"{self._path}: refused, and nothing in it was run: it is in the format of PyTorch "
                "before 1.6, which holds no checksums. Open it where you trust its origin, and "
                "save it again there with torch.save."
            )
        self._check_ends()
        try:
            with zipfile.ZipFile(file) as archive:
                self._check_entries(archive.infolist())
                self._directory = {entry.filename: entry for entry in archive.infolist()}
                pickles = [n for n in self._directory if n.count("/") == 1 and n.endswith(PICKLE)]
                if len(pickles) != 1:
                    raise self._unreadable(f"it holds no {PICKLE}, or several")
                self._root = pickles[0].removesuffix(PICKLE)
                self._check_byte_order(archive)
                if self._directory[pickles[0]].file_size > MAX_PICKLE:
                    raise self._unreadable(
                        f"its {PICKLE} is larger than {MAX_PICKLE / 1e6:.0f} MB, and would fill "
                        "the memory"
                    )
                data = self._read(archive, pickles[0])
        except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, struct.error) as e:
            raise self._unreadable(str(e).splitlines()[0] if str(e) else "no archive") from None
        try:
            self.content = torch_pickle.load(data, self._storage)
        except torch_pickle.RefusedError as e:
            if not foreign.holds_module(data):
                raise
            raise UserError(
                f"{self._path}: refused, and nothing in it was run: it holds a module as a whole "
                f"({str(e)[:200]}), and to open that is to run its code. Where you trust it, open "
                "it with torch.load(…, weights_only=False), and save of the module its state dict: "
                'torch.save({"model": module.state_dict()}, "pretrained.pt").'
            ) from None

    def _check_ends(self) -> None:
        """See that the file is one archive and nothing else, with a directory of sensible size."""
        size, end = len(self._map), len(self._map) - END_SIZE
        if self._map[:4] != HEADER or size < HEADER_SIZE + END_SIZE:
            raise self._unreadable("it is no archive, or is cut off")
        if self._map[end : end + 4] != END or self._map[-2:] != b"\0\0":
            raise self._unreadable("it is cut off, or something was added behind its end")
        (directory,) = struct.unpack_from("<L", self._map, end + 12)
        if self._map[end - LOCATOR_SIZE :][:4] == LOCATOR:
            end64 = end - LOCATOR_SIZE - END64_SIZE
            if end64 < 0 or self._map[end64 : end64 + 4] != END64:
                raise self._unreadable("it is cut off, or something was added before its end")
            (directory,) = struct.unpack_from("<Q", self._map, end64 + 40)
        if directory > MAX_DIRECTORY:
            raise self._unreadable(f"its directory takes {directory / 1e6:,.0f} MB")

    def _check_entries(self, entries: list[zipfile.ZipInfo]) -> None:
        # torch.save stores without compression.
        packed = any(
            entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size
            for entry in entries
        )
        unpacked = sum(entry.file_size for entry in entries)
        if packed or unpacked > len(self._map):
            raise UserError(
                f"{self._path}: refused, and nothing in it was opened. It is a compressed archive, "
                f"of {unpacked / 1e6:,.0f} MB when unpacked, and torch.save never compresses. If "
                "you trust its origin, save it again there with torch.save."
            )
        if len({entry.filename for entry in entries}) != len(entries):
            raise self._unreadable("two of its entries have the same name")
        if min((entry.header_offset for entry in entries), default=0) != 0:
            raise self._unreadable("something stands in front of its first entry")

    def _check_byte_order(self, archive: zipfile.ZipFile) -> None:
        name = f"{self._root}byteorder"
        entry = self._directory.get(name)
        if entry and (entry.file_size > 6 or self._read(archive, name) != b"little"):
            raise self._unreadable("its numbers are big-endian")

    def _read(self, archive: zipfile.ZipFile, name: str) -> bytes:
        try:
            return archive.read(name)
        except zipfile.BadZipFile as e:
            if "CRC" not in str(e):
                raise
            raise self._damaged(self._directory[name]) from None

    def _storage(self, name: str, dtype: torch.dtype, count: int) -> Tensor:
        """A storage, as ``torch_pickle.load`` asks for it."""
        if (name, dtype) not in self._storages:
            self._storages[name, dtype] = self._mapped(name, dtype, count)
        storage = self._storages[name, dtype]
        if len(storage) != count:
            raise self._unreadable(f"storage {name[:80]!r} has {len(storage)} values, not {count}")
        return storage

    def _mapped(self, name: str, dtype: torch.dtype, count: int) -> Tensor:
        entry = self._directory.get(f"{self._root}data/{name}")
        size = count * dtype.itemsize
        if entry is None or entry.file_size != size:
            raise self._unreadable(f"it does not hold the {count} values of storage {name[:80]!r}")
        if count == 0:
            return torch.empty(0, dtype=dtype)
        start = self._start(entry)
        if start % dtype.itemsize:  # another tool's archive; torch aligns its own
            return self._copied(entry).view(dtype)
        storage = torch.frombuffer(self._map, dtype=torch.uint8, count=size, offset=start)
        self._entries[storage.untyped_storage().data_ptr()] = entry
        return storage.view(dtype)

    def _copied(self, entry: zipfile.ZipInfo) -> Tensor:
        """(bytes,) what an entry holds, checked."""
        start, size = self._start(entry), entry.file_size
        copy = torch.frombuffer(self._map, dtype=torch.uint8, count=size, offset=start).clone()
        # Or what was read of the file would count as this process's memory besides.
        page = start - start % mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, page, start + size - page)
        if zlib.crc32(copy.numpy().data) != entry.CRC:
            raise self._damaged(entry)
        return copy

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """Where an entry's contents begin."""
        offset = entry.header_offset
        header = self._map[offset : offset + HEADER_SIZE]
        if len(header) < HEADER_SIZE or header[:4] != HEADER:
            raise self._unreadable(f"its entry {entry.filename!r} is not where it should be")
        start = offset + HEADER_SIZE + sum(struct.unpack_from("<2H", header, HEADER_SIZE - 4))
        if start + entry.file_size > len(self._map):
            raise self._unreadable(f"its entry {entry.filename!r} is cut off")
        return start

    def _damaged(self, entry: zipfile.ZipInfo) -> UserError:
        return UserError(
            f"{self._path}: is damaged: its entry {entry.filename!r} does not match the checksum "
            "that it was written with. Fetch or copy the file again."
        )

    def _unreadable(self, why: str) -> UserError:
        return UserError(
            f"{self._path}: not a checkpoint that torch can read ({why.rstrip('.')}). Expected a "
            "file written by torch.save, whole and not compressed again."
        )
