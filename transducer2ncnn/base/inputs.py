"""Files that a user names: whether each is there, can be read, and is not a stand-in for another.

What is wrong is found by a look at the file's status and its first bytes, so that it can be said
of every input before a run makes anything.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path

from transducer2ncnn.base.errors import UserError, shown

#: Bytes that a pointer of Git LFS may have, by its specification.
POINTER_SIZE = 1024
LFS = re.compile(rb"version https?://[\w./-]+/spec/v\d+\n(?:.*\n)*?size (\d{1,18})\n")
ANNEX = b"/annex/objects/"
WEB_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.I)


def expanded(path: str) -> str:
    """A path as a shell would have it, with the home folder for a leading ``~``."""
    return os.path.expanduser(path)


def check_name(path: str | Path) -> None:
    """Refuse a path that Snakemake would not take as it stands.

    Raises:
        UserError: there is a brace in it.
    """
    if "{" in str(path) or "}" in str(path):
        link = f"ln -s {shlex.quote(str(path))} another-name"
        raise UserError(
            f"{_quoted(path)} has a brace in its name, where Snakemake sees a wildcard. Rename it, "
            f"or name a link to it: `{link}`"
        )


def check(path: str | Path, peek: bool = True) -> None:
    """Refuse what is no file that can be read, or stands in for one that was not fetched.

    Args:
        peek: whether to look into a file of any size. If not, only one that is small enough to be
            a pointer is opened: of thousands of recordings, that is none.

    Raises:
        UserError: with what is there instead, and what mends it.
    """
    check_name(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as e:
        raise UserError(_missing(str(path), "file", e)) from None
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{_quoted(path)} is a folder. Expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{_quoted(path)} is a device or a pipe. Expected a file")
    if not peek and status.st_size > POINTER_SIZE:
        return
    try:
        with open(path, "rb") as f:
            head = f.read(POINTER_SIZE)
    except OSError as e:
        raise UserError(_unreadable(path, e)) from None
    if found := stand_in(head):
        raise UserError(f"{_quoted(path)} is {found}")


def check_folder(path: str | Path) -> None:
    """Refuse what is no folder that can be listed.

    Raises:
        UserError: with what is there instead.
    """
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise UserError(f"{_quoted(path)} is a file. Expected a folder")
        with os.scandir(path):
            pass
    except PermissionError as e:
        raise UserError(_unreadable(path, e)) from None
    except (OSError, ValueError) as e:
        raise UserError(_missing(str(path), "folder", e)) from None


def stand_in(head: bytes) -> str | None:
    """What a file that begins like this is in place of the one that is wanted, and what to do."""
    if found := LFS.match(head):
        return (
            "a Git LFS pointer, and not the file itself, which has "
            f"{int(found[1]):,} bytes. In its repository, run `git lfs install` and `git lfs pull`"
        )
    if head.startswith(ANNEX):
        return (
            "a git-annex pointer, and not the file itself. In its repository, run `git annex get`"
        )
    if WEB_PAGE.match(head):
        return (
            "a web page, and not the file itself. Fetch it by its own address; on the Hub, that "
            "has `/resolve/` where the page's has `/blob/`"
        )
    return None


def _missing(path: str, kind: str, error: Exception) -> str:
    """Why there is nothing at a path."""
    if not isinstance(error, OSError):  # a NUL in it
        return f"{_quoted(path)} cannot name a {kind}"
    if isinstance(error, PermissionError):
        return _unreadable(path, error)
    for part in [*reversed(Path(path).parents), Path(path)]:
        if os.path.islink(part) and not os.path.exists(part):
            return (
                f"{_quoted(part)} is a link to {os.readlink(part)!r}, which is not there. "
                "Mount or copy what it leads to, or name another"
            )
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return f"{_quoted(path)} cannot name a {kind} ({(error.strerror or str(error)).lower()})"
    said = f"there is no {kind} {_quoted(path)} (looked for from {Path.cwd()})"
    if re.match(r"\w+://", path):
        said += "; files are named by their paths here, or as s3://…, and a model on the Hub by"
        said += " `repo_id`"
    elif "$" in path:
        said += "; variables such as $HOME are not replaced here, only a leading ~ is"
    return said


def _unreadable(path: str | Path, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return f"{_quoted(path)} may not be read ({reason}). Check its permissions: `ls -l`, `chmod`"


def _quoted(path: str | Path) -> str:
    return repr(shown(str(path), 300))
