"""A small server that speaks the Hugging Face Hub's protocol, on the loopback, faults included.

It answers what the real client asks when it resolves a revision and downloads files: the model's
page with the files' sizes and hashes, and the files, large ones by a redirect as the Hub does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Files from this size on are stored as LFS objects, which have a SHA-256 for a hash.
LARGE = 1000

Files = dict[str, bytes]


@dataclass
class Lie:
    """What an answer states in place of the truth, None being nothing; a body of bytes is sent as
    it is."""

    headers: dict[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    status: int | None = None


class HubServer(ThreadingHTTPServer):
    """Repositories, and what is to go wrong.

    Attributes:
        commits: files by (repository, commit); hashes: theirs, SHA-256 or Git's.
        refs: commits by (repository, branch or tag).
        private: repositories that ask for ``token``; gated ones answer 403 to any other.
        faults: for each kind of request (api, head, get), what befalls the next ones, in order:
            a status, "drop" or "reset" (half of the file, then the connection ends, politely or
            not), "damage" (a wrong byte), "stall" (a second's wait in the middle) or None.
        lies: for each kind of request, what is changed in the next answers, in order, or None.
        requests: (kind, path, Range header) of every request; encodings: what they accepted.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[tuple[str, str], Files] = {}
        self.refs: dict[tuple[str, str], str] = {}
        self.hashes: dict[tuple[str, str], dict[str, str]] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.token = "hf_secret"
        self.faults: dict[str, Iterator] = {}
        self.lies: dict[str, Iterator[Lie | None]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.encodings: set[str | None] = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repo_id: str, files: Files, branch: str = "main") -> str:
        """Move a branch to these files; the new commit."""
        what = repr(sorted((k, hashlib.sha1(v).hexdigest()) for k, v in files.items()))
        commit = hashlib.sha1((str(len(self.commits)) + what).encode()).hexdigest()
        self.commits[repo_id, commit] = files
        self.hashes[repo_id, commit] = {
            name: hashlib.sha256(x).hexdigest() if len(x) >= LARGE else git_hash(x)
            for name, x in files.items()
        }
        self.refs[repo_id, branch] = commit
        return commit

    def fail(self, kind: str, *faults: int | str | None) -> None:
        self.faults[kind] = iter(faults)

    def got(self, kind: str) -> list[str]:
        return [path for k, path, _ in self.requests if k == kind]


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer("head")

    def do_GET(self) -> None:
        self._answer("api" if self.path.startswith("/api/") else "get")

    def _answer(self, kind: str) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((kind, path, self.headers.get("Range")))
        self.server.encodings.add(self.headers.get("Accept-Encoding"))
        fault = next(self.server.faults.get(kind, iter(())), None)
        self._lie = next(self.server.lies.get(kind, iter(())), None) or Lie()
        if isinstance(fault, int):
            return self._status(fault)
        if path.startswith("/cdn/"):
            return self._file(*self._stored(path.removeprefix("/cdn/")), fault)
        if path.startswith("/api/models/"):
            repo_id, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            return self._page(repo_id, revision or "main")
        repo_id, _, rest = path[1:].partition("/resolve/")
        revision, _, name = rest.partition("/")
        if (commit := self._admit(repo_id, revision)) is None:
            return None
        files = self.server.commits[repo_id, commit]
        if name not in files:
            return self._status(404, "EntryNotFound")
        content, hash_ = files[name], self.server.hashes[repo_id, commit][name]
        self._commit = commit
        if len(content) < LARGE:
            return self._file(content, hash_, fault)
        return self._reply(
            302,
            {
                "Location": f"{self.server.url}/cdn/{hash_}",
                "X-Linked-Size": str(len(content)),
                "X-Linked-ETag": f'"{hash_}"',
                "X-Repo-Commit": commit,
            },
        )

    def _admit(self, repo_id: str, revision: str) -> str | None:
        """The commit, if whoever asks may see it; else the refusal is on its way."""
        authorized = self.headers.get("Authorization") == f"Bearer {self.server.token}"
        known = any(name == repo_id for name, _ in self.server.commits)
        if not known or (repo_id in self.server.private and not authorized):
            # The Hub does not tell one from the other.
            return self._status(404 if authorized else 401, "RepoNotFound")
        if repo_id in self.server.gated and not authorized:
            return self._status(403, "GatedRepo")
        commit = self.server.refs.get((repo_id, revision), revision)
        if (repo_id, commit) not in self.server.commits:
            return self._status(404, "RevisionNotFound")
        return commit

    def _page(self, repo_id: str, revision: str) -> None:
        commit = self._admit(repo_id, revision)
        if commit is None:
            return
        siblings = []
        for name, content in self.server.commits[repo_id, commit].items():
            hash_ = self.server.hashes[repo_id, commit][name]
            sibling = {"rfilename": name, "size": len(content), "blobId": hash_}
            if len(content) >= LARGE:
                # Its blob in Git is a pointer to it.
                sibling["blobId"] = git_hash(hash_.encode())
                sibling["lfs"] = {"sha256": hash_, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        page = {"_id": "1", "id": repo_id, "modelId": repo_id, "sha": commit, "siblings": siblings}
        page["private"] = repo_id in self.server.private
        self._reply(200, {"Content-Type": "application/json"}, json.dumps(page).encode())

    def _stored(self, sha256: str) -> tuple[bytes, str]:
        for at, hashes in self.server.hashes.items():
            for name, hash_ in hashes.items():
                if hash_ == sha256:
                    return self.server.commits[at][name], sha256
        raise KeyError(sha256)

    def _file(self, content: bytes, etag: str, fault: str | None) -> None:
        headers = {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if hasattr(self, "_commit"):
            headers["X-Repo-Commit"] = self._commit
        start, asked = 0, self.headers.get("Range")
        if asked:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if fault == "damage":
            body = body[:-1] + bytes([body[-1] ^ 1])
        self._reply(206 if asked else 200, headers, body, fault)

    def _reply(
        self, status: int, headers: dict[str, str], body: bytes = b"", fault: str | None = None
    ) -> None:
        self.send_response(self._lie.status or status)
        body = body if self._lie.body is None else self._lie.body
        for name, value in (headers | self._lie.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(body) // 2 if fault in ("drop", "reset", "stall") else len(body)
        self.wfile.write(body[:half])
        self.wfile.flush()
        if fault == "stall":
            time.sleep(1.0)
            self.wfile.write(body[half:])
        elif half < len(body):
            # What was sent arrives before the end does, also before a reset.
            time.sleep(0.2)
            if fault == "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            with contextlib.suppress(OSError):
                if fault == "reset":
                    self.connection.close()
                else:
                    self.connection.shutdown(socket.SHUT_RDWR)

    def _status(self, status: int, code: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        if status == 429:
            headers["Retry-After"] = "0"
        self._reply(status, headers)


@contextlib.contextmanager
def serving(files: Files) -> Iterator[HubServer]:
    """A server that has one repository, owner/model."""
    server = HubServer()
    server.commit("owner/model", files)
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def environment(server: HubServer, home: Path) -> dict[str, str]:
    """What points the client to the server, with a home of its own."""
    return {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
