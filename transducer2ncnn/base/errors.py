"""Errors that a user can act on, and how a script ends with one."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NoReturn


class UserError(Exception):
    """Something in the user's hands is wrong: the message says what, where, and what to do."""


def shown(text: str, limit: int = 100) -> str:
    """A text from a file, cut to what a message can show of it."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def some(names: Sequence[str], most: int) -> str:
    """The first of some names, and how many more there are; empty where there is none."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def end_quietly_when_interrupted() -> None:
    """Let Ctrl-C end this process as it ends any, without a traceback of where it was."""

    def hook(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, at)

    sys.excepthook = hook


def run(main: Callable[[], None]) -> None:
    """Run a script's ``main``, and end the process; a ``UserError`` becomes its message and exit
    status 1."""
    # What was imported stays to the end: no later search for garbage needs to look at it.
    gc.freeze()
    gc.enable()
    try:
        main()
    except UserError as e:
        message = str(e)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = e.filename or "what was to be written"
        message = f"{where}: the disk is full. Make room and start again; what is there is whole."
    else:
        leave()
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def leave() -> NoReturn:
    """End the process at once and well. Taking PyTorch's modules apart, as Python does in the end,
    takes a third of the time that it takes to load them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
