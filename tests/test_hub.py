"""The Hub, by the real client against a server on the loopback that also fails."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, mounted
from hub_server import Files, HubServer, environment, serving

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.source import hub, persistence

#: Beyond the client's buffer of 10 MiB, so that what came before a fault is on disk.
LARGE = b"".join(i.to_bytes(4, "big") for i in range(6_000_000))

FILES: Files = {
    "exp/pretrained.pt": LARGE,
    "tokens.txt": b"<blk> 0\n",
    "test_wavs/b.wav": b"b" * 3000,
    "test_wavs/a.wav": b"a" * 20,
    "test_wavs/more/c.wav": b"c",
}

CLIENT = """
import json, sys
from transducer2ncnn.base import errors
from transducer2ncnn.source import hub, persistence
persistence.WAITS = (0.05, 0.1)
def main():
    repo_id, revision, record, *wanted = sys.argv[1:]
    snapshot = hub.resolve(repo_id, revision, record)
    print(snapshot.commit)
    for path in wanted:
        file = snapshot.file(path, "models.m.checkpoint")
        hub.download(repo_id, snapshot.commit, file, "got/" + path)
errors.run(main)
"""


class Client:
    """A machine with its own home and folder, which runs the client in a process of its own."""

    def __init__(self, server: HubServer, folder: Path) -> None:
        self.server, self.folder, self.home = server, folder, folder / "home"

    def run(
        self, *files: str, repo_id: str = "owner/model", revision: str = "main", **variables: str
    ) -> subprocess.CompletedProcess:
        variables = environment(self.server, self.home) | {"PYTHONPATH": str(ROOT)} | variables
        return subprocess.run(
            [sys.executable, "-c", CLIENT, repo_id, revision, "record.json", *files],
            cwd=self.folder,
            env={k: v for k, v in os.environ.items() if not k.startswith("HF_")} | variables,
            capture_output=True,
            text=True,
        )

    def got(self, path: str) -> bytes:
        return (self.folder / "got" / path).read_bytes()


@pytest.fixture
def server() -> Iterator[HubServer]:
    with serving(FILES) as server:
        yield server


@pytest.fixture
def client(server: HubServer, tmp_path: Path) -> Client:
    return Client(server, tmp_path)


def succeeded(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr
    return done.stderr


def refused(done: subprocess.CompletedProcess) -> str:
    """The one message, which is what a person sees."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


def test_only_the_files_that_are_named_are_fetched(server: HubServer, client: Client) -> None:
    stderr = succeeded(client.run("exp/pretrained.pt", "tokens.txt"))
    assert client.got("exp/pretrained.pt") == LARGE
    assert client.got("tokens.txt") == FILES["tokens.txt"]
    assert not any("wav" in path for _, path, _ in server.requests)
    assert "exp/pretrained.pt: 24.0 of 24.0 MB" in stderr  # progress
    # Another run, of another folder, has them from the client's cache.
    before = len(server.got("get"))
    other = Client(server, client.folder / "other")
    other.folder.mkdir()
    other.home = client.home
    succeeded(other.run("exp/pretrained.pt"))
    assert other.got("exp/pretrained.pt") == LARGE
    assert len(server.got("get")) == before


@pytest.mark.parametrize("fault", ["drop", "reset"])
def test_a_broken_transfer_is_resumed(server: HubServer, client: Client, fault: str) -> None:
    server.fail("get", fault)
    succeeded(client.run("exp/pretrained.pt"))
    assert client.got("exp/pretrained.pt") == LARGE
    ranges = [range_ for kind, _, range_ in server.requests if kind == "get"]
    assert ranges[0] is None
    # From where the first one ended, to the client's last full buffer.
    assert len(ranges) == 2 and int(ranges[1].removeprefix("bytes=").removesuffix("-")) > 10_000_000


def test_a_passing_failure_is_tried_again(server: HubServer, client: Client) -> None:
    server.fail("api", 503, 429)
    server.fail("get", 503)
    stderr = succeeded(client.run("exp/pretrained.pt"))
    assert client.got("exp/pretrained.pt") == LARGE
    assert "it answered 503 Service Unavailable; trying again" in stderr
    assert "it answered 429 Too Many Requests; trying again" in stderr


