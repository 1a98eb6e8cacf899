"""int8's gate: what a sound model passes, and every kind of fault that must not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from by_table import by_table
from conftest import ROOT, stored

from benchmarks import planted_int8
from transducer2ncnn.base import files, layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families import model
from transducer2ncnn.formats import param, scale_table, weights
from transducer2ncnn.formats.weights import Block
from transducer2ncnn.quantization import (
    calibrated,
    gate,
    levels,
    observing,
    quantize,
    ranges,
    rounding,
    sharing,
    statistics,
    thresholds,
)
from transducer2ncnn.quantization.recipes import SHIPPED, Table
from transducer2ncnn.speech import audio
from transducer2ncnn.workflow import precisions

DIGITS = ROOT / "models" / "digits"
LIMITS = gate.Limits(**precisions.Gate.model_validate({}).limits())


@dataclass(frozen=True)
class Int8:
    """The model that ships, in int8 by the recipe, and the input scales that it was given."""

    files: layout.Files
    scales: dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def int8(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Int8:
    folder = tmp_path_factory.mktemp("int8")
    fp32 = layout.ncnn_files(digits / "fp32")
    batch = [(f.name, [audio.read(f)]) for f in sorted(DIGITS.glob("calibration_wavs/*.wav"))]
    observed = observing.observe(model.load(DIGITS / "pretrained.pt", "lstm"), [batch])
    result, scales = dict(fp32), {}
    for part in ("encoder", "joiner"):
        graph = param.read(fp32[part][0])
        blocks = weights.read(graph, fp32[part][1])
        how = SHIPPED["int8-table"].quantized[part]
        table = scale_table.ScaleTable(quantize.weight_scales(graph, blocks, set(how.layers)))
        found = calibrated.inputs(graph, how, observed[part], fp32[part][0])
        table.inputs = {name: x.scale for name, x in found.items()}
        scales[part] = dict(table.inputs)
        scale_table.write(folder / "table.txt", table)
        table = scale_table.read(folder / "table.txt")
        quantized, quantized_blocks = by_table(graph, blocks, table, how.rest)
        result[part] = (folder / f"{part}.param", folder / f"{part}.bin")
        param.write(result[part][0], quantized)
        weights.write(result[part][1], quantized_blocks)
    return Int8(result, scales)


# The campaign, a few faults of each kind


@pytest.fixture(scope="module")
def judge(digits: Path, int8: Int8) -> planted_int8.Gate:
    description = model.inspect(DIGITS / "pretrained.pt", "lstm")[1]
    heard = {f"{i}.wav": audio.read(DIGITS / "test_wavs" / f"{i}.wav") for i in (0, 3, 7)}
    fp32 = layout.ncnn_files(digits / "fp32")
    return planted_int8.Gate(fp32, description, heard, LIMITS, int8.scales)


def chosen(int8: Int8) -> Iterator[tuple[planted_int8.Plant, set[str]]]:
    """Faults, and the gates each of which must refuse it."""
    for plant in planted_int8.plants(int8.files):
        match plant.where.split(), plant.what:
            case ["encoder", "conv_6"], "input_scale × 10":
                yield plant, {"scales", "range", "agreement", "token edits"}
            case ["encoder", "conv_6"], "input_scale × 0.01":
                yield plant, {"agreement", "token edits"}
            case ["encoder", "linear_11"], "input_scale × 0.01":
                yield plant, {"range"}
            case ["encoder", "linear_8"], "input_scale × 0.1":
                yield plant, {"scales", "agreement"}
            case ["encoder", "linear_8"], "input_scale × 1.5":
                yield plant, {"scales"}
            case ["encoder", "conv_7,", "linear_12"], "input_scale swapped":
                yield plant, {"scales"}
            case ["encoder", "lstm_13"], "weight_xc_scales × 0.1":
                yield plant, {"weights", "agreement"}
            case ["encoder", "lstm_13"], "lines swapped":
                yield plant, {"weights"}
            case ["encoder", "conv_6"], "weight_scales × 1.5":
                yield plant, {"weights"}
            case ["encoder", "linear_12"], "weights zero":
                yield plant, {"weights", "agreement", "token edits"}
            case ["joiner", _], "logits NaN":
                yield plant, {"not finite"}
            case ["joiner", _], "logits zero":
                yield plant, {"weights", "agreement", "token edits"}


def test_a_sound_model_passes(int8: Int8, judge: planted_int8.Gate) -> None:
    result = judge.judge(planted_int8.Plant("nowhere", "nothing", {}), int8.files)
    assert result.refused_by == []
    assert result.figures is not None and result.figures["fp32_tokens"] > gate.MIN_TOKENS


def test_planted_faults_are_refused(int8: Int8, judge: planted_int8.Gate, tmp_path: Path) -> None:
    judged = 0
    for plant, gates in chosen(int8):
        files_ = planted_int8.planted(int8.files, plant, tmp_path)
        refused_by = judge.judge(plant, files_).refused_by
        assert gates <= set(refused_by), (plant.where, plant.what, refused_by)
        judged += bool(gates)
    assert judged == 12


def test_calibration_on_what_is_no_speech_is_refused(
    int8: Int8, judge: planted_int8.Gate, tmp_path: Path
) -> None:
    wavs = [audio.read(DIGITS / "calibration_wavs" / f"{i}.wav") for i in (0, 5)]
    checkpoint = DIGITS / "pretrained.pt"
    silence = [0 * samples for samples in wavs]
    with pytest.raises(UserError, match=r"^the input of encoder\.\S+ has the same magnitude 15\.9"):
        planted_int8.recalibrated(checkpoint, int8.files, "silence", silence)
    quiet = [planted_int8.quieter(samples, 60) for samples in wavs]
    plant = planted_int8.recalibrated(checkpoint, int8.files, "quiet audio", quiet)
    refused_by = judge.judge(plant, planted_int8.planted(int8.files, plant, tmp_path)).refused_by
    assert {"range", "agreement"} <= set(refused_by)


# What each check says


def examined(**figures: Any) -> gate.Examined:
    """A sound model's, but for some figures."""
    everything = {"agreement": 0.97, "emitting_frames": 60}
    everything |= {k: figures.pop(k) for k in list(figures) if k in everything}
    sound = {"fp32_tokens": 59, "seconds": 31.1, "token_edits": 1, "token_edit_rate": 1 / 59}
    parts = {"encoder": {"agreement": 0.98}, "decoder": {"agreement": 1.0}, "joiner": {}}
    parts["joiner"] = {"agreement": None}
    sound["as_run"] = {"seconds": 10.0, "tokens": 20, "token_edits": 1}
    return gate.Examined(sound | {"all": everything, "parts": parts} | figures, {}, [])


