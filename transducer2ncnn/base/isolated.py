"""Calling a function in a process of its own, for native code that may exit or crash.

sherpa-ncnn prints and exits on a bad model, and ncnn can crash on one. In a process of its own
either becomes an ``IsolatedError`` with what was printed and where it happened.

A process with one thread is forked, so that nothing is loaded again. Where there are others, a copy
could wait forever for what one of them held, so a new interpreter is started.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from transducer2ncnn.base.errors import UserError, end_quietly_when_interrupted, leave

#: Lines of the process's output that an error shows.
OUTPUT_TAIL = 12
#: Has an entry for each thread of this process, the native ones too. Only Linux has it.
THREADS = Path("/proc/self/task")


class IsolatedError(UserError):
    """The process ended before the function did."""


def call(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``, computed in a process of its own.

    The function must be importable by its module's name, and arguments and result can be pickled:
    the two processes trust each other. Its output, native code's included, goes to this process's
    standard error.

    Raises:
        UserError: as the function raised it.
        IsolatedError: the process exited or crashed.
    """
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
        reply = Path(folder, "reply")
        start = _fork if may_fork() else _start_anew
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as output:
            try:
                wait = start(writer, reply, function, args)
            finally:
                os.close(writer)
            tail: deque[str] = deque(maxlen=OUTPUT_TAIL)
            try:
                # Passed on as it comes: it may be progress.
                for line in output:
                    text = line.decode(errors="replace")
                    sys.stderr.write(text)
                    sys.stderr.flush()
                    tail.append(text.rstrip())
            finally:
                status = wait()
        if status != 0 or not reply.is_file():
            raise IsolatedError(_how_it_ended(status, tail))
        result, error = pickle.loads(reply.read_bytes())
    if error is not None:
        raise error
    return result


def may_fork() -> bool:
    """Whether this process is known to have one thread only."""
    return THREADS.is_dir() and len(os.listdir(THREADS)) == 1


def _fork(
    writer: int, reply: Path, function: Callable[..., Any], args: tuple[Any, ...]
) -> Callable[[], int]:
    """Start a copy of this process that calls the function; returns what waits for its status."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _call_here(writer, reply, function, args)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _call_here(
    writer: int, reply: Path, function: Callable[..., Any], args: tuple[Any, ...]
) -> NoReturn:
    """Call the function in a copy of the process, and end that, which has no other business."""
    status = 1
    try:
        for descriptor in (1, 2):
            os.dup2(writer, descriptor)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
        _answer(reply, function, args)
        sys.stdout.flush()
        status = 0
    except KeyboardInterrupt:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _start_anew(
    writer: int, reply: Path, function: Callable[..., Any], args: tuple[Any, ...]
) -> Callable[[], int]:
    """The same of a new interpreter."""
    request = reply.with_name("request")
    request.write_bytes(pickle.dumps((function.__module__, function.__qualname__, args)))
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, request, reply],
        stdout=writer,
        stderr=writer,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    return process.wait


def _answer(reply: Path, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    result = error = None
    try:
        result = function(*args)
    except UserError as e:
        error = e
    reply.write_bytes(pickle.dumps((result, error)))


def _how_it_ended(status: int, tail: Iterable[str]) -> str:
    how = f"crashed ({signal.Signals(-status).name})" if status < 0 else f"exited with {status}"
    last = "\n".join("  " + line for line in tail)
    return f"its process {how}" + (f". The last it printed:\n{last}" if last else ", silently.")


def _serve(request: str, reply: str) -> None:
    module, name, args = pickle.loads(Path(request).read_bytes())
    _answer(Path(reply), getattr(importlib.import_module(module), name), args)


if __name__ == "__main__":
    end_quietly_when_interrupted()
    _serve(sys.argv[1], sys.argv[2])
    leave()
