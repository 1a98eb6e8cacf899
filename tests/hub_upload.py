"""The side of the loopback's Hub that takes uploads: repositories, large files and commits."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from hub_server import LARGE, HubServer, Lie, _Handler


class UploadHub(HubServer):
    """A Hub that can be written to with ``token``, and only be read with ``reader``.

    Attributes:
        stored: large files by their SHA-256, whether a commit names them or not.
        messages: of the commits that were made.
        ignored: files that a .gitignore there names.
        lost: whether the answer to the next commit is lost on its way.

    Faults are named by the kinds create, branch, validate, preupload, batch, put and commit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = _Uploads
        self.reader = "hf_reader"
        self.stored: dict[str, bytes] = {}
        self.messages: list[str] = []
        self.ignored: set[str] = set()
        self.lost = False

    def head(self, repo_id: str, branch: str = "main") -> dict[str, bytes]:
        return self.commits[repo_id, self.refs[repo_id, branch]]


class _Uploads(_Handler):
    server: UploadHub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            return self._take("create", self._create, json.loads(body))
        if path == "/api/validate-yaml":
            return self._take("validate", self._validate, json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._take("batch", self._batch, json.loads(body))
        repo_id, _, rest = path.removeprefix("/api/models/").rpartition("/")[0].rpartition("/")
        name = path.rpartition("/")[2]
        if rest == "branch":
            return self._take("branch", self._branch, repo_id, name)
        if rest == "preupload":
            return self._take("preupload", self._preupload, repo_id, name, json.loads(body))
        assert rest == "commit", path
        lines = [json.loads(line) for line in body.splitlines()]
        return self._take("commit", self._commit_files, repo_id, name, lines)

    def do_PUT(self) -> None:
        digest = self.path.removeprefix("/lfs/")
        fault = next(self.server.faults.get("put", iter(())), None)
        self.server.requests.append(("put", digest, None))
        self._lie = Lie()
        length = int(self.headers["Content-Length"])
        if fault == "drop":
            self.rfile.read(length // 2)
            self.close_connection = True
            self.connection.close()
            return
        body = self.rfile.read(length)
        if isinstance(fault, int):
            return self._status(fault)
        if hashlib.sha256(body).hexdigest() != digest:
            return self._status(400)
        self.server.stored[digest] = body
        self._reply(200, {})

    def _take(self, kind: str, handle: Any, *given: Any) -> None:
        self.server.requests.append((kind, self.path, None))
        self._lie = Lie()
        fault = next(self.server.faults.get(kind, iter(())), None)
        authorization = self.headers.get("Authorization")
        if isinstance(fault, int):
            self._status(fault)
        elif authorization == f"Bearer {self.server.token}" or kind == "validate":
            handle(*given)
        elif authorization == f"Bearer {self.server.reader}":
            self._status(403)
        else:
            self._status(401)

    def _json(self, status: int, value: object) -> None:
        self._reply(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _create(self, asked: dict) -> None:
        repo_id = f"{asked['organization']}/{asked['name']}"
        url = f"{self.server.url}/{repo_id}"
        if any(name == repo_id for name, _ in self.server.commits):
            return self._json(409, {"url": url})
        self.server.commit(repo_id, {".gitattributes": b"*.bin filter=lfs\n"})
        if asked.get("visibility") == "private":
            self.server.private.add(repo_id)
        self._json(200, {"url": url})

    def _branch(self, repo_id: str, branch: str) -> None:
        if (repo_id, branch) in self.server.refs:
            return self._status(409)
        self.server.refs[repo_id, branch] = self.server.refs[repo_id, "main"]
        self._json(200, {})

    def _validate(self, asked: dict) -> None:
        _, metadata, _ = asked["content"].split("---\n", 2)
        if "license" not in yaml.safe_load(metadata):
            # A server may repeat what it was sent.
            message = f'"license" is required, {self.headers["Authorization"]}'
            return self._json(400, {"errors": [{"message": message}]})
        self._json(200, {"warnings": []})

    def _preupload(self, repo_id: str, branch: str, asked: dict) -> None:
        commit = self.server.refs[repo_id, branch]
        hashes = self.server.hashes[repo_id, commit]
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                "shouldIgnore": file["path"] in self.server.ignored,
                "oid": hashes.get(file["path"]),
            }
            for file in asked["files"]
        ]
        self._json(200, {"files": files})

    def _batch(self, asked: dict) -> None:
        objects = []
        for file in asked["objects"]:
            stored = {"oid": file["oid"], "size": file["size"]}
            if file["oid"] not in self.server.stored:
                upload = {"href": f"{self.server.url}/lfs/{file['oid']}"}
                stored["actions"] = {"upload": upload}
            objects.append(stored)
        self._json(200, {"transfer": "basic", "objects": objects})

    def _commit_files(self, repo_id: str, branch: str, lines: list[dict]) -> None:
        header = lines[0]["value"]
        head = self.server.refs[repo_id, branch]
        if header.get("parentCommit", head) != head:
            return self._status(412)
        files = dict(self.server.commits[repo_id, head])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.stored[value["oid"]]
            else:
                assert line["key"] == "deletedFile"
                del files[value["path"]]
        commit = self.server.commit(repo_id, files, branch)
        self.server.messages.append(header["summary"])
        if self.server.lost:
            self.server.lost = False
            self.close_connection = True
            self.connection.close()
            return
        url = f"{self.server.url}/{repo_id}/commit/{commit}"
        self._json(200, {"success": True, "commitOid": commit, "commitUrl": url})
