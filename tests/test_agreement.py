"""What int8 costs, part by part, on the real tools' files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN

from transducer2ncnn.base.layout import Files
from transducer2ncnn.engines import search
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.families import model
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param, weights
from transducer2ncnn.formats.weights import Block
from transducer2ncnn.quantization import agreement
from transducer2ncnn.speech import audio

INT8 = GOLDEN / "int8"
A, B, UNK = 5, 7, 2


def files(encoder: str, joiner: str) -> Files:
    names = {"encoder": encoder, "decoder": "decoder.ncnn", "joiner": joiner}
    return {part: (INT8 / f"{name}.param", INT8 / f"{name}.bin") for part, name in names.items()}


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return model.inspect(INT8 / "pretrained.pt", "lstm")[1]


@pytest.fixture(scope="module")
def recordings() -> dict[str, np.ndarray]:
    return {wav.name: audio.read(wav) for wav in sorted((INT8 / "wavs").glob("*.wav"))}


FP32 = files("encoder.ncnn", "joiner.ncnn")


def biased(folder: Path, pair: tuple[Path, Path], bias: np.ndarray) -> tuple[Path, Path]:
    """A joiner with something added to its logits, and the same graph."""
    graph = param.read(pair[0])
    blocks = weights.read(graph, pair[1])
    blocks[-1] = [
        Block.bare("bias", b.values + bias) if b.name == "bias" else b for b in blocks[-1]
    ]
    weights.write(folder / "joiner.bin", blocks)
    return pair[0], folder / "joiner.bin"


def test_the_same_files_agree(
    description: dict[str, Any], recordings: dict[str, np.ndarray]
) -> None:
    found = agreement.compare(FP32, FP32, description, recordings)
    transducer = NcnnTransducer(FP32, described(description))
    tokens = [search.decode(transducer, samples) for samples in recordings.values()]
    assert found["fp32_tokens"] == sum(map(len, tokens)) > 20
    assert found["frames"] > 100
    assert found["token_edits"] == found["token_edit_rate"] == 0
    assert found["encoder_snr_db"] is None
    for part in (*found["parts"].values(), found["all"]):
        assert part["emitting_frames"] == found["fp32_tokens"]
        assert part["agreement"] == part["same_best_token"] == 1
        assert part["max_difference"] == part["mean_difference"] == part["divergence"] == 0


def test_each_part_is_charged_with_what_it_costs(
    description: dict[str, Any], recordings: dict[str, np.ndarray]
) -> None:
    int8 = files("encoder.int8-lstm", "joiner.int8")
    found = agreement.compare(FP32, int8, description, recordings)
    parts = found["parts"]
    assert parts["decoder"]["max_difference"] == 0  # it is the same file
    for part in ("encoder", "joiner"):
        alone = agreement.compare(FP32, FP32 | {part: int8[part]}, description, recordings)
        assert alone["all"] == parts[part]
        assert 0 < parts[part]["mean_difference"] < parts[part]["max_difference"]
        assert (alone["encoder_snr_db"] is None) == (part == "joiner")
    assert 0.5 < found["all"]["agreement"] < 1
    assert 10 < found["encoder_snr_db"] < 40
    # Its text is what the search finds with its files, streamed.
    texts = [
        [search.decode(NcnnTransducer(f, described(description)), x) for x in recordings.values()]
        for f in (FP32, int8)
    ]
    assert (found["token_edits"] == 0) == (texts[0] == texts[1])


def test_a_model_that_says_nothing_agrees_nowhere(
    description: dict[str, Any], recordings: dict[str, np.ndarray], tmp_path: Path
) -> None:
    silent = np.zeros(description["sizes"]["vocab_size"], np.float32)
    silent[0] = 1000
    mute = FP32 | {"joiner": biased(tmp_path, FP32["joiner"], silent)}
    found = agreement.compare(FP32, mute, description, recordings)
    assert found["all"]["agreement"] == found["parts"]["joiner"]["agreement"] == 0
    assert found["parts"]["encoder"]["agreement"] == 1
    assert found["token_edits"] == found["fp32_tokens"] and found["token_edit_rate"] == 1
    # The other way round fp32 says nothing, and every token is one too many.
    found = agreement.compare(mute, FP32, description, recordings)
    assert found["fp32_tokens"] == 0 and found["token_edit_rate"] is None
    assert found["all"]["agreement"] == 0
    nothing = agreement.compare(mute, mute, description, recordings)
    assert nothing["all"]["agreement"] is None and nothing["all"]["divergence"] is None


def test_frames_that_emit_are_counted_by_hand() -> None:
    difference = agreement._Difference()
    one = np.eye(9)
    pairs = [(0, 0), (0, UNK), (A, A), (A, 0), (0, B), (A, B), (UNK, A)]
    for expected, found in pairs:
        difference.add(2 * one[expected], 3 * one[found])
    summary = difference.summary()
    assert summary["emitting_frames"] == 5
    assert summary["differing_frames"] == 4
    assert summary["agreement"] == pytest.approx(1 / 5)
    assert summary["same_best_token"] == pytest.approx(2 / 7)
    assert summary["max_difference"] == 3


def test_the_divergence_of_posteriors_by_hand() -> None:
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    expected = 0.5 * np.log(2) + 0.25 * np.log(0.5)
    # Logits are logarithms but for a constant.
    assert agreement.divergence(np.log(p) + 3, np.log(q) - 1) == pytest.approx(expected)
    assert agreement.divergence(np.log(p), np.log(p)) == pytest.approx(0)


def test_what_is_not_finite_is_named(
    description: dict[str, Any], recordings: dict[str, np.ndarray], tmp_path: Path
) -> None:
    first = next(iter(recordings))
    nan = np.zeros(description["sizes"]["vocab_size"], np.float32)
    nan[3] = np.nan
    broken = FP32 | {"joiner": biased(tmp_path, FP32["joiner"], nan)}
    for fp32, other, name in ((FP32, broken, "int8"), (broken, FP32, "fp32")):
        message = f"^{first}: at frame 0 of .* the joiner in {name} gives logits with NaN"
        with pytest.raises(agreement.NotFiniteError, match=message):
            agreement.compare(fp32, other, description, recordings)
    graph = param.read(FP32["encoder"][0])
    blocks = weights.read(graph, FP32["encoder"][1])
    last = max(i for i, own in enumerate(blocks) if own)
    blocks[last] = [Block(b.name, np.full_like(b.values, np.inf), b.tag) for b in blocks[last]]
    weights.write(tmp_path / "encoder.bin", blocks)
    broken = FP32 | {"encoder": (FP32["encoder"][0], tmp_path / "encoder.bin")}
    with pytest.raises(agreement.NotFiniteError, match="the encoder in mine gives an output"):
        agreement.compare(FP32, broken, description, recordings, "mine")
