"""Files that are damaged, or made to fill the memory: one message each, in little memory."""

from __future__ import annotations

import dataclasses
import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import GOLDEN
from readers import WAV, cut, lines, sound
from test_hostile_checkpoint import little_memory

from transducer2ncnn.base import errors, reading
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families.lstm import LstmSizes
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import npz, param, scale_table, tokens, weights
from transducer2ncnn.speech import audio, manifests, recordings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


# Networks.


def network(path: Path, layer: str, data: bytes = b"") -> weights.Weights:
    path.write_text(f"7767517\n1 2\n{layer}\n")
    path.with_suffix(".bin").write_bytes(data)
    with little_memory():
        return weights.read(param.read(path), path.with_suffix(".bin"))


def test_a_whole_layer_is_read(path: Path) -> None:
    data = struct.pack("<L2f", 0, 1.5, 2.5)
    ((block,),) = network(path, "InnerProduct a 1 1 x y 0=1 1=0 2=2", data)
    assert block.values.tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("InnerProduct a 1 1 x y 0=1 1=0 2=-1", "layer a asks for a weight of -1 values"),
        ("InnerProduct a 1 1 x y 0=1 1=0 2=2147483647", "ends within the weight of layer a"),
        ("InnerProduct a 1 1 x y 0=1 1=0 2=2147483648", "parameter 2 of layer a is 2147483648"),
        (f"InnerProduct a 1 1 x y 2={'9' * 5000}", "parameter 2 of layer a is 999"),
        ("InnerProduct a 1 1 x y 2=1.5", "parameter 2 of layer a is 1.5, expected a whole number"),
        ("InnerProduct a 1 1 x y 2=", "parameter 2 of layer a is , expected a whole number"),
        ("MemoryData a 0 1 y 0=65536 1=65536 2=65536", "ends within the data of layer a"),
        ("InnerProduct a -1 1 x y", "line 3: not a layer"),
        ("InnerProduct a 1000000000 1 x y", "line 3: not a layer"),
        (f"InnerProduct a {'9' * 5000} 1 x y", "line 3: not a layer"),
        ("InnerProduct a 1", "line 3: not a layer"),
        ("InnerProduct a 1 1 x y z", "line 3: not a layer"),
    ],
)
def test_sizes_that_no_layer_has_are_refused(path: Path, layer: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        network(path, layer, bytes(4))


@pytest.mark.parametrize("scale", ["1e39", "1e-60", "nan", "inf", "-1", "0", "0.0", "-0", "1e400"])
@pytest.mark.parametrize("key", ["conv_5", "conv_5_param_0"])
def test_scales_that_are_none_in_fp32_are_refused(path: Path, key: str, scale: str) -> None:
    path.write_text(f"{key} {scale} \n")
    with pytest.raises(
        UserError, match=f"line 1: {key}: scale number 1 is .* not a positive number"
    ):
        scale_table.read(path)
    table = scale_table.ScaleTable()
    kind: dict[str, Any] = table.weights if "param" in key else table.inputs
    kind[key] = np.array([float(scale)]) if "param" in key else float(scale)
    with pytest.raises(UserError, match="not a positive number"):
        scale_table.write(path, table)


def test_a_vocabulary_of_any_size_takes_no_memory(path: Path) -> None:
    path.write_text("<blk> 0\n")
    with little_memory(), pytest.raises(UserError, match="holds 1 tokens with ids up to 0"):
        tokens.read(path, 10**12)


# Recordings.


def test_a_cut_list_that_is_far_larger_unpacked_is_refused(tmp_path: Path) -> None:
    whole = lines([cut(str(i), 0) for i in range(5000)])
    packed = tmp_path / "cuts.jsonl.gz"
    packed.write_bytes(gzip.compress(whole))
    assert len(whole) > 15 * packed.stat().st_size  # as such lists are
    assert len(list(manifests.entries(packed))) == 5000
    packed.write_bytes(gzip.compress(b" " * 500_000_000))
    with little_memory(), pytest.raises(UserError, match="more than 100 times as large"):
        list(manifests.entries(packed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": float("nan")}, "NaN, which JSON has not"),
        ({"start": 1e308}, "is not in it"),
        ({"start": "1e999"}, "are not both numbers"),
        ({"duration": -1}, "is not in it"),
        ({"duration": 10**400}, "is not a MonoCut"),
        ({"id": ["a"]}, "are not both text"),
        ({"id": "\ud800"}, "characters that no text can hold"),
        ({"channel": [0]}, "has no source with channel"),
        ({"supervisions": [{"start": 0, "text": 5}]}, "is not a MonoCut"),
        ({"supervisions": [{"start": 0}, {"start": "a"}]}, "is not a MonoCut"),
        ({"recording": {"sources": [5]}}, "is not a MonoCut"),
        ({"recording": 5}, "is not a MonoCut"),
    ],
)
def test_a_cut_that_is_none_is_one_line_of_the_message(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "a.wav").write_bytes(WAV)
    (tmp_path / "m.jsonl").write_bytes(lines([cut("one", 0), cut("two", 0) | changes]))
    with pytest.raises(UserError, match=message) as caught:
        recordings.check(tmp_path / "m.jsonl")
    assert "1 wrong" in str(caught.value) and "\n  line 2: " in str(caught.value)


def test_cuts_nested_deeply_and_names_too_long_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(WAV)
    long = cut("three", 0)
    long["recording"]["sources"][0]["source"] = "x" * 5000
    content = b"[" * 100_000 + b"\n" + lines([long, cut("one", 0)])
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"2 wrong(.|\n)*line 1: is not JSON(.|\n)*line 2: ") as e:
        recordings.check(tmp_path / "m.jsonl")
    assert len(str(e.value)) < 2000


