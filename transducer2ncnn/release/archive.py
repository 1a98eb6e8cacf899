"""The archive: the same bytes for the same files, and what is read back of it."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.files import replacing, scratch
from transducer2ncnn.base.fingerprints import fingerprint
from transducer2ncnn.base.paths import is_inside
from transducer2ncnn.base.reading import REMAKE, read_text
from transducer2ncnn.release.contents import CARD, SUMS, read_sums, sums

ENDING = ".tar.bz2"
#: When everything in an archive was changed last, in seconds since 1970: at the start of 1980,
#: which every file system can hold.
TIME = 315_532_800


def write(path: str | Path, files: Mapping[str, str | Path], texts: Mapping[str, str]) -> None:
    """An archive of one folder, called as the archive is, with ``SHA256SUMS`` of what is in it.

    Args:
        path: the archive, ``<folder>.tar.bz2``.
        files: paths here by their paths in the folder.
        texts: contents by their paths in the folder.
    """
    top = Path(path).name.removesuffix(ENDING)
    with replacing(path) as partial, scratch(partial.parent) as folder:
        written: dict[str, str | Path] = dict(files)
        for i, (name, text) in enumerate(texts.items()):
            written[name] = folder / str(i)
            (folder / str(i)).write_text(text, encoding="utf-8")
        listed = folder / SUMS
        listed.write_text(sums(written), encoding="utf-8")
        written[SUMS] = listed
        with tarfile.open(partial, "w:bz2", format=tarfile.USTAR_FORMAT) as tar:
            folders = {str(parent) for name in written for parent in Path(top, name).parents}
            for name in sorted(folders - {"."}):
                tar.addfile(_entry(name, tarfile.DIRTYPE, 0o755))
            for name, source in sorted(written.items()):
                entry = _entry(f"{top}/{name}", tarfile.REGTYPE, 0o644)
                with open(source, "rb") as content:
                    entry.size = Path(source).stat().st_size
                    tar.addfile(entry, content)


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime = kind, mode, TIME
    return entry


def unpack(path: str | Path, folder: str | Path) -> dict[str, Path]:
    """Unpack an archive that ``write`` made; its files by their paths in it.

    Raises:
        UserError: it is none, something in it is no plain file or leads elsewhere, or a file is not
            what its ``SHA256SUMS`` states. What was unpacked is not to be used.
    """
    top = Path(path).name.removesuffix(ENDING)
    found: dict[str, Path] = {}
    try:
        with tarfile.open(path, "r:bz2") as tar:
            for entry in tar:
                inside = entry.name == top or entry.name.startswith(f"{top}/")
                if not inside or not is_inside(entry.name) or not (entry.isreg() or entry.isdir()):
                    raise UserError(f"{path}: refused, for it holds {shown(entry.name)!r}.")
                tar.extract(entry, folder, filter="data")
                if entry.isreg():
                    found[entry.name.removeprefix(f"{top}/")] = Path(folder, entry.name)
    except (tarfile.TarError, EOFError, OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read as an archive ({e}). {REMAKE}") from None
    if SUMS not in found or CARD not in found:
        raise UserError(f"{path}: holds no {SUMS} and {CARD}. {REMAKE}")
    try:
        stated = read_sums(read_text(found[SUMS]))
    except ValueError as e:
        raise UserError(f"{path}: its {SUMS} cannot be read ({e}). {REMAKE}") from None
    if stated.keys() != found.keys() - {SUMS}:
        raise UserError(f"{path}: holds other files than its {SUMS} states. {REMAKE}")
    for name, digest in stated.items():
        if fingerprint(found[name])["sha256"] != digest:
            raise UserError(f"{path}: {name} is not what its {SUMS} states. {REMAKE}")
    return found
