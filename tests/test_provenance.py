"""manifest.json against sha256sum, and what the check finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.fingerprints import fingerprint
from transducer2ncnn.workflow import provenance


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    for precision in ("fp16", "int8"):
        (folder / "sherpa-ncnn" / precision).mkdir(parents=True)
        for name in ("encoder.bin", "tokens.txt"):
            (folder / "sherpa-ncnn" / precision / name).write_text(f"{precision} {name}")
        record(folder, precision)
    write_manifest(folder)
    return tmp_path


def record(folder: Path, precision: str) -> None:
    """As the job that delivers a precision does."""
    delivered = folder / "sherpa-ncnn" / precision
    files = {f.name: fingerprint(f) for f in delivered.iterdir()}
    (folder / "delivered").mkdir(exist_ok=True)
    (folder / "delivered" / f"{precision}.json").write_text(json.dumps({"files": files}))


def write_manifest(folder: Path) -> None:
    """As the job that writes it does."""
    delivered = provenance.recorded(sorted((folder / "delivered").iterdir()))
    provenance.check_delivered(folder, delivered)
    source = {"kind": "file", "files": {}}
    made = provenance.make(source, {"family": "lstm"}, delivered, folder.name, {}, {}, [])
    (folder / "manifest.json").write_text(json.dumps(made))


def test_fingerprints_are_those_of_sha256sum(results: Path) -> None:
    stated = json.loads((results / "m" / "manifest.json").read_text())
    assert stated["model"] == "m" and len(stated["delivered"]) == 4
    assert stated["versions"].keys() == {"torch", "pnnx", "ncnn", "sherpa-ncnn"}
    for file, found in stated["delivered"].items():
        path = results / "m" / file
        said = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
        assert found == {"size": path.stat().st_size, "sha256": said.stdout.split()[0]}


def check(results: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "workflow_scripts.check_manifest", "--results", results]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_check_finds_every_difference(results: Path) -> None:
    done = check(results)
    assert done.returncode == 0 and "m: as its manifest says" in done.stdout
    int8 = results / "m" / "sherpa-ncnn" / "int8"
    (int8 / "encoder.bin").write_text("int8 encoder.bim")
    (int8 / "tokens.txt").unlink()
    (int8 / "extra.txt").touch()
    (int8.parent / "fp16" / "tokens.txt").write_text("more than there was")
    done = check(results)
    assert done.returncode == 1
    for found in (
        "int8/encoder.bin: was changed",
        "int8/tokens.txt: is missing",
        "int8/extra.txt: was not delivered",
        "fp16/tokens.txt: has 19 bytes, 15 were delivered",
    ):
        assert found in done.stderr
    assert "fp16/encoder.bin" not in done.stderr


def test_what_was_changed_is_not_manifested_anew(results: Path) -> None:
    folder = results / "m"
    before = (folder / "manifest.json").read_text()
    tokens = folder / "sherpa-ncnn" / "int8" / "tokens.txt"
    tokens.write_text("int8 tokens.tx!")
    with pytest.raises(UserError, match="int8/tokens.txt: was changed; its SHA-256 is"):
        write_manifest(folder)
    assert (folder / "manifest.json").read_text() == before
    # Nor is it believed where somebody wrote a manifest of what is there, or removed it.
    stated = json.loads(before)
    stated["delivered"]["sherpa-ncnn/int8/tokens.txt"] = fingerprint(tokens)
    (folder / "manifest.json").write_text(json.dumps(stated))
    done = check(results)
    assert done.returncode == 1
    assert "states another sherpa-ncnn/int8/tokens.txt than was delivered" in done.stderr
    assert "int8/tokens.txt: was changed" in done.stderr
    (folder / "manifest.json").unlink()
    done = check(results)
    assert "int8/tokens.txt: was changed" in done.stderr
    assert "m/manifest.json: not there" in done.stderr
    # The job that delivers it again records it again.
    record(folder, "int8")
    write_manifest(folder)
    assert check(results).returncode == 0


def test_what_cannot_be_checked_is_said(results: Path, tmp_path: Path) -> None:
    path = results / "m" / "manifest.json"
    path.write_text('{"delivered": {"../../../etc/passwd": {"size": 1, "sha256": ""}}}')
    with pytest.raises(UserError, match="refused, for it names the file '../../../etc/passwd'"):
        list(provenance.differences(results / "m"))
    record = results / "m" / "delivered" / "int8.json"
    kept = record.read_text()
    record.write_text('{"files": {"../../x": {"size": 1, "sha256": ""}}}')
    with pytest.raises(UserError, match="refused, for it names the file '../../x'"):
        provenance.recorded([record])
    record.write_text(kept)
    path.write_text("[]")
    with pytest.raises(UserError, match="is no manifest that this workflow wrote"):
        list(provenance.differences(results / "m"))
    path.unlink()
    assert "m/manifest.json: not there" in check(results).stderr
    assert "holds no delivered model" in check(results / "nowhere").stderr
