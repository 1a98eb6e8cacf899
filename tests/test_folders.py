"""Folders of recordings: every format that can be read is taken, and no other is left unsaid."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.speech import audio
from transducer2ncnn.speech.folders import recordings_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Half a second of noise in several formats, in folders, beside what is no recording."""
    folder = tmp_path / "wavs"
    (folder / "below").mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000)
    for name in ("a.wav", "b.WAV", "c.flac", "below/d.mp3", "e.ogg", "f.Aiff", "below/g.au"):
        soundfile.write(folder / name, noise, 16000)
    soundfile.write(folder / "h.opus", noise, 16000, format="OGG", subtype="OPUS")
    soundfile.write(folder / "i.sph", noise, 16000, format="NIST")
    for name in ("transcripts.tsv", "README", ".hidden.wav", "x.lab"):
        (folder / name).write_text("no recording")
    (folder / "below" / "up").symlink_to(folder)
    return folder


def test_all_that_soundfile_reads_is_taken(folder: Path) -> None:
    found = recordings_in(folder)
    names = [
        "a.wav",
        "b.WAV",
        "below/d.mp3",
        "below/g.au",
        "c.flac",
        "e.ogg",
        "f.Aiff",
        "h.opus",
        "i.sph",
    ]
    assert found == [str(folder / name) for name in names]
    for path in found:
        audio.check(path)


def test_recordings_that_cannot_be_read_are_named(folder: Path) -> None:
    for name in ("x.m4a", "below/y.AMR"):
        (folder / name).write_bytes(b"?")
    with pytest.raises(UserError) as caught:
        recordings_in(folder)
    assert str(caught.value).startswith(f"{folder}/below/y.AMR, {folder}/x.m4a: cannot be read")
    assert "ffmpeg" in str(caught.value)


def check(tmp_path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workflow_scripts.check_audio", "--model", "m", *arguments]
    command += ["--output", tmp_path / "audio.json"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_everything_wrong_with_a_models_recordings_is_said_at_once(folder: Path) -> None:
    """A header may be right where what follows is not."""
    flac = (folder / "c.flac").read_bytes()
    (folder / "c.flac").write_bytes(flac[: len(flac) // 2])
    soundfile.write(folder / "nan.wav", np.full(16, np.nan), 16000, subtype="FLOAT")
    (folder / "list.txt").write_text(f"{folder}/nan.wav\n{folder}/b.WAV\n")
    (folder / "said.tsv").write_text("wav\ttext\na.wav\t\ngone.wav\tX\n")
    (folder / "table.tsv").write_text("file\ttext\n")
    given = ["--wavs", folder / "a.wav", folder / "c.flac", "--listed", folder / "list.txt"]
    given += ["--transcripts", folder / "table.tsv", "--manifest", folder / "said.tsv"]
    done = check(folder, *given)
    assert done.returncode == 1 and not (folder / "audio.json").exists()
    first, *lines = done.stderr.splitlines()
    assert first == "error: the recordings of m: 5 wrong, to be corrected or left out:"
    beginnings = ["c.flac: ", "nan.wav: holds samples", "table.tsv: expected a tab-separated table"]
    beginnings += ["said.tsv, line 2: 'a.wav' has an empty", "said.tsv, line 3: "]
    for line, expected in zip(lines, beginnings, strict=True):
        assert line.startswith(f"  {folder}/{expected}")


def test_recordings_with_nothing_wrong_are_counted(folder: Path) -> None:
    (folder / "said.tsv").write_text("wav\ttext\nbelow/d.mp3\tX\n")
    given = ["--wavs", folder / "a.wav", folder / "h.opus", "--manifest", "said.tsv"]
    done = check(folder, *given, "--root", folder)
    assert "said.tsv" in done.stderr  # it is not where the command runs
    done = check(folder, *given[:-1], folder / "said.tsv", "--root", folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "audio.json").read_text()) == {"wavs": 2, "evaluation": 1}
