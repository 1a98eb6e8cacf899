"""Calls of the Hub's client that are made again while their failure may pass by itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import httpx2
import huggingface_hub
from huggingface_hub import errors as hf_errors

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.source import answers

#: Seconds waited before each further try. A server that is busy may ask for more, up to MAX_WAIT.
WAITS: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
MAX_WAIT = 60.0
#: HTTP statuses that a later try may not meet.
TRANSIENT = (408, 429, 500, 502, 503, 504)

#: What the client raises on answers that it does not understand.
NONSENSE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    httpx2.HTTPError,
    httpx2.InvalidURL,
)

T = TypeVar("T")
Refusal = Callable[[Exception, str], NoReturn]


class UnreachableError(Exception):
    """The Hub was not reached, after all tries; says how."""


def persistent(call: Callable[[], T], what: str, expected: int, refuse: Refusal) -> T:
    """What ``call`` returns, tried again while the failure may pass.

    Args:
        expected: the number of bytes that an answer may have; an error's may be short texts too.
        refuse: raises what a person can do about a failure that stays.

    Raises:
        UserError: a failure that will not pass by itself, an answer that makes no sense among them.
        UnreachableError: the last failure might still pass.
        OSError: of this machine's, such as a full disk.
    """
    waits = iter(WAITS)
    while True:
        answers.guard(huggingface_hub.get_session(), expected)
        try:
            return call()
        except UserError as e:
            raise UserError(f"{what}: {e}") from None
        except (httpx2.TransportError, OSError) as e:
            error = _root(e)
        except NONSENSE as e:
            raise UserError(
                f"{what}: {huggingface_hub.constants.ENDPOINT} answers as no Hub does "
                f"({type(e).__name__}: {said(e)}). {answers.advice()}"
            ) from None
        if not _may_pass(error):
            refuse(error, what)
        wait = next(waits, None)
        if wait is None:
            raise UnreachableError(f"the Hub could not be reached: {said(error)}.")
        wait = max(wait, _asked_wait(error))
        print(f"{what}: {said(error)}; trying again in {wait:.0f} s", file=sys.stderr, flush=True)
        time.sleep(wait)


def _root(error: Exception) -> Exception:
    """The client reports a failed look-up as a file that is missing here; the cause tells more."""
    if isinstance(error, hf_errors.LocalEntryNotFoundError) and isinstance(
        error.__cause__, Exception
    ):
        return error.__cause__
    return error


def _may_pass(error: Exception) -> bool:
    if isinstance(error, hf_errors.HfHubHTTPError):
        return error.response.status_code in TRANSIENT
    if isinstance(error, OSError):
        # Not this machine's own failure: the client's word for a transfer that came out short.
        return error.errno is None and not isinstance(error, answers.STAYING)
    return isinstance(error, httpx2.TransportError) and not answers.is_in_between(error)


def _asked_wait(error: Exception) -> float:
    if isinstance(error, hf_errors.HfHubHTTPError):
        asked = error.response.headers.get("Retry-After", "")
        return min(float(asked), MAX_WAIT) if asked.isdecimal() else 0.0
    return 0.0


def said(error: Exception) -> str:
    """What went wrong, in a line; of an answer its status, and not what a server writes beside."""
    if isinstance(error, hf_errors.HfHubHTTPError):
        status = error.response.status_code
        return f"it answered {status} {httpx2.codes.get_reason_phrase(status)}"
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