def test_what_passes_is_said_with_its_figures() -> None:
    assert gate.check(examined(), LIMITS, "int8") == (
        "int8 finds fp32's best token in 97.0% of 60 frames that emit one; token edits from "
        "fp32's 59 tokens: 1"
    )


def test_each_limit_refuses_by_its_key() -> None:
    with pytest.raises(UserError) as e:
        gate.check(examined(agreement=0.89, token_edit_rate=0.06), LIMITS, "mine")
    for words in (
        "mine is not delivered: it finds fp32's best token in 89.0% of the 60 frames",
        "precisions.mine.min_agreement asks for 90.0%",
        "encoder 98.0%, decoder 100.0%, joiner nothing emitted",
        "precisions.mine.max_token_edits allows 5.0%",
    ):
        assert words in str(e.value)
    for kept in ({"agreement": 0.9}, {"token_edit_rate": 0.05}):
        gate.check(examined(**kept), LIMITS, "mine")


def test_another_text_at_the_options_of_sherpa_ncnn() -> None:
    found = examined(as_run={"seconds": 10.0, "tokens": 20, "token_edits": 2})
    with pytest.raises(
        UserError, match=r"at ncnn's own options, .*: 2 edits in 20 tokens, 10\.0 s"
    ):
        gate.check(found, LIMITS, "int8")


def test_where_fp32_says_nothing_nothing_is_proven() -> None:
    mute = {"fp32_tokens": 0, "token_edit_rate": None, "agreement": None}
    for figures in (mute, {"fp32_tokens": gate.MIN_TOKENS - 1}):
        with pytest.raises(UserError, match=r"proves nothing, .* \d tokens in 31\.1 s .*test_wavs"):
            gate.check(examined(**figures), LIMITS, "int8")
        unproven = gate.Limits(0.9, 0.05, 3.0, require_speech=False)
        said = gate.check(examined(**figures), unproven, "int8")
        assert said.startswith("int8 is not proven: fp32 finds only")
        # A model that talks where fp32 is silent is refused all the same.
        with pytest.raises(UserError, match="min_agreement"):
            gate.check(examined(**figures | {"agreement": 0.0}), unproven, "int8")


