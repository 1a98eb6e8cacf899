"""Calling a function in a process of its own, for native code that may exit or crash.

sherpa-ncnn prints and exits on a bad model, and ncnn can crash on one. In a process of its own
either becomes an ``IsolatedError`` with what was printed and where it happened.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from transducer2ncnn.base.errors import UserError, end_quietly_when_interrupted, leave

#: Lines of the process's output that an error shows.
OUTPUT_TAIL = 12


class IsolatedError(UserError):
    """The process ended before the function did."""


def call(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``, computed in a fresh process.

    The function must be importable by its module's name; arguments and result are pickled
    between the two processes, which trust each other. Its output, native code's included, goes
    to this process's standard error.

    Raises:
        UserError: as the function raised it.
        IsolatedError: the process exited or crashed.
    """
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
        request, reply = Path(folder, "request"), Path(folder, "reply")
        request.write_bytes(pickle.dumps((function.__module__, function.__qualname__, args)))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        tail: deque[str] = deque(maxlen=OUTPUT_TAIL)
        with subprocess.Popen(
            [sys.executable, "-m", __name__, request, reply],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        ) as process:
            assert process.stdout is not None
            # Passed on as it comes: it may be progress.
            for line in process.stdout:
                text = line.decode(errors="replace")
                sys.stderr.write(text)
                sys.stderr.flush()
                tail.append(text.rstrip())
        if process.returncode != 0 or not reply.is_file():
            raise IsolatedError(_how_it_ended(process.returncode, tail))
        result, error = pickle.loads(reply.read_bytes())
    if error is not None:
        raise error
    return result


def _how_it_ended(status: int, tail: Iterable[str]) -> str:
    how = f"crashed ({signal.Signals(-status).name})" if status < 0 else f"exited with {status}"
    last = "\n".join("  " + line for line in tail)
    return f"its process {how}" + (f". The last it printed:\n{last}" if last else ", silently.")


def _serve(request: str, reply: str) -> None:
    module, name, args = pickle.loads(Path(request).read_bytes())
    result = error = None
    try:
        result = getattr(importlib.import_module(module), name)(*args)
    except UserError as e:
        error = e
    Path(reply).write_bytes(pickle.dumps((result, error)))


if __name__ == "__main__":
    end_quietly_when_interrupted()
    _serve(sys.argv[1], sys.argv[2])
    leave()
