"""Functions in a process of their own: results, errors, and native ends."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from transducer2ncnn.base import isolated
from transducer2ncnn.base.errors import UserError


def add(a: int, b: int) -> int:
    print("adding")
    return a + b


def fail() -> None:
    raise UserError("the file is wrong")


def crash() -> None:
    os.write(2, b"about to crash\n")
    faulthandler.disable()  # pytest's, in a copy of its process
    ctypes.string_at(0)


def leave() -> None:
    os.write(1, b"about to exit\n")
    os._exit(7)


def leave_well() -> None:
    os._exit(0)


@pytest.fixture(params=["forked", "anew"], autouse=True)
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to start the process. This one has no thread that could hold what they call."""
    monkeypatch.setattr(isolated, "may_fork", lambda: request.param == "forked")
    return str(request.param)


def test_the_result_comes_back(capfd: pytest.CaptureFixture) -> None:
    assert isolated.call(add, 1, 2) == 3
    assert "adding" in capfd.readouterr().err


def test_a_users_error_is_raised_again() -> None:
    with pytest.raises(UserError, match="the file is wrong") as caught:
        isolated.call(fail)
    assert not isinstance(caught.value, isolated.IsolatedError)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (crash, r"crashed \(SIGSEGV\)[\s\S]*about to crash"),
        (leave, r"exited with 7[\s\S]*about to exit"),
        (leave_well, "exited with 0, silently"),
    ],
)
def test_an_end_without_a_result_is_an_error(function, message: str) -> None:
    with pytest.raises(isolated.IsolatedError, match=message):
        isolated.call(function)


#: What this process has done, which a copy of it knows.
DONE: list[str] = []


def process_id() -> tuple[int, int, bool]:
    return os.getpid(), os.getppid(), bool(DONE)


def test_the_process_is_another_one_forked_or_not(how: str) -> None:
    DONE.append("this test")
    own, parent, is_copy = isolated.call(process_id)
    assert own != os.getpid() == parent
    assert is_copy == (how == "forked")


def misspelt() -> None:
    print(undefined_name)  # type: ignore[name-defined]  # noqa: F821


def test_a_programming_error_shows_where_it_is(capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(isolated.IsolatedError, match="exited with 1"):
        isolated.call(misspelt)
    assert "in misspelt" in capfd.readouterr().err


def write_much() -> int:
    for i in range(20_000):
        os.write(1, b"%d\n" % i)
    return 20_000


def test_much_output_does_not_block_it(capfd: pytest.CaptureFixture) -> None:
    assert isolated.call(write_much) == 20_000
    assert capfd.readouterr().err.splitlines()[-1] == "19999"


def test_only_a_process_with_one_thread_is_forked() -> None:
    code = (
        "import threading\n"
        "from transducer2ncnn.base import isolated\n"
        "before, done = isolated.may_fork(), threading.Event()\n"
        "thread = threading.Thread(target=done.wait)\n"
        "thread.start()\n"
        "print(before, isolated.may_fork())\n"
        "done.set()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_an_interrupted_script_shows_no_traceback() -> None:
    # A process of the background is started with the signal ignored.
    code = (
        "import workflow_scripts, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.raise_signal(signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""
    failing = "import workflow_scripts; raise ValueError"
    done = subprocess.run([sys.executable, "-c", failing], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" in done.stderr
