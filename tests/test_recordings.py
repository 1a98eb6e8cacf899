"""Manifests of recordings and transcripts: three formats, and everything wrong in one message."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import GOLDEN

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.speech import manifests, recordings

WAVS = GOLDEN / "int8" / "wavs"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    """a.wav and b.wav of a second and two, stereo.wav with a tone left and none right."""
    rng = np.random.default_rng(0)
    for name, seconds in (("a", 1), ("b", 2)):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal(16000 * seconds), 16000)
    tone = np.sin(np.arange(16000) / 10)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone, 0 * tone], axis=1), 16000)
    soundfile.write(tmp_path / "slow.wav", np.zeros(8000), 8000)
    (tmp_path / "noise.wav").write_bytes(b"not audio at all")
    return tmp_path


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def cut(**changes: Any) -> dict[str, Any]:
    """A cut as lhotse writes it."""
    source = {"type": "file", "channels": [0], "source": "b.wav"}
    recording = {
        "id": "rec",
        "sources": [source],
        "sampling_rate": 16000,
        "num_samples": 32000,
        "duration": 2.0,
        "channel_ids": [0],
    }
    supervision = {"id": "s", "recording_id": "rec", "start": 0.0, "duration": 1.0, "channel": 0}
    return {
        "id": "cut-1",
        "start": 0.5,
        "duration": 1.25,
        "channel": 0,
        "supervisions": [supervision | {"text": "HELLO WORLD"}],
        "recording": recording,
        "type": "MonoCut",
    } | changes


def problems(manifest: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        recordings.check(manifest)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith(f"{manifest}: {len(lines)} wrong")
    return [line.strip() for line in lines]


def test_a_table() -> None:
    found = recordings.check(WAVS / "transcripts.tsv")
    assert [u.id for u in found] == [f"tts-0{i}.wav" for i in range(5)]
    assert found[1].text == "SIX TWO SIX SEVEN NINE ONE"
    info = soundfile.info(WAVS / "tts-01.wav")
    assert found[1].wav == str(WAVS / "tts-01.wav")
    assert (found[1].start, found[1].duration) == (0.0, info.frames / 16000)
    samples, _ = soundfile.read(WAVS / "tts-01.wav", dtype="float32")
    np.testing.assert_array_equal(recordings.read(found[1]), samples)


def test_a_table_with_ids_and_paths_from_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "lists").mkdir()
    table = write(
        folder / "lists" / "x.tsv", "id\twav\ttext", f"1\t{folder}/a.wav\tA", '2\tb.wav\t"B"'
    )
    monkeypatch.chdir(folder)
    assert [(u.id, u.wav, u.text) for u in recordings.check(table)] == [
        ("1", f"{folder}/a.wav", "A"),
        ("2", "b.wav", '"B"'),
    ]


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_lhotse_cuts(folder: Path, name: str) -> None:
    long = cut()
    early, late = (
        {**long["supervisions"][0], "start": s, "text": t} for s, t in ((0, "A"), (1, "B"))
    )
    lines = [json.dumps(c) for c in (long, cut(id="cut-2", supervisions=[late, early], start=0.0))]
    text = "\n".join(lines).encode()
    (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    one, two = recordings.check(folder / name)
    assert (one.id, one.text, one.start, one.duration) == ("cut-1", "HELLO WORLD", 0.5, 1.25)
    assert two.text == "A B"
    samples, _ = soundfile.read(folder / "b.wav", dtype="float32")
    np.testing.assert_array_equal(recordings.read(one), samples[8000:28000])


def test_a_cut_is_of_one_channel_and_a_table_averages_them(folder: Path) -> None:
    source = {"type": "file", "channels": [0, 1], "source": "stereo.wav"}
    recording = cut()["recording"] | {"sources": [source]}
    cuts = [cut(id=str(c), channel=c, recording=recording, start=0, duration=1) for c in (0, 1)]
    left, right = recordings.check(write(folder / "c.jsonl", *map(json.dumps, cuts)))
    (both,) = recordings.check(write(folder / "t.tsv", "wav\ttext", "stereo.wav\tX"))
    assert np.abs(recordings.read(left)).max() > 0.9
    assert np.abs(recordings.read(right)).max() == 0
    np.testing.assert_allclose(recordings.read(both), recordings.read(left) / 2, atol=1e-6)


def test_a_kaldi_folder(folder: Path) -> None:
    write(folder / "wav.scp", f"one {folder}/a.wav", "two b.wav")
    write(folder / "text", "two SECOND  TEXT", "one FIRST")
    found = recordings.check(folder)
    assert [(u.id, u.text, u.duration) for u in found] == [
        ("one", "FIRST", 1.0),
        ("two", "SECOND  TEXT", 2.0),
    ]


def test_a_kaldi_folder_with_segments(folder: Path) -> None:
    write(folder / "wav.scp", "rec b.wav")
    write(folder / "segments", "u1 rec 0.25 1.00", "u2 rec 1.00 -1")
    write(folder / "text", "u1 A", "u2 B")
    found = recordings.check(folder)
    assert [(u.id, u.start, u.duration) for u in found] == [("u1", 0.25, 0.75), ("u2", 1.0, 1.0)]


def test_everything_that_is_wrong_with_a_table_is_listed_at_once(folder: Path) -> None:
    table = write(
        folder / "x.tsv",
        "wav\ttext\tid",
        "a.wav\tFINE\t1",
        "gone.wav\tX\t2",
        "b.wav\t \t3",
        "noise.wav\tX\t4",
        "slow.wav\t\t5",
        "b.wav\tX\t1",
        "a.wav\tX\t6\tmore",
        "\tX\t7",
    )
    found = problems(table)
    for line, expected in zip(
        found,
        [
            f"line 3: {folder}/gone.wav: no such recording.",
            "line 4: '3' has an empty transcript.",
            f"line 5: {folder}/noise.wav: cannot be decoded as audio",
            "line 6: '5' has an empty transcript.",
            "line 7: id '1' was given before, in line 2.",
            "line 8: has more columns than the table's first line.",
            "line 9: names no wav.",
        ],
        strict=True,
    ):
        assert line.startswith(expected)


def test_the_same_wav_twice_without_ids(folder: Path) -> None:
    table = write(folder / "x.tsv", "wav\ttext", "a.wav\tX", "a.wav\tY")
    assert problems(table) == ["line 3: id 'a.wav' was given before, in line 2."]


def test_a_recording_that_is_cut_off(folder: Path) -> None:
    content = (folder / "a.wav").read_bytes()
    (folder / "a.wav").write_bytes(content[: len(content) // 2])
    flac, _ = soundfile.read(folder / "b.wav")
    soundfile.write(folder / "b.flac", flac, 16000)
    content = (folder / "b.flac").read_bytes()
    (folder / "b.flac").write_bytes(content[: len(content) // 2])
    cuts = [
        cut(
            recording=cut()["recording"]
            | {"sources": [{"type": "file", "channels": [0], "source": s}]},
            id=s,
            start=0,
            duration=d,
        )
        for s, d in (("a.wav", 1.0), ("b.flac", 2.0))
    ]
    first, second = problems(write(folder / "c.jsonl", *map(json.dumps, cuts)))
    assert first.startswith(f"line 1: {folder}/a.wav: is cut off: 0.50 s fewer than")
    assert second.startswith(f"line 2: {folder}/b.flac: ")


def test_everything_that_is_wrong_with_cuts(folder: Path) -> None:
    recording = cut()["recording"]
    command = {"type": "command", "channels": [0], "source": "sox …"}
    without = cut()
    del without["supervisions"]
    cuts = [
        json.dumps(cut(type="MixedCut")),
        json.dumps(cut(recording=None)),
        json.dumps(cut(recording=recording | {"sources": [command]})),
        json.dumps(cut(channel=1)),
        json.dumps(cut(start=1.5)),
        json.dumps(cut(recording=recording | {"transforms": [{"name": "Speed"}]})),
        json.dumps(without),
        json.dumps(cut(supervisions=[], id="cut-8")),
        json.dumps([1]),
        "{not json",
    ]
    found = problems(write(folder / "x.jsonl", *cuts))
    for line, expected in zip(
        found,
        [
            "line 1: is a MixedCut; only a MonoCut can be read: save",
            "line 2: has no recording",
            "line 3: its recording comes from a command; expected a file",
            "line 4: its recording has no source with channel 1",
            f"line 5: {folder}/b.wav: from 1.5 s to 2.75 s is not in it; it lasts 2 s",
            "line 6: its recording has the transform Speed, of which only Resample can be applied",
            "line 7: is not a MonoCut with its recording: it has no 'supervisions'",
            "line 8: 'cut-8' has an empty transcript",
            "line 9: is not a MonoCut: expected an object, {…}; found [1].",
            "line 10: is not JSON",
        ],
        strict=True,
    ):
        assert line.startswith(expected)


def test_everything_that_is_wrong_with_a_kaldi_folder(folder: Path) -> None:
    write(
        folder / "wav.scp",
        *("one sph2pipe x.sph |", "two b.wav", "three gone.wav", "two a.wav"),
        *("five x.ark:3", "six cat y |", "seven y.ark", "eight"),
    )
    write(
        folder / "segments",
        *("u1 one 0 1", "u2 two 0 1", "u3 three 0 1", "u4 four 0 1", "u5 two 0", "u7"),
        *("u8 five 0 1", "u9 two 0 1", "v1 two 0 1 -1"),
    )
    write(folder / "text", *(f"u{i} X" for i in (1, 3, 4, 5, 6, 7, 8)), "u9", "v1 X")
    without, command, archive, *others = problems(folder)[1:]
    assert without == "wav.scp, line 8: expected '<recording> <file>', found 'eight'."
    assert command.startswith("wav.scp, line 1: 'one' and 1 more recordings are commands")
    assert archive.startswith("wav.scp, line 5: 'five' and 1 more recordings are inside archives")
    assert "wav-copy" in archive
    assert problems(folder)[0] == "wav.scp, line 4: 'two' was given before, in wav.scp, line 2."
    assert others == [
        "segments, line 2: 'u2' is not in text.",
        f"segments, line 3: {folder}/gone.wav: no such recording.",
        "segments, line 4: recording 'four' is not in wav.scp.",
        "segments, line 5: expected '<utterance> <recording> <start> <end>', found 'u5 two 0'.",
        "segments, line 6: expected '<utterance> <recording> <start> <end>', found 'u7'.",
        "segments, line 8: 'u9' has an empty transcript.",
        "segments, line 9: there is no channel -1.",
        "text, line 5: 'u6' is not in segments.",
    ]


def test_a_kaldi_folder_without_segments_names_what_is_missing(folder: Path) -> None:
    write(folder / "wav.scp", "one a.wav", "two b.wav")
    write(folder / "text", "one X", "three X")
    assert problems(folder) == [
        "wav.scp, line 2: 'two' is not in text.",
        "text, line 2: 'three' is not in wav.scp.",
    ]


def test_the_command_that_is_named_makes_files_of_commands(folder: Path) -> None:
    data = folder / "the data"
    data.mkdir()
    write(data / "wav.scp", "one cat a.wav |", f"two {folder}/b.wav", "three cat b.wav | cat |")
    write(data / "text", "one FIRST", "two SECOND", "three THIRD")
    (problem,) = problems(data)
    command = problem.partition("that names them: ")[2].removesuffix(".")
    subprocess.run(["sh", "-c", command], cwd=folder, check=True)
    found = recordings.check(data)
    assert [(u.id, u.text, u.duration, u.wav) for u in found] == [
        ("one", "FIRST", 1.0, str(data / "wavs" / "one.wav")),
        ("two", "SECOND", 2.0, str(folder / "b.wav")),
        ("three", "THIRD", 2.0, str(data / "wavs" / "three.wav")),
    ]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ({"id": "r", "sources": [], "sampling_rate": 16000, "num_samples": 1}, "recordings"),
        ({"id": "s", "recording_id": "r", "start": 0, "duration": 1, "text": "X"}, "supervisions"),
        ({"recording_id": "r", "type": "fbank", "storage_path": "x"}, "features"),
    ],
)
def test_other_manifests_of_lhotse_are_named(folder: Path, line: dict[str, Any], what: str) -> None:
    manifest = write(folder / "x.jsonl", *[json.dumps(line)] * 3)
    with pytest.raises(UserError, match=f"holds {what}, not cuts. .*lhotse cut simple"):
        recordings.check(manifest)


def test_another_rate_is_resampled_and_said_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tone at 8 kHz is that tone at 16 kHz, in a part of it too."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    for name in ("low", "lower"):
        soundfile.write(folder / f"{name}.wav", tone, 8000)
    table = write(folder / "x.tsv", "wav\ttext", "low.wav\tX", "lower.wav\tX", "a.wav\tX")
    low, _, _ = recordings.check(table)
    assert capsys.readouterr().err == f"{table}: 2 recordings at 8000 Hz, resampled to 16000 Hz\n"
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(recordings.read(low)[800:-800], expected[800:-800], atol=0.01)
    write(folder / "wav.scp", "low low.wav")
    write(folder / "segments", "u1 low 0.25 0.75 0")
    write(folder / "text", "u1 X")
    (part,) = recordings.check(folder)
    assert (part.start, part.duration, part.channel) == (0.25, 0.5, 0)
    np.testing.assert_allclose(recordings.read(part)[800:-800], expected[4800:11200], atol=0.01)


def test_resampling_of_cuts_is_applied(folder: Path) -> None:
    """Through 8 kHz, nothing is left of a tone of 6 kHz; what is below stays."""
    time = np.arange(32000) / 16000
    tones = 0.4 * np.sin(2 * np.pi * 440 * time) + 0.4 * np.sin(2 * np.pi * 6000 * time)
    soundfile.write(folder / "b.wav", tones, 16000)
    resample = {"source_sampling_rate": 16000, "target_sampling_rate": 8000}
    transforms = [{"name": "Resample", "kwargs": resample}]
    recording = cut()["recording"] | {"transforms": transforms, "sampling_rate": 8000}
    manifest = write(folder / "c.jsonl", json.dumps(cut(recording=recording)))
    (found,) = recordings.check(manifest)
    assert found.rates == (8000,)
    expected = 0.4 * np.sin(2 * np.pi * 440 * time[8000:28000])
    np.testing.assert_allclose(recordings.read(found)[999:-999], expected[999:-999], atol=0.01)
    recordings.write_checked(folder / "manifest.jsonl", [found])
    assert recordings.read_checked(folder / "manifest.jsonl") == [found]


def test_a_corpus_elsewhere_has_a_root(folder: Path) -> None:
    (folder / "lists").mkdir()
    table = write(folder / "lists" / "x.tsv", "wav\ttext", "a.wav\tX", "gone.wav\tX")
    first, second = problems(table)
    assert "lists/a.wav: no such recording" in first and "lists/gone.wav" in second
    with pytest.raises(UserError, match=f"1 wrong(.|\n)*{folder}/gone.wav: no such recording"):
        recordings.check(table, folder)
    cuts = write(folder / "lists" / "c.jsonl", json.dumps(cut()))
    (found,) = recordings.check(cuts, folder)
    assert found.wav == str(folder / "b.wav")
    assert manifests.files(cuts, folder) == [str(cuts), str(folder / "b.wav")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tsv", b"file\ttext\na.wav\tX\n", "expected a tab-separated table with the columns wav"),
        ("x.tsv", b"wav\ttext\n", "expected a tab-separated table"),
        ("x.tsv", "wav\ttext\na.wav\tÄ\n".encode("latin-1"), "cannot be read as a table"),
        ("x.jsonl.gz", b"not gzip", "cannot be read"),
        ("x.jsonl", b"\n", "holds no recordings"),
        ("x.csv", b"", "expected a table .*lhotse cuts .*Kaldi folder"),
    ],
)
def test_what_is_no_manifest(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        recordings.check(folder / name)


def test_what_is_no_kaldi_folder(folder: Path) -> None:
    (folder / "text").touch()
    with pytest.raises(UserError, match=r"no wav.scp$"):
        recordings.check(folder)
    with pytest.raises(UserError, match="there is no file or folder"):
        recordings.check(folder / "nowhere")


def test_the_normalised_manifest_holds_it_all(folder: Path) -> None:
    cuts = write(folder / "c.jsonl", json.dumps(cut(), ensure_ascii=False))
    found = recordings.check(cuts)
    recordings.write_checked(folder / "manifest.jsonl", found)
    assert recordings.read_checked(folder / "manifest.jsonl") == found
    (line,) = (folder / "manifest.jsonl").read_text().splitlines()
    assert {"id", "wav", "text", "start", "duration"} < json.loads(line).keys()


def test_a_recording_that_changes_after_it_was_checked_is_noticed(folder: Path) -> None:
    (found,) = recordings.check(write(folder / "x.tsv", "wav\ttext", "a.wav\tX"))
    soundfile.write(folder / "a.wav", np.zeros(16000), 16000)
    with pytest.raises(UserError, match="changed since it was checked"):
        recordings.read(found)


def test_the_files_behind_a_manifest_are_those_that_exist(folder: Path) -> None:
    table = write(folder / "x.tsv", "wav\ttext", "a.wav\tX", "a.wav\tX", "gone.wav\tX")
    assert manifests.files(table) == [str(table), str(folder / "a.wav")]
    write(folder / "wav.scp", "one a.wav")
    write(folder / "text", "one X")
    assert manifests.files(folder) == [str(folder / n) for n in ("wav.scp", "text", "a.wav")]
    assert manifests.files(write(folder / "bad.tsv", "x")) == [str(folder / "bad.tsv")]