def test_int8_of_values_by_hand() -> None:
    values = np.array([0, 0.24, -0.25, 0.76, 63.4, 63.6, -100, 1e9], np.float32)
    expected = np.array([0, 0, -0.5, 1, 63.5, 63.5, -63.5, 63.5])
    np.testing.assert_array_equal(ranges.quantized(values, 2.0), expected)


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (0.5, None),
        (127.0, "for magnitudes up to 1, far below the 200 that the test audio shows"),
        (1e-3, "for magnitudes up to 1.27e+05, far above the 200 that the test audio shows"),
        (float("nan"), "has nan for an input scale"),
        (-0.5, "has -0.5 for an input scale"),
    ],
)
def test_ranges_that_are_not_the_audios(scale: float, words: str | None) -> None:
    met = ranges.Range(scale)
    met.add(np.linspace(-200, 180, 2000, dtype=np.float32))
    found = gate.Examined(examined().figures, {"encoder": {"fc": met}}, [])
    if words is None:
        gate.check(found, LIMITS, "int8")
        return
    with pytest.raises(UserError, match="the encoder's layer fc has") as e:
        gate.check(found, LIMITS, "int8")
    assert words in str(e.value)


def test_an_input_scale_that_is_not_the_calibrations() -> None:
    met = ranges.Range(float(np.float32(12.345678)))
    met.add(np.linspace(-10, 10, 2000, dtype=np.float32))

    def found(scale: float) -> gate.Examined:
        calibration = {"encoder": {"fc": scale, "kept as it was": 3.0}}
        return gate.Examined(examined().figures, {"encoder": {"fc": met}}, [], calibration)

    # A table has six decimals.
    gate.check(found(12.34567841), LIMITS, "int8")
    with pytest.raises(UserError, match="layer fc has the input scale 12.3457, and calibration"):
        gate.check(found(12.3457), LIMITS, "int8")


def test_one_wrong_weight_is_named(digits: Path, int8: Int8, tmp_path: Path) -> None:
    fp32 = layout.ncnn_files(digits / "fp32")
    assert list(rounding.wrong_arrays(fp32, int8.files)) == []
    for layer, array in (("linear_9", "weight"), ("linear_9", "bias"), ("lstm_14", "bias")):

        def change(blocks: list[Block], array: str = array) -> list[Block]:
            changed = [Block(b.name, b.values.copy(), b.tag) for b in blocks]
            (block,) = [b for b in changed if b.name == array]
            # By two steps of int8, or a little of what is stored as floating point.
            block.values[7] += 2 if block.values.dtype == np.int8 else 0.01
            return changed

        plant = planted_int8.Plant(layer, array, {("encoder", layer): change})
        broken = planted_int8.planted(int8.files, plant, tmp_path)
        assert list(rounding.wrong_arrays(fp32, broken)) == [("encoder", layer, array)]
    found = gate.Examined(examined().figures, {}, [("encoder", "linear_9", "bias")])
    with pytest.raises(UserError, match="weights are not fp32's, .*: encoder linear_9 bias"):
        gate.check(found, LIMITS, "int8")


def test_a_wrong_weight_of_a_layer_that_was_rewritten(digits: Path, tmp_path: Path) -> None:
    fp32 = layout.ncnn_files(digits / "fp32")
    recipe = SHIPPED["int8-small"]
    (tmp_path / "sound").mkdir()
    sound = stored(fp32, recipe, tmp_path / "sound")
    formats = {
        part: how.assign((layer.name, layer.type) for layer in param.read(fp32[part][0]).layers)
        for part, how in recipe.quantized_parts.items()
    }
    assert list(rounding.wrong_arrays(fp32, sound, formats)) == []
    # A share of the embedding's inputs, and the projection of an LSTM.
    for layer in ("linear_8_3", "lstm_13_hr"):

        def change(blocks: list[Block]) -> list[Block]:
            weight, *others = blocks
            values = weight.values.copy()
            values[7] += 2 if values[7] < 100 else -2
            return [Block(weight.name, values, weight.tag), *others]

        plant = planted_int8.Plant(layer, "a", {("encoder", layer): change})
        broken = planted_int8.planted(sound, plant, tmp_path)
        assert list(rounding.wrong_arrays(fp32, broken, formats)) == [("encoder", layer, "a")]
    # Nothing that fp32 has nothing like passes.
    assert {layer for _, layer, _ in rounding.wrong_arrays(fp32, sound)} >= {"linear_8_3"}


