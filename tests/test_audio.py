"""Recordings: what is read as it is, what is converted, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.speech import audio
from transducer2ncnn.speech.features import FbankStream, fbank


def tone(rate: int, seconds: float = 0.5, frequency: float = 440) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)


def test_sixteen_kilohertz_mono_is_read_as_it_is(tmp_path: Path, capsys) -> None:
    soundfile.write(tmp_path / "x.wav", tone(16000), 16000, subtype="PCM_16")
    samples = audio.read(tmp_path / "x.wav")
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, tone(16000), atol=1 / 32768)
    assert capsys.readouterr().err == ""


@pytest.fixture(autouse=True)
def nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_noted", set())


def test_of_many_that_are_converted_one_is_named(tmp_path: Path, capsys) -> None:
    for name, rate in (("a", 8000), ("b", 8000), ("c", 44100), ("d", 8000)):
        soundfile.write(tmp_path / f"{name}.wav", tone(8000), rate)
        audio.read(tmp_path / f"{name}.wav")
    first, second = capsys.readouterr().err.splitlines()
    assert "a.wav: 8000 Hz, resampled to 16000 Hz; others like it are not named" in first
    assert "c.wav: 44100 Hz" in second


def test_another_rate_is_resampled_and_said(tmp_path: Path, capsys) -> None:
    soundfile.write(tmp_path / "x.wav", tone(8000), 8000)
    samples = audio.read(tmp_path / "x.wav")
    np.testing.assert_allclose(samples[800:-800], tone(16000)[800:-800], atol=0.01)
    assert "x.wav: 8000 Hz, resampled to 16000 Hz" in capsys.readouterr().err


def test_channels_are_averaged_and_said(tmp_path: Path, capsys) -> None:
    stereo = np.stack([tone(16000), np.zeros(8000)], axis=1)
    soundfile.write(tmp_path / "x.wav", stereo, 16000)
    np.testing.assert_allclose(audio.read(tmp_path / "x.wav"), tone(16000) / 2, atol=1e-4)
    assert "x.wav: 2 channels, averaged to one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such recording"), (b"", "cannot be decoded"), (b"RIFF????", "cannot be decoded")],
)
def test_what_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path}: {message}"):
        audio.read(path)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LFS, "x.wav: is a Git LFS pointer, .*12,345 bytes.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "x.wav: is a web page"),
        (b"\0\0\0\x20ftypM4A ", "x.wav: is an MP4 or M4A file, which cannot be read.*ffmpeg"),
        (b"#!AMR\n", "x.wav: is an AMR file"),
    ],
)
def test_what_is_no_recording_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(UserError, match=message):
        audio.check(tmp_path / "x.wav")


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "x.wav").symlink_to(tmp_path / "gone.wav")
    with pytest.raises(UserError, match="no such recording. It is a link to .*gone.wav"):
        audio.check(tmp_path / "x.wav")


def test_a_recording_without_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(0), 16000)
    with pytest.raises(UserError, match="holds no samples"):
        audio.read(tmp_path / "x.wav")


def test_pieces_are_the_whole(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(8000 * 25) * 0.1
    soundfile.write(tmp_path / "x.wav", noise, 8000)
    pieces = list(audio.blocks(tmp_path / "x.wav"))
    assert len(pieces) == 3
    assert abs(sum(map(len, pieces)) - 16000 * 25) <= 1
    np.testing.assert_array_equal(np.concatenate(pieces), audio.read(tmp_path / "x.wav"))
    assert audio.duration(tmp_path / "x.wav") == 25


def test_a_recording_that_is_cut_off(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.flac", tone(16000, seconds=3), 16000)
    content = (tmp_path / "x.flac").read_bytes()
    (tmp_path / "x.flac").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"x.flac: (is cut off|cannot be decoded)"):
        audio.read(tmp_path / "x.flac")


def test_a_wav_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(16000, seconds=3), 16000)
    content = path.read_bytes()
    path.write_bytes(content[: 44 + 32000])
    with pytest.raises(UserError, match=r"x.wav: is cut off: 2.00 s fewer than its header states"):
        audio.check(path)
    # What sox and ffmpeg state that write into a pipe is no length, and the samples are all there.
    for unknown in (0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF):
        path.write_bytes(content[:40] + unknown.to_bytes(4, "little") + content[44:])
        assert audio.read(path).shape == (48000,)


def test_features_of_pieces_are_those_of_the_whole() -> None:
    samples = np.random.default_rng(0).standard_normal(16000 * 3).astype(np.float32)
    stream = FbankStream()
    frames = []
    for piece in np.split(samples, [100, 5000, 5001, 40000]):
        stream.accept(piece)
        frames.append(stream.take())
    stream.finish()
    frames.append(stream.take())
    np.testing.assert_array_equal(np.concatenate(frames), fbank(samples))


def test_features_are_a_frame_every_ten_milliseconds() -> None:
    for n, frames in ((16000, 100), (16079, 100), (16080, 101), (40, 0)):
        assert fbank(np.zeros(n, np.float32)).shape == (frames, 80)