def test_waits_grow_and_heed_what_the_server_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(persistence.WAITS) == sorted(persistence.WAITS)
    slept: list[float] = []
    monkeypatch.setattr(persistence.time, "sleep", slept.append)
    request = persistence.httpx2.Request("GET", "http://127.0.0.1/")

    def busy() -> None:
        response = persistence.httpx2.Response(429, headers={"Retry-After": "5"}, request=request)
        raise persistence.hf_errors.HfHubHTTPError("busy", response=response)

    with pytest.raises(persistence.UnreachableError, match="answered 429"):
        persistence.persistent(busy, "x", expected=0, refuse=hub._refuse)
    assert slept == [max(wait, 5.0) for wait in persistence.WAITS]


def test_what_arrived_damaged_is_fetched_once_more(server: HubServer, client: Client) -> None:
    server.fail("get", "damage")
    assert "arrived damaged" in succeeded(client.run("exp/pretrained.pt"))
    assert client.got("exp/pretrained.pt") == LARGE


@pytest.mark.parametrize("path", ["exp/pretrained.pt", "tokens.txt"])
def test_what_stays_damaged_is_refused_and_not_kept(
    server: HubServer, client: Client, path: str
) -> None:
    server.fail("get", "damage", "damage")
    message = refused(client.run(path))
    assert f"{path} of owner/model arrived twice with the hash" in message
    assert not (client.folder / "got" / path).exists()
    server.fail("get")
    succeeded(client.run(path))
    assert client.got(path) == FILES[path]


def test_a_damaged_cache_is_not_believed(server: HubServer, client: Client) -> None:
    succeeded(client.run("tokens.txt"))
    (cached,) = client.home.rglob("snapshots/*/tokens.txt")
    cached.resolve().write_bytes(b"<blk> 1\n")
    succeeded(client.run("tokens.txt"))
    assert client.got("tokens.txt") == FILES["tokens.txt"]
    cached.resolve().write_bytes(b"<blk> 1\n")
    (client.folder / "got/tokens.txt").unlink()
    message = refused(client.run("tokens.txt", HF_HUB_OFFLINE="1"))
    assert "tokens.txt of owner/model: offline mode is on" in message
    assert not (client.folder / "got/tokens.txt").exists()


def test_a_revision_is_resolved_to_its_commit(server: HubServer, client: Client) -> None:
    first = server.refs["owner/model", "main"]
    second = server.commit("owner/model", {"tokens.txt": b"other"})
    server.refs["owner/model", "v1"] = first
    for revision, commit in (("main", second), ("v1", first), (first, first)):
        done = client.run("tokens.txt", revision=revision)
        succeeded(done)
        assert done.stdout.strip() == commit
        assert client.got("tokens.txt") == server.commits["owner/model", commit]["tokens.txt"]
    assert json.loads((client.folder / "record.json").read_text())["commit"] == first


def test_a_private_repository_takes_a_token(server: HubServer, client: Client) -> None:
    server.private.add("owner/model")
    message = refused(client.run("tokens.txt"))
    assert "no such repository, or it is private" in message and "HF_TOKEN" in message
    succeeded(client.run("tokens.txt", HF_TOKEN=server.token))
    assert client.got("tokens.txt") == FILES["tokens.txt"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"repo_id": "owner/nowhere"}, "knows no such repository, or it is private. Check `repo_"),
        ({"revision": "v9"}, "owner/model at v9: there is no such revision. Correct `revision`"),
        ({"path": "exp/pretraind.pt"}, "no 'exp/pretraind.pt' at main.*There: exp/pretrained.pt"),
    ],
)
def test_what_is_not_there_is_said(client: Client, asked: dict[str, str], message: str) -> None:
    path = asked.pop("path", "tokens.txt")
    assert re.search(message, refused(client.run(path, **asked)))


def test_a_gated_repository_names_its_terms(server: HubServer, client: Client) -> None:
    server.gated.add("owner/model")
    assert "accepted its terms" in refused(client.run("tokens.txt"))


@pytest.mark.parametrize("status", [401, 403])
def test_no_access_says_how_to_get_it(server: HubServer, client: Client, status: int) -> None:
    server.fail("api", status)
    message = refused(client.run("tokens.txt"))
    assert f"answered {status}" in message or "private" in message
    assert "HF_TOKEN" in message


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_stays_down_is_said_to_be(
    server: HubServer, client: Client, status: int
) -> None:
    server.fail("api", *[status] * 9)
    message = refused(client.run("tokens.txt"))
    assert f"answered {status}" in message
    assert "Run once with the Hub in reach" in message


