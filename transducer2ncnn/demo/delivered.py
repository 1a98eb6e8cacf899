"""Which models there are to try: the folders for sherpa-ncnn in the results."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from transducer2ncnn.base import reading
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import delivered_files
from transducer2ncnn.families.registry import described


@dataclass(frozen=True)
class Model:
    """A model that was exported.

    Attributes:
        folders: of each precision that was delivered, by its name.
        tail_seconds: silence to put behind a recording, as its architecture has it.
    """

    folders: dict[str, Path]
    tail_seconds: float


def models(results: str | Path) -> dict[str, Model]:
    """What was delivered, by the models' names; what is no model's is left out, and said.

    Raises:
        UserError: nothing was delivered.
    """
    found = {}
    for description in sorted(Path(results).glob("*/model.json")):
        folders = {
            folder.name: folder
            for folder in sorted(description.parent.glob("sherpa-ncnn/*"))
            if _is_whole(folder)
        }
        if folders:
            try:
                tail_seconds = described(reading.read_json(description)).tail_seconds
            except UserError as e:
                print(f"warning: {description.parent.name} is left out. {e}", file=sys.stderr)
                continue
            found[description.parent.name] = Model(folders, tail_seconds)
    if not found:
        raise UserError(
            f"{results}: no model was delivered there. Export one, with `make export` or "
            "`snakemake --cores all`, or name its folder with --results."
        )
    return found


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds what sherpa-ncnn loads; a run may be about to make it."""
    try:
        pairs = delivered_files(folder).values()
    except UserError:
        return False
    files = [folder / "tokens.txt", *(file for pair in pairs for file in pair)]
    return all(file.is_file() for file in files)
