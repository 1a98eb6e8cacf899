"""Output whose reader may leave, as ``head`` does: what is written then is dropped.

Snakemake's own logging raises on a closed pipe, in whatever thread it is called. In that of a job's
end, the scheduler never learns of the end, and waits for it with the folder locked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO


def survive_closed_pipes() -> None:
    """Let standard output and error lead nowhere once nobody reads them, for jobs to come too."""
    for stream in (sys.stdout, sys.stderr):
        for name in ("write", "flush"):
            setattr(stream, name, _guarded(stream, getattr(stream, name)))


def _guarded(stream: TextIO, call: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*args: Any) -> Any:
        try:
            return call(*args)
        except BrokenPipeError:
            # In the descriptor's place, so that what is started from now on inherits it.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            return None

    return guarded