def test_without_the_hub_the_last_finding_counts(server: HubServer, client: Client) -> None:
    succeeded(client.run("tokens.txt"))
    commit = server.refs["owner/model", "main"]
    (client.folder / "got/tokens.txt").unlink()
    server.commit("owner/model", {"tokens.txt": b"other"})
    offline = client.run("tokens.txt", HF_HUB_OFFLINE="1")
    succeeded(offline)
    unreachable = client.run("tokens.txt", HF_ENDPOINT="http://127.0.0.1:9")
    assert f"Going on with owner/model at commit {commit}" in succeeded(unreachable)
    for done in (offline, unreachable):
        assert done.stdout.strip() == commit
    assert client.got("tokens.txt") == FILES["tokens.txt"]


def test_without_the_hub_a_filled_cache_does(server: HubServer, client: Client) -> None:
    subprocess.run(
        [Path(sys.executable).with_name("hf"), "download", "owner/model", "tokens.txt"],
        env=os.environ | environment(server, client.home),
        check=True,
        capture_output=True,
    )
    done = client.run("tokens.txt", HF_HUB_OFFLINE="1")
    succeeded(done)
    assert done.stdout.strip() == server.refs["owner/model", "main"]
    assert client.got("tokens.txt") == FILES["tokens.txt"]


def test_without_the_hub_and_with_nothing_known_there_is_one_message(client: Client) -> None:
    message = refused(client.run("tokens.txt", HF_ENDPOINT="http://127.0.0.1:9"))
    assert "the Hub could not be reached" in message and "Run once with the Hub in reach" in message
    message = refused(client.run("tokens.txt", HF_HUB_OFFLINE="1"))
    assert "offline mode is on" in message


def test_a_file_that_offline_mode_lacks_is_named(client: Client) -> None:
    succeeded(client.run("tokens.txt"))
    message = refused(client.run("test_wavs/a.wav", HF_HUB_OFFLINE="1"))
    assert "test_wavs/a.wav of owner/model" in message and "offline mode is on" in message


@pytest.mark.parametrize(
    "error",
    [
        hub.httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"),
        hub.httpx2.ProxyError("407 Proxy Authentication Required"),
    ],
)
def test_a_proxy_that_refuses_is_asked_once(error: Exception) -> None:
    asked = []

    def ask() -> None:
        asked.append(error)
        raise error

    with pytest.raises(UserError, match="x: .*Is https://huggingface.co a Hub.*SSL_CERT_FILE"):
        persistence.persistent(ask, "x", expected=0, refuse=hub._refuse)
    assert len(asked) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small-disk", megabytes=4) as disk:
        yield disk


def test_a_full_disk_is_said_and_leaves_nothing(client: Client, small_disk: Path) -> None:
    client.home = small_disk
    message = refused(client.run("exp/pretrained.pt"))
    assert "the disk is full" in message and "HF_HOME" in message
    assert not (client.folder / "got/exp/pretrained.pt").exists()
    assert sum(f.stat().st_size for f in small_disk.rglob("*") if f.is_file()) < 1_000_000


def test_a_path_that_leads_out_is_refused(server: HubServer, client: Client) -> None:
    server.commit("owner/model", {"../../evil": b"x", "tokens.txt": b"y"})
    assert "refused, for it lists a file with the path '../../evil'" in refused(
        client.run("tokens.txt")
    )


def snapshot() -> hub.Snapshot:
    files = (hub.HubFile(path, len(x), hashlib.sha256(x).hexdigest()) for path, x in FILES.items())
    return hub.Snapshot("owner/model", "main", "0" * 40, tuple(files))


def test_a_pattern_stays_within_its_folder() -> None:
    found = snapshot().matching(["test_wavs/*.wav"], "models.m.test_wavs")
    assert [file.path for file in found] == ["test_wavs/a.wav", "test_wavs/b.wav"]
    with pytest.raises(UserError, match=r"models.m.test_wavs: owner/model has no 'wavs/\*.wav'"):
        snapshot().matching(["wavs/*.wav"], "models.m.test_wavs")
