"""A Hub that means harm, or is none: refused before anything is written, whatever it answers."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hub_server import HubServer, Lie, environment, serving

SMALL, LARGE = "tokens.txt", "exp/pretrained.pt"
FILES = {SMALL: b"<blk> 0\n", LARGE: b"x" * 5000}

#: Resolves and fetches, a file each time, and says how it ended.
CLIENT = """
import json, os, sys
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.source import answers, hub, persistence
persistence.WAITS = (0.01,) * int(os.environ.get("FURTHER_TRIES", 0))
hub.MAX_PAGE = answers.MAX_ERROR = 100_000
for i, path in enumerate(sys.argv[1:]):
    try:
        snapshot = hub.resolve("owner/model", "main", f"records/{i}.json")
        file = snapshot.file(path, "models.m.checkpoint")
        hub.download("owner/model", snapshot.commit, file, f"got/{i}")
        said = "accepted"
    except UserError as e:
        said = f"refused: {e}"
    except Exception as e:
        said = f"{type(e).__name__}: {e}"
    print("SAID", json.dumps(said), flush=True)
"""

#: Where the client may write: the record of what was resolved, what was fetched, and its cache.
WRITTEN = ("run/records/", "run/got/", "home/hub/models--owner--model/", "home/hub/.locks/")


@pytest.fixture
def server() -> Iterator[HubServer]:
    with serving(FILES) as server:
        yield server


def ask(server: HubServer, folder: Path, *paths: str, further_tries: int = 0) -> list[str]:
    """How each attempt to fetch a file ended."""
    (folder / "run").mkdir(parents=True)
    variables = environment(server, folder / "home") | {"PYTHONPATH": str(ROOT)}
    variables["FURTHER_TRIES"] = str(further_tries)
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, *paths],
        cwd=folder / "run",
        env={k: v for k, v in os.environ.items() if not k.startswith("HF_")} | variables,
        capture_output=True,
        text=True,
    )
    said = [json.loads(x[5:]) for x in done.stdout.splitlines() if x.startswith("SAID ")]
    assert len(said) == len(paths), done.stderr[-2000:]
    return said


def files(folder: Path) -> set[str]:
    found = (f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
    return {f for f in found if not f.endswith("CACHEDIR.TAG")}


PATHS = ("../" * 8 + "tmp/evil", "/tmp/evil", "..", "a/b", "x" * 5000, "0" * 39, "0" * 41, "é" * 40)


def test_a_tag_or_a_commit_that_is_a_path_is_refused(server: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    lies = []
    for value in (*PATHS, "../evil", "../../../../evil"):
        value = value.encode().decode("latin-1")
        for header in ("X-Repo-Commit", "ETag", "X-Linked-ETag", "X-Xet-Hash"):
            lies.append(Lie({header: value}))
            lies.append(Lie({header: f'"{value}"'}))
    # What the client makes note of where there is no file.
    lies += [
        Lie({"X-Repo-Commit": value, "X-Error-Code": "EntryNotFound"}, status=404)
        for value in ("../../../../evil", "/tmp/evil")
    ]
    lies += [Lie({"X-Linked-Size": value}) for value in ("-5", "five", "9" * 400, "1e9", "")]
    server.lies["head"] = iter(lies)
    said = ask(server, folder, *[SMALL] * len(lies))
    for lie, ending in zip(lies, said, strict=True):
        assert ending.startswith("refused: tokens.txt of owner/model: refused an answer"), (
            lie,
            ending,
        )
    # All that is there is what was resolved.
    assert files(tmp_path) == {f"deep/er/run/records/{i}.json" for i in range(len(lies))}


def test_a_tag_of_a_redirection_is_not_used(server: HubServer, tmp_path: Path) -> None:
    """Those have some that mean nothing; the client would take one for the file's."""
    hash_ = server.hashes["owner/model", server.refs["owner/model", "main"]][SMALL]
    address = f"http://localhost:{server.server_address[1]}/cdn/{hash_}"
    elsewhere = {"ETag": '"../../../../evil"', "Location": address}
    harmless = Lie({"ETag": 'W/"31-abcdef"', "Location": f"/owner/model/resolve/main/{SMALL}"})
    harmless.status = 307
    server.lies["head"] = iter([Lie(elsewhere, status=302), harmless, None])
    first, second = ask(server, tmp_path, SMALL, SMALL)
    assert first.startswith("refused: ")
    assert second == "accepted"
    assert all(f.startswith(WRITTEN) for f in files(tmp_path))


