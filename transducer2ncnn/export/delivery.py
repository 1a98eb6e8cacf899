"""Delivering a folder for sherpa-ncnn, which takes its place once sherpa-ncnn has run it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transducer2ncnn.base import layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import scratch
from transducer2ncnn.base.fingerprints import Fingerprint, fingerprint
from transducer2ncnn.base.layout import STEM, Files
from transducer2ncnn.export import transcribe
from transducer2ncnn.export.assembly import assemble
from transducer2ncnn.export.rehearsal import rehearse


def deliver(
    files: Files, description: dict[str, Any], tokens: str | Path, folder: str | Path
) -> dict[str, Fingerprint]:
    """Put verified ncnn files into ``folder`` once sherpa-ncnn has run them.

    Args:
        files: plain ncnn, of whatever precision; they keep their names.
        description: what ``model.inspect`` found.

    Returns:
        The fingerprints of what was put there, by name.

    Raises:
        UserError: sherpa-ncnn cannot use a model of these sizes, or not run this one. What was in
            the folder before is there still.
    """
    folder = Path(folder)
    with scratch(folder.parent) as parent:
        made = parent / folder.name
        try:
            assemble(files, description, tokens, made)
            rehearse(made, files, description)
            shutil.copyfile(transcribe.__file__, made / layout.TRANSCRIBE)
        except UserError as e:
            raise UserError(f"{folder}: not delivered. {e}") from None
        delivered = {file.name: fingerprint(file) for file in sorted(made.iterdir())}
        _clear(folder, keep={*delivered})
        folder.mkdir(exist_ok=True)
        for file in made.iterdir():
            file.replace(folder / file.name)
    return delivered


def _clear(folder: Path, keep: set[str]) -> None:
    """Remove a part that was delivered in another precision before."""
    for file in folder.glob(f"*{STEM}*"):
        if file.name not in keep:
            file.unlink()
