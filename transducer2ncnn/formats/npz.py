"""NumPy's archives of arrays, read so that a damaged one is one message and fills no memory."""

from __future__ import annotations

import io
import tokenize
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.reading import REMAKE

#: What NumPy and zipfile raise on damaged files; SyntaxError and the like by reading a header.
DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    RuntimeError,
    zipfile.BadZipFile,
)


@contextmanager
def opened(path: str | Path, what: str) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of an archive that ``np.savez`` wrote, by name; each is read when it is asked for.

    Args:
        what: what it should be, for the message.

    Raises:
        UserError: the file is missing or damaged, or compressed; so does an array that is damaged
            or not there.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
        except (*DAMAGE, OSError) as e:
            raise UserError(
                f"{path}: cannot be read as {what} ({shown(str(e))}). {REMAKE}"
            ) from None
        if sum(entry.file_size for entry in archive.infolist()) > Path(path).stat().st_size:
            raise UserError(f"{path}: is compressed, as {what} never are. {REMAKE}")
        yield _Arrays(path, archive, what)


class _Arrays(Mapping[str, np.ndarray]):
    def __init__(self, path: str | Path, archive: zipfile.ZipFile, what: str) -> None:
        self._path, self._archive, self._what = path, archive, what
        self._names = [n.removesuffix(".npy") for n in archive.namelist()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            # Whole first, which checks its checksum: NumPy makes room for what a header says.
            content = self._archive.read(f"{name}.npy")
            return _array(content)
        except (*DAMAGE, OSError) as e:
            raise UserError(
                f"{self._path}: cannot be read as {self._what}: array {shown(name)!r} is missing "
                f"or damaged ({shown(str(e))}). {REMAKE}"
            ) from None


def _array(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, is_fortran, dtype = read[version](file)
    size = dtype.itemsize
    for n in shape:
        size *= n
    if dtype.hasobject or size != len(content) - file.tell():
        raise ValueError("it does not hold what its header says")
    # A copy, for the bytes cannot be written to.
    values = np.frombuffer(content, dtype, offset=file.tell()).copy()
    return values.reshape(shape, order="F" if is_fortran else "C")
