"""What a Hub answers, checked before the client sees it.

The client makes paths of what an answer's headers state: a commit, a tag. It unpacks what is
compressed, and reads whatever comes. Whoever answers may not be the Hub, or mean harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextvars import ContextVar

import httpx2
import huggingface_hub
from huggingface_hub import errors as hf_errors

from transducer2ncnn.base.errors import UserError

COMMIT = re.compile(r"[0-9a-f]{40}")
#: Of a file, which is its tag in a header too: Git's or SHA-256.
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
TAG = re.compile(rf'(W/)?"?({HASH.pattern})"?')

#: What headers must look like where they are stated.
HEADERS = {
    "X-Repo-Commit": COMMIT,
    "X-Linked-ETag": TAG,
    "X-Xet-Hash": HASH,
    "X-Linked-Size": re.compile(r"\d{1,15}"),
    "Content-Encoding": re.compile("identity"),
}

#: What the client raises, as an OSError, that no further try changes.
STAYING = (hf_errors.OfflineModeIsEnabled, hf_errors.FileMetadataError)

#: Client errors that may pass by themselves, and the status of a portal.
PASSING = (408, 429)
LOGIN_NEEDED = 511

#: Bytes that an answer may have in any case: an error's may be a page.
MAX_ERROR = 1_000_000

#: Bytes that an answer may have that is asked for now.
_expected: ContextVar[int] = ContextVar("expected", default=0)


def is_hash(value: object) -> bool:
    return isinstance(value, str) and HASH.fullmatch(value) is not None


def commit_of(repo_id: str, commit: object) -> str:
    """A commit's name as it is stated.

    Raises:
        UserError: it is none.
    """
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise UserError(
            f"{repo_id}: refused, for the Hub states {str(commit)[:200]!r} for its commit. "
            "Expected 40 hexadecimal digits."
        )
    return commit


def is_in_between(error: Exception) -> bool:
    """Whether a proxy refuses, or shows a certificate of its own, which it will do again."""
    said = str(error)
    return "CERTIFICATE_VERIFY_FAILED" in said or (
        isinstance(error, httpx2.ProxyError) and re.match(r"4\d\d\b", said) is not None
    )


def guard(session: httpx2.Client, expected: int) -> None:
    """See to it that the answers in a session of the client's are checked.

    What is wrong with one is raised as a UserError out of the client's call.

    Args:
        expected: bytes that an answer may have, from now on.
    """
    _expected.set(expected)
    hooks = session.event_hooks
    if _check not in hooks["response"]:
        session.event_hooks = {
            "request": [*hooks["request"], _ask_plainly],
            "response": [*hooks["response"], _check],
        }


def _ask_plainly(request: httpx2.Request) -> None:
    """Ask for an answer that is not compressed: a small one could then fill memory or disk."""
    request.headers["Accept-Encoding"] = "identity"


def _check(response: httpx2.Response) -> None:
    _check_kind(response)
    for name, pattern in HEADERS.items():
        value = response.headers.get(name)
        if value is not None and not pattern.fullmatch(value):
            raise _refusal(f"whose {name} is {value[:200]!r}")
    tag = response.headers.get("ETag")
    if response.request.method == "HEAD" and tag is not None and not TAG.fullmatch(tag):
        if response.is_success:
            raise _refusal(f"whose ETag is {tag[:200]!r}")
        # A redirection may have one of its own, of which nothing is to be made.
        del response.headers["ETag"]
    stream = response.stream
    assert isinstance(stream, httpx2.SyncByteStream)  # the client's session is no asynchronous one
    response.stream = _Body(stream)


def _check_kind(response: httpx2.Response) -> None:
    """Refuse a web page: of a proxy that forbids, or of a network's portal that asks for a login.

    The Hub's own errors state their code; a gateway's page with one that may pass does not count.
    """
    page = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if page not in ("text/html", "application/xhtml+xml") or "X-Error-Code" in response.headers:
        return
    refused = response.is_client_error and response.status_code not in PASSING
    if response.is_success or refused or response.status_code == LOGIN_NEEDED:
        status = f"{response.status_code} {response.reason_phrase}".strip()
        raise _refusal(f"that is a web page (status {status})")


class _Body(httpx2.SyncByteStream):
    """The body of an answer, no larger than what is expected.

    Its end may be a reset of the connection: reported as the client reports one that closes early,
    after which it resumes.
    """

    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        left = _expected.get() + MAX_ERROR
        try:
            for chunk in self._stream:
                left -= len(chunk)
                if left < 0:
                    raise _refusal(f"of more than the {_expected.get():,} bytes expected")
                yield chunk
        except httpx2.ReadError as e:
            raise httpx2.RemoteProtocolError(str(e)) from e

    def close(self) -> None:
        self._stream.close()


def _refusal(what: str) -> UserError:
    return UserError(f"refused an answer {what}. {advice()}")


def advice() -> str:
    """What a person can do where something else answers in the Hub's place."""
    return (
        f"Is {huggingface_hub.constants.ENDPOINT} a Hub, with nothing in between: a proxy, or a "
        "network's portal that asks for a login? Log in there, let HTTPS_PROXY or HF_ENDPOINT lead "
        "to the Hub, or fetch the files elsewhere and name them as `checkpoint` and `tokens`."
    )
