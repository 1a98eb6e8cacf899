"""Names of the files that sherpa-ncnn's users know."""

from __future__ import annotations

from pathlib import Path

#: The three networks of a transducer; each is traced, converted and stored by itself.
PARTS = ("encoder", "decoder", "joiner")


def ncnn_files(folder: str | Path) -> dict[str, tuple[Path, Path]]:
    """(param, bin) of each part, in a folder of ncnn files."""
    return {
        part: (
            Path(folder, f"{part}_jit_trace-pnnx.ncnn.param"),
            Path(folder, f"{part}_jit_trace-pnnx.ncnn.bin"),
        )
        for part in PARTS
    }
