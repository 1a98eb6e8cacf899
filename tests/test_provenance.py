"""manifest.json against sha256sum, and what the check finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.workflow import provenance


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    for precision in ("fp16", "int8"):
        (folder / "sherpa-ncnn" / precision).mkdir(parents=True)
        for name in ("encoder.bin", "tokens.txt"):
            (folder / "sherpa-ncnn" / precision / name).write_text(f"{precision} {name}")
    delivered = [f for f in folder.rglob("*") if f.is_file()]
    made = provenance.make({"kind": "file"}, {"family": "lstm"}, delivered, folder, {}, {}, [])
    (folder / "manifest.json").write_text(json.dumps(made))
    return tmp_path


def test_fingerprints_are_those_of_sha256sum(results: Path) -> None:
    stated = json.loads((results / "m" / "manifest.json").read_text())
    assert stated["model"] == "m" and len(stated["delivered"]) == 4
    assert stated["versions"].keys() == {"torch", "pnnx", "ncnn", "sherpa-ncnn"}
    for file, fingerprint in stated["delivered"].items():
        path = results / "m" / file
        said = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
        assert fingerprint == {"size": path.stat().st_size, "sha256": said.stdout.split()[0]}


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


def test_what_cannot_be_checked_is_said(results: Path, tmp_path: Path) -> None:
    path = results / "m" / "manifest.json"
    path.write_text('{"delivered": {"../../../etc/passwd": {"size": 1, "sha256": ""}}}')
    with pytest.raises(UserError, match="refused, for it names the file '../../../etc/passwd'"):
        list(provenance.differences(results / "m"))
    path.write_text("[]")
    with pytest.raises(UserError, match="is no manifest that this workflow wrote"):
        list(provenance.differences(results / "m"))
    path.unlink()
    assert "m/manifest.json: not there" in check(results).stderr
    assert "holds no delivered model" in check(results / "nowhere").stderr