def page(server: HubServer, change: Callable[[dict[str, Any]], Any]) -> Lie:
    """The model's page with something changed in it."""
    commit = server.refs["owner/model", "main"]
    hashes = server.hashes["owner/model", commit]
    large = {"sha256": hashes[LARGE], "size": len(FILES[LARGE]), "pointerSize": 134}
    siblings: list[Any] = [
        {"rfilename": SMALL, "size": len(FILES[SMALL]), "blobId": hashes[SMALL]},
        {"rfilename": LARGE, "size": len(FILES[LARGE]), "blobId": "0" * 40, "lfs": large},
    ]
    whole = {"_id": "1", "id": "owner/model", "sha": commit, "siblings": siblings}
    changed = change(whole)
    return Lie(body=json.dumps(whole if changed is None else changed).encode())


def test_a_page_that_makes_no_sense_is_refused_and_not_recorded(
    server: HubServer, tmp_path: Path
) -> None:
    def put(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
        return lambda whole: whole.update({key: value})

    def put_file(key: str, value: Any, i: int = 0) -> Callable[[dict[str, Any]], None]:
        return lambda whole: whole["siblings"][i].update({key: value})

    changes = [put("sha", value) for value in (*PATHS, None, 7, ["0" * 40], {"a": 1}, "", "F" * 40)]
    changes += [put("siblings", value) for value in (None, "ab", 5, {"a": 1}, [None], [[]], ["x"])]
    names = (
        "../evil",
        "/evil",
        "a//b",
        "a/../b",
        "",
        ".",
        "a\0b",
        "a\nb",
        "\ud800",
        7,
        None,
        ["a"],
    )
    changes += [put_file("rfilename", value) for value in names]
    sizes = (-1, "8", None, 1.5, True, 2**60, [8], 10**400)
    changes += [put_file("size", value) for value in sizes]
    hashes = (*PATHS, None, 7, ["0" * 40], "F" * 40)
    changes += [put_file("blobId", value) for value in hashes]
    changes += [put_file("lfs", value, 1) for value in ("ab", 5, [1], {"sha256": "../evil"})]
    changes += [
        lambda whole, value=value: whole["siblings"][1]["lfs"].update(sha256=value)
        for value in hashes
    ]
    changes += [lambda whole, value=value: value for value in ([], "text", 5, True, [[]])]
    changes += [put("lastModified", value) for value in (5, "yesterday", [1])]
    lies = [page(server, change) for change in changes]
    lies += [
        Lie(body=body)
        for body in (
            b"",
            b"no JSON",
            b"[" * 90_000,
            b'{"a":' * 10_000,
            b"\xff\xfe",
            b'{"sha": NaN}',
            b"9" * 5000,
        )
    ]
    server.lies["api"] = iter(lies)
    said = ask(server, tmp_path, *[SMALL] * len(lies))
    for lie, ending in zip(lies, said, strict=True):
        assert ending.startswith("refused: "), (lie, ending)
    assert files(tmp_path) == set()


def test_the_page_without_a_change_is_accepted(server: HubServer, tmp_path: Path) -> None:
    server.lies["api"] = iter([page(server, lambda whole: None)] * 2)
    assert ask(server, tmp_path, SMALL, LARGE) == ["accepted", "accepted"]
    assert (tmp_path / "run/got/1").read_bytes() == FILES[LARGE]


@pytest.mark.parametrize("kind", ["api", "get"])
def test_an_answer_that_would_fill_memory_or_disk_is_refused(
    server: HubServer, tmp_path: Path, kind: str
) -> None:
    lies = [
        Lie({"Content-Encoding": "gzip"}, gzip.compress(bytes(10_000_000))),
        Lie({"Content-Encoding": "deflate"}, b"x"),
        Lie(body=b" " * 300_000),
    ]
    server.lies[kind] = iter(lies)
    compressed, other, large = ask(server, tmp_path, SMALL, SMALL, SMALL)
    assert "refused an answer whose Content-Encoding is 'gzip'" in compressed
    assert "refused an answer whose Content-Encoding is 'deflate'" in other
    assert "refused an answer of more than the" in large
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 10_000
    assert not list((tmp_path / "run").rglob("got/*"))


def test_answers_are_asked_for_uncompressed(server: HubServer, tmp_path: Path) -> None:
    assert ask(server, tmp_path, SMALL, LARGE) == ["accepted", "accepted"]
    assert server.encodings == {"identity"}
    assert all(f.startswith(WRITTEN) for f in files(tmp_path))


PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"
SIGN_IN = {"Content-Type": "text/html; charset=utf-8"}

#: How many requests each takes, with what it says.
IN_BETWEEN: dict[str, list[tuple[Lie, int, str]]] = {
    "api": [
        (Lie(SIGN_IN, PAGE), 1, "is a web page (status 200 OK)"),
        (Lie(SIGN_IN, PAGE, 403), 1, "is a web page (status 403 Forbidden)"),
        (Lie(SIGN_IN, PAGE, 407), 1, "is a web page (status 407"),
        (Lie(SIGN_IN, PAGE, 511), 1, "is a web page (status 511"),
        (Lie({"Content-Type": "text/plain"}, b"Welcome"), 1, "answers as no Hub does"),
        (Lie({"Location": "/api/models/owner/model"}, b"", 302), 21, "TooManyRedirects"),
    ],
    "head": [
        (Lie(SIGN_IN, PAGE), 1, "is a web page (status 200 OK)"),
        (Lie({"X-Repo-Commit": None}), 1, "missing the 'X-Repo-Commit' header"),
        (Lie({"ETag": None, "X-Linked-ETag": None}), 1, "answers as no Hub does"),
        (Lie({"Location": f"/owner/model/resolve/main/{SMALL}"}, b"", 302), 21, "TooManyRedirects"),
    ],
    "get": [
        (Lie(SIGN_IN, PAGE), 1, "is a web page (status 200 OK)"),
        (Lie({"Location": f"/owner/model/resolve/main/{SMALL}"}, b"", 302), 21, "TooManyRedirects"),
    ],
}


@pytest.mark.parametrize("kind", list(IN_BETWEEN))
def test_who_answers_in_the_hubs_place_is_found_out_at_once(
    server: HubServer, tmp_path: Path, kind: str
) -> None:
    cases = IN_BETWEEN[kind]
    server.lies[kind] = iter([lie for lie, count, _ in cases for _ in range(count)])
    said = ask(server, tmp_path, *[SMALL] * len(cases), further_tries=1)
    for (_, _, message), ending in zip(cases, said, strict=True):
        assert ending.startswith("refused: ") and message in ending
        assert "a network's portal that asks for a login? Log in there, let HTTPS_PROXY" in ending
    # No request was made a second time.
    assert len(server.got(kind)) <= sum(count for _, count, _ in cases)
    assert not list((tmp_path / "run").rglob("got/*"))


def test_a_gateways_page_may_pass(server: HubServer, tmp_path: Path) -> None:
    server.lies["api"] = iter([Lie(SIGN_IN, PAGE, 503), None, Lie(SIGN_IN, PAGE, 429), None])
    assert ask(server, tmp_path, SMALL, SMALL, further_tries=1) == ["accepted", "accepted"]


def test_a_record_that_was_tampered_with_does_not_count(tmp_path: Path) -> None:
    from transducer2ncnn.source import hub

    good: dict[str, Any] = {
        "repo_id": "owner/model",
        "revision": "main",
        "commit": "0" * 40,
        "files": [{"path": "a", "size": 1, "hash": "0" * 40}],
    }
    record = tmp_path / "record.json"
    record.write_text(json.dumps(good))
    assert hub.recorded(record) == hub.Snapshot(
        "owner/model", "main", "0" * 40, (hub.HubFile("a", 1, "0" * 40),)
    )
    file = good["files"][0]
    for bad in (
        good | {"commit": "../evil"},
        good | {"files": [file | {"path": "../evil"}]},
        good | {"files": [file | {"size": -1}]},
        good | {"files": [file | {"hash": "x"}]},
        good | {"files": {"a": 1}},
        {"commit": "0" * 40},
        [],
    ):
        record.write_text(json.dumps(bad))
        assert hub.recorded(record) is None
    record.write_text("[" * 100_000)
    assert hub.recorded(record) is None
