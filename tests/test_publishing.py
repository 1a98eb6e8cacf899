"""Uploads to the Hub, by the real client to a server on the loopback that also fails."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from hub_server import environment
from hub_upload import UploadHub

from transducer2ncnn.release import contents

REPOSITORY = "owner/sherpa-ncnn-digits"
LARGE = {"encoder.bin": b"e" * 50_000, "joiner.bin": b"j" * 40_000}
SMALL = {"README.md": b"---\nlicense: mit\n---\n\n# A model\n", "tokens.txt": b"<blk> 0\n"}

CLIENT = """
import json, sys
from pathlib import Path
from transducer2ncnn.base import errors
from transducer2ncnn.release import upload
from transducer2ncnn.source import persistence
persistence.WAITS = (0.05, 0.1)
def main():
    repo_id, revision, private, folder = sys.argv[1:]
    files = {f.relative_to(folder).as_posix(): f for f in Path(folder).rglob("*") if f.is_file()}
    target = upload.Target(repo_id, revision, private == "private")
    published = upload.publish(target, files, "a release")
    print(json.dumps(vars(published) | {"address": published.address(repo_id)}))
errors.run(main)
"""


class Client:
    """A release, and the machine that publishes it."""

    def __init__(self, server: UploadHub, folder: Path) -> None:
        self.server, self.home, self.folder = server, folder / "home", folder / "release"
        self.write(LARGE | SMALL)

    def write(self, files: dict[str, bytes]) -> None:
        """What the release holds from now on."""
        self.folder.mkdir(exist_ok=True)
        for old in self.folder.iterdir():
            old.unlink()
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        paths: dict[str, str | Path] = {name: self.folder / name for name in files}
        (self.folder / contents.SUMS).write_text(contents.sums(paths))

    def files(self) -> dict[str, bytes]:
        return {f.name: f.read_bytes() for f in self.folder.iterdir()}

    def run(
        self, revision: str = "main", private: bool = True, **variables: str
    ) -> subprocess.CompletedProcess:
        known = environment(self.server, self.home) | {"PYTHONPATH": str(ROOT)}
        # The server speaks the protocol of large files, and not Xet's.
        known |= {"HF_HUB_DISABLE_XET": "1", "HF_TOKEN": self.server.token}
        secrecy = "private" if private else "public"
        return subprocess.run(
            [sys.executable, "-c", CLIENT, REPOSITORY, revision, secrecy, self.folder],
            env={k: v for k, v in os.environ.items() if not k.startswith("HF_")}
            | known
            | variables,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def server() -> Iterator[UploadHub]:
    server = UploadHub()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(server: UploadHub, tmp_path: Path) -> Client:
    return Client(server, tmp_path)


def succeeded(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def refused(client: Client, done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert client.server.token not in said
    return said


def digests(files: dict[str, bytes]) -> set[str]:
    return {hashlib.sha256(x).hexdigest() for x in files.values()}


def test_a_release_is_one_commit_of_what_changed(server: UploadHub, client: Client) -> None:
    done = client.run()
    published = succeeded(done)
    assert server.token not in done.stdout + done.stderr
    assert REPOSITORY in server.private
    head = server.head(REPOSITORY)
    assert head == client.files() | {".gitattributes": head[".gitattributes"]}
    assert server.messages == ["a release"]
    assert published["commit"] == server.refs[REPOSITORY, "main"]
    assert published["address"] == f"{server.url}/{REPOSITORY}/commit/{published['commit']}"
    assert set(server.got("put")) == digests(LARGE) and len(server.got("put")) == 2
    # The same release again is no commit, and nothing is sent.
    again = succeeded(client.run())
    assert again == published | {"sent": [], "removed": []}
    assert server.messages == ["a release"] and len(server.got("put")) == 2
    # Of another release only what changed is sent; what the last one left is removed; what
    # somebody else put there stays.
    server.commit(REPOSITORY, head | {"NOTES.md": b"by hand"})
    changed = {"encoder.bin": b"E" * 50_000}
    client.write(changed | SMALL)
    published = succeeded(client.run())
    assert published["sent"] == ["SHA256SUMS", "encoder.bin"]
    assert published["removed"] == ["joiner.bin"]
    assert set(server.got("put")) == digests(LARGE) | digests(changed)
    kept = {".gitattributes": head[".gitattributes"], "NOTES.md": b"by hand"}
    assert server.head(REPOSITORY) == client.files() | kept


def test_it_goes_to_the_branch_that_is_named(server: UploadHub, client: Client) -> None:
    succeeded(client.run(revision="v2", private=False))
    assert REPOSITORY not in server.private
    assert server.head(REPOSITORY, "v2").keys() >= client.files().keys()
    assert server.head(REPOSITORY).keys() == {".gitattributes"}


def test_what_is_private_does_not_go_where_others_read(server: UploadHub, client: Client) -> None:
    server.commit(REPOSITORY, {"README.md": b"public"})
    message = refused(client, client.run())
    assert "the repository is public, and `private` of the release is true" in message
    assert server.head(REPOSITORY) == {"README.md": b"public"}
    assert not server.got("preupload")


def test_a_broken_connection_is_tried_again(server: UploadHub, client: Client) -> None:
    server.fail("put", "drop")
    server.fail("commit", 503)
    succeeded(client.run())
    assert server.head(REPOSITORY).keys() >= client.files().keys()
    assert server.messages == ["a release"]


def test_after_a_break_what_arrived_is_not_sent_again(server: UploadHub, client: Client) -> None:
    # One of the two is refused, as where an address is too old.
    server.fail("put", None, 403)
    refused(client, client.run())
    assert not server.messages
    assert len(server.stored) == 1 and len(server.got("put")) == 2
    (arrived,) = server.stored
    server.fail("put")
    succeeded(client.run())
    assert server.got("put").count(arrived) == 1
    assert server.head(REPOSITORY).keys() >= client.files().keys()


def test_a_commit_whose_answer_is_lost_is_made_once(server: UploadHub, client: Client) -> None:
    succeeded(client.run())
    client.write({"encoder.bin": b"E" * 50_000} | SMALL)
    server.lost = True
    published = succeeded(client.run())
    assert published["commit"] == server.refs[REPOSITORY, "main"]
    assert published["removed"] == ["joiner.bin"]
    assert len(server.messages) == 2


@pytest.mark.parametrize("status", [409, 412])
def test_a_commit_of_somebody_elses_meanwhile_is_said(
    server: UploadHub, client: Client, status: int
) -> None:
    server.fail("commit", status)
    message = refused(client, client.run())
    assert "somebody else has changed it meanwhile" in message and f"answered {status}" in message
    assert not server.messages


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"HF_TOKEN": "hf_wrong"}, "answered 401: no access. Log in with `hf auth login`, or set"),
        ({"HF_TOKEN": "hf_reader"}, "answered 403: no access. Log in with `hf auth login`, or set"),
        ({"HF_TOKEN": ""}, "not published, for there is no token"),
        ({"HF_HUB_OFFLINE": "1"}, "not published, for offline mode is on"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "could not be reached"),
    ],
)
def test_who_may_not_write_is_told(
    server: UploadHub, client: Client, variables: dict[str, str], message: str
) -> None:
    done = client.run(**variables)
    said = refused(client, done)
    assert message in said
    assert "hf_wrong" not in said and "hf_reader" not in said
    assert not server.commits


def test_metadata_that_the_hub_refuses_is_said(server: UploadHub, client: Client) -> None:
    client.write(LARGE | {"README.md": b"---\nlanguage: en\n---\n"})
    assert '"license" is required' in refused(client, client.run())
    assert not server.got("put") and not server.messages


def test_a_file_that_the_hub_ignores_is_said(server: UploadHub, client: Client) -> None:
    server.ignored.add("joiner.bin")
    message = refused(client, client.run())
    assert "published in part" in message and "joiner.bin did not get there" in message


def test_a_repository_of_something_else_is_left_alone(server: UploadHub, client: Client) -> None:
    server.commit(REPOSITORY, {contents.SUMS: b"not of a release"})
    server.private.add(REPOSITORY)
    assert "its SHA256SUMS is not of a release" in refused(client, client.run())
    assert not server.messages