def test_times_of_kaldi_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(WAV)
    (tmp_path / "wav.scp").write_text("a a.wav\n")
    (tmp_path / "text").write_text("".join(f"{x} ten\n" for x in "bcde"))
    (tmp_path / "segments").write_text("b a nan 0.1\nc a 0 inf\nd\ne a 0\n")
    with pytest.raises(UserError, match="4 wrong"):
        recordings.check(tmp_path)


def test_a_header_that_states_any_size_takes_no_memory(path: Path) -> None:
    flac = bytearray(sound("FLAC", "PCM_16"))
    assert flac[:4] == b"fLaC"
    # 36 bits of the stream's info are its number of samples.
    flac[21] |= 0x0F
    flac[22:26] = b"\xff" * 4
    path.write_bytes(flac)
    with little_memory():
        with pytest.raises(UserError, match="would have to be in memory at once"):
            audio.read(path)
        with pytest.raises(UserError, match="would have to be in memory at once"):
            audio.segment(path)
        with pytest.raises(UserError, match="cannot be decoded"):
            list(audio.blocks(path))


@pytest.mark.parametrize("rate", [0, 1, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_nothing_records_at_is_refused(path: Path, rate: int) -> None:
    wav = bytearray(WAV)
    struct.pack_into("<L", wav, 24, rate)
    path.write_bytes(wav)
    with little_memory(), pytest.raises(UserError, match="cannot be decoded|Hz by its header"):
        audio.read(path)


def test_many_channels_take_no_more_memory_than_few(path: Path) -> None:
    soundfile.write(path, np.zeros((16000, 200), dtype=np.int16), 16000, format="WAV")
    with little_memory(30):
        assert sum(map(len, audio.blocks(path))) == 16000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(path: Path, value: float) -> None:
    samples = np.zeros(32000, dtype=np.float32)
    samples[20000] = value
    soundfile.write(path, samples, 16000, format="WAV", subtype="FLOAT")
    for read in (audio.read, audio.segment):
        with pytest.raises(UserError, match="holds samples that are NaN or infinite"):
            read(path)
    assert len(audio.segment(path, 0, 1)) == 16000  # before it


def test_audio_without_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(3200))
    with pytest.raises(UserError, match="audio without a header"):
        audio.read(tmp_path / "a.raw")


# What the workflow wrote itself.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as JSON"),
        ("[1]", "holds a list in JSON"),
        ('{"a": NaN}', "holds NaN"),
        ('{"a": -Infinity}', "holds -Infinity"),
        ('{"a": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("\ufeff{}", "cannot be read as JSON"),
    ],
)
def test_what_is_no_json_is_one_message(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        reading.read_json(path)


def test_a_missing_key_is_named_with_the_file(path: Path, capsys: pytest.CaptureFixture) -> None:
    path.write_text('{"a": {"b": 1}}')
    found = reading.read_json(path)
    assert found == {"a": {"b": 1}} and json.loads(json.dumps(found)) == found
    with pytest.raises(SystemExit):
        errors.run(lambda: found["a"]["c"])
    assert capsys.readouterr().err == (
        f"error: {path}: has no key 'c' where one is expected. Delete the file, and run snakemake "
        "to have it made again.\n"
    )


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None, True, [1], 2**31])
def test_sizes_of_a_model_that_are_none_are_refused(value: object) -> None:
    sizes = {field.name: 8 for field in dataclasses.fields(LstmSizes)}
    whole = {"family": "lstm", "sizes": sizes, "settings": {}}
    assert described(whole).sizes.vocab_size == 8
    with pytest.raises(UserError, match="vocab_size is .*, expected whole numbers above 0"):
        described(whole | {"sizes": sizes | {"vocab_size": value}})
    for damaged in (
        whole | {"sizes": sizes | {"other": 1}},
        whole | {"sizes": []},
        whole | {"settings": {"a": 1}},
        whole | {"family": ["lstm"]},
        {"sizes": sizes},
    ):
        with pytest.raises(UserError, match="describes no model|not a model family"):
            described(damaged)


def test_arrays_that_would_fill_the_memory_are_refused(path: Path) -> None:
    with open(path, "wb") as f:
        np.savez_compressed(f, a=np.zeros(50_000_000))
    with little_memory(), pytest.raises(UserError, match="is compressed"), npz.opened(path, "x"):
        pass
    with open(path, "wb") as f:
        np.savez(f, a=np.zeros(8, dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(UserError, match="cannot be read as x"), npz.opened(path, "x"):
        pass
    damaged = bytearray(whole)
    damaged[whole.index(b"NUMPY") + 100] ^= 1
    path.write_bytes(damaged)
    with npz.opened(path, "x") as arrays, pytest.raises(UserError, match="array 'a' is missing or"):
        arrays["a"]


def test_arrays_are_read_as_numpy_reads_them(path: Path) -> None:
    file = GOLDEN / "checkpoint-projection" / "expected-pretrained.npz"
    expected = np.load(file)
    np.savez(path, **expected)
    with npz.opened(f"{path}.npz", "x") as arrays:
        assert list(arrays) == expected.files
        for name in arrays:
            np.testing.assert_array_equal(arrays[name], expected[name])
