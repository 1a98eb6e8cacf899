"""Names of the files that sherpa-ncnn's users know."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from transducer2ncnn.base.errors import UserError

#: The three networks of a transducer; each is traced, converted and stored by itself.
PARTS = ("encoder", "decoder", "joiner")
PartName = Literal["encoder", "decoder", "joiner"]

#: What follows the part in a file's name.
STEM = "_jit_trace-pnnx.ncnn"

#: The script in each folder for sherpa-ncnn that runs the folder on recordings.
TRANSCRIBE = "transcribe.py"

#: The folder in a model's results that its precisions are delivered in.
DELIVERED = "sherpa-ncnn"

#: (param, bin) of each part.
Files = dict[str, tuple[Path, Path]]


#: Precisions whose files say nothing of it in their names.
PLAIN = ("fp32", "fp16")


def file_name(part: str, precision: str, kind: str) -> str:
    """The name of a part's param or bin. Quantized files, of whatever precision, say that they are
    int8, as icefall's recipe has them."""
    int8 = "" if precision in PLAIN else ".int8"
    return f"{part}{STEM}{int8}.{kind}"


def ncnn_files(folder: str | Path, precision: str = "fp32") -> Files:
    """(param, bin) of each part, all of one precision, in a folder of ncnn files."""
    return {
        part: (
            Path(folder, file_name(part, precision, "param")),
            Path(folder, file_name(part, precision, "bin")),
        )
        for part in PARTS
    }


def delivered_files(folder: str | Path) -> Files:
    """(param, bin) of each part in a folder made for sherpa-ncnn, whatever their precision.

    Raises:
        UserError: a part is missing or there twice.
    """
    files = {}
    for part in PARTS:
        params = sorted(Path(folder).glob(f"{part}{STEM}*.param"))
        if len(params) != 1:
            raise UserError(f"{folder}: expected one {part} param file, found {len(params)}.")
        files[part] = (params[0], params[0].with_suffix(".bin"))
    return files
