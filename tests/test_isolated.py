"""Functions in a process of their own: results, errors, and native ends."""

from __future__ import annotations

import ctypes
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
    ctypes.string_at(0)


def leave() -> None:
    os.write(1, b"about to exit\n")
    os._exit(7)


def leave_well() -> None:
    os._exit(0)


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