def test_arrays_in_their_own_precisions() -> None:
    original = np.array([0.1, -1.0, 3e-9, 2.5], np.float32)
    scales = np.array([127.0, 50.8], np.float32)
    rounded = np.array([13, -127, 0, 127], np.int8)
    assert rounding.is_rounded(Block.tagged("w", rounded), scales, original)
    assert not rounding.is_rounded(Block.tagged("w", rounded), scales[::-1], original)
    assert not rounding.is_rounded(Block.tagged("w", rounded), np.array([np.nan]), original)
    assert not rounding.is_rounded(Block.tagged("w", rounded), None, original)
    half = original.astype("<f2")
    assert rounding.is_rounded(Block.tagged("w", half), None, original)
    assert not rounding.is_rounded(Block.tagged("w", half * np.float16(1.01)), None, original)
    assert rounding.is_rounded(Block.tagged("w", original), None, original)
    assert not rounding.is_rounded(Block.tagged("w", original * np.nan), None, original)


def test_an_input_that_never_changes() -> None:
    histogram = statistics.Histogram("Conv2d", "encoder.conv")
    histogram.add(np.full(1000, -15.9424, np.float32))
    with pytest.raises(UserError, match=r"^the input of encoder\.conv has the same magnitude"):
        thresholds.input_scales([histogram], Table())[0]
    histogram.add(np.array([2.0], np.float32))
    assert thresholds.input_scales([histogram], Table())[0].scale > 0


# How loud the calibration is


def test_levels_by_hand(tmp_path: Path) -> None:
    sine = 0.5 * np.sin(np.arange(16000) * 2 * np.pi / 50)
    soundfile.write(tmp_path / "sine.wav", np.stack([sine, sine], axis=1), 8000, subtype="FLOAT")
    level = levels.decibels(audio.mean_square(tmp_path / "sine.wav"))
    assert level == pytest.approx(10 * np.log10(0.125), abs=0.01)
    assert levels.decibels(0.0) == -np.inf
    recordings = [sharing.Measured(30.0, -20.0, ""), sharing.Measured(10.0, -np.inf, "")]
    assert levels.overall(recordings) == pytest.approx(10 * np.log10(0.01 * 0.75))


def test_calibration_far_from_the_test_audio_is_warned_of() -> None:
    heard = [np.full(16000, 0.1, np.float32), np.zeros(0, np.float32)]

    def warned(level: float) -> list[str]:
        return list(levels.far({"a.wav": sharing.Measured(5.0, level, "")}, heard))

    assert warned(-20.0) == warned(-29.0) == warned(-11.0) == []
    (quiet,) = warned(-80.0)
    assert "far quieter than the test audio by 60 dB: -80 dB of full scale and -20 dB" in quiet
    (loud,) = warned(0.0)
    assert "far louder than the test audio by 20 dB" in loud
    (silence,) = warned(-np.inf)
    assert "far quieter than the test audio: digital silence and -20 dB" in silence


def test_silent_recordings_are_named_to_the_user(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "loud.wav", np.full(16000, 0.1), 16000)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/silent.wav\n{tmp_path}/loud.wav\n")
    command = [sys.executable, "-m", "workflow_scripts.measure_recordings"]
    command += ["--recordings", tmp_path / "list.txt", "--output", tmp_path / "table.tsv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    warning, said = done.stdout.splitlines()
    assert warning.startswith("warning: 1 of 2 calibration recordings are silent: ")
    assert f"{tmp_path}/silent.wav (digital silence)" in warning
    assert said == "2 recordings, 2 s of audio at -23 dB of full scale"
    measured = sharing.read_recordings(tmp_path / "table.tsv")
    assert measured[f"{tmp_path}/silent.wav"].level == -np.inf
    assert measured[f"{tmp_path}/loud.wav"].seconds == 1.0


def test_no_json_holds_what_is_no_number(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(UserError, match=r"x\.json: not written"):
            files.write_json(tmp_path / "x.json", {"a": [1, value]})
    assert not (tmp_path / "x.json").exists()
