"""Other files that people name as a checkpoint, recognised so that a message can say what they are.

The first bytes tell, or the names in an archive's directory; nothing of the contents is read.
"""

from __future__ import annotations

import os
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from transducer2ncnn.base import inputs
from transducer2ncnn.base.errors import UserError

NAME_INSTEAD = (
    "Name the checkpoint that it was made of, such as pretrained.pt or epoch-N.pt in the same "
    "folder, or in `exp_dir` the training folder itself"
)
UNPACK = "Unpack it, and name the checkpoint in it"

#: Bytes that tell how a file begins; and of the end of a zip archive, and of its directory at most.
HEAD = 1024
END_SIZE = 22
MAX_DIRECTORY = 8_000_000

#: By how a file begins, what it is and what to do. An offset other than 0 is given.
BEGINNINGS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"7767517\n", "an ncnn param file, which is what this makes", NAME_INSTEAD),
    (0, b"\x1f\x8b", "a gzip archive", UNPACK),
    (0, b"BZh", "a bzip2 archive", UNPACK),
    (0, b"\xfd7zXZ", "an xz archive", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", UNPACK),
    (0, b"7z\xbc\xaf", "a 7z archive", UNPACK),
    (257, b"ustar", "a tar archive, as NeMo's models are as well", UNPACK),
    (0, b"\x89HDF", "an HDF5 file, such as Keras writes", NAME_INSTEAD),
    (0, b"GGUF", "a GGUF file", NAME_INSTEAD),
    (4, b"TFL3", "a TensorFlow Lite model", NAME_INSTEAD),
)

#: The folders and files that only one kind of archive has, below its first folder.
ARCHIVES = (
    (
        ("code/", "constants.pkl"),
        "a TorchScript program, of torch.jit: its weights are bound up with its code",
    ),
    (("serialized_exported_program", "archive_format"), "a program of torch.export"),
)

#: What every module of PyTorch's keeps, and no state dict has among its keys.
MODULE_KEYS = frozenset({"_parameters", "_buffers", "_modules"})


def check(path: str | Path) -> None:
    """Refuse a file that is another kind of model, or an archive.

    Raises:
        UserError: with what it is, and what to name instead.
    """
    path = Path(path)
    try:
        inputs.check(path)
        with open(path, "rb") as file:
            head = file.read(HEAD)
            found = _by_beginning(head, path) or _by_entries(file)
    except UserError as e:
        raise UserError(f"{e}.") from None
    if found:
        raise UserError(f"{path}: is {found}.")


def _by_beginning(head: bytes, path: Path) -> str | None:
    for offset, beginning, what, advice in BEGINNINGS:
        if head[offset:].startswith(beginning):
            return f"{what}. {advice}"
    # A protobuf: the version of the format, below 32, and who wrote it.
    onnx = head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in (b"\x12", b":")
    if onnx or path.suffix in (".onnx", ".ort"):
        return f"an ONNX model: a graph whose weights have lost their names. {NAME_INSTEAD}"
    return None


def _by_entries(file: BinaryIO) -> str | None:
    """The same of a zip archive, by its entries' names; of a damaged or a vast one, nothing."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - END_SIZE))
    directory = int.from_bytes(file.read(END_SIZE)[12:16], "little")
    if directory > MAX_DIRECTORY or not zipfile.is_zipfile(file):
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error):
        return None
    for marks, what in ARCHIVES:
        if any(f"/{mark}" in f"/{name}" for name in names for mark in marks):
            return f"{what}. {NAME_INSTEAD}"
    if names and all(name.endswith(".npy") for name in names):
        return f"an archive of numpy's. {NAME_INSTEAD}"
    return None


def holds_module(pickled: bytes) -> bool:
    """Whether a pickle holds a module as a whole, and not its state dict."""
    try:
        texts = {argument for _, argument, _ in pickletools.genops(pickled) if argument}
    except (ValueError, TypeError):
        return False
    return texts >= MODULE_KEYS
