"""What int8 costs, part by part, on the real tools' files."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import GOLDEN

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import Files
from transducer2ncnn.families import model
from transducer2ncnn.quantization import agreement
from transducer2ncnn.speech import audio

INT8 = GOLDEN / "int8"


def files(encoder: str, joiner: str) -> Files:
    names = {"encoder": encoder, "decoder": "decoder.ncnn", "joiner": joiner}
    return {part: (INT8 / f"{name}.param", INT8 / f"{name}.bin") for part, name in names.items()}


@pytest.fixture(scope="module")
def description() -> dict:
    return model.describe(INT8 / "pretrained.pt", "lstm")


@pytest.fixture(scope="module")
def recordings() -> list[np.ndarray]:
    return [audio.read(wav) for wav in sorted((INT8 / "wavs").glob("*.wav"))]


FP32 = files("encoder.ncnn", "joiner.ncnn")


def test_the_same_files_agree(description: dict, recordings: list[np.ndarray]) -> None:
    found = agreement.compare(FP32, FP32, description, recordings[:1])
    assert found["frames"] > 50
    for part in (*found["parts"].values(), found["all"]):
        assert part == {"max_difference": 0, "mean_difference": 0, "same_best_token": 1}


def test_each_part_is_charged_with_what_it_costs(
    description: dict, recordings: list[np.ndarray]
) -> None:
    int8 = files("encoder.int8-lstm", "joiner.int8")
    found = agreement.compare(FP32, int8, description, recordings)
    parts = found["parts"]
    assert parts["decoder"]["max_difference"] == 0  # it is the same file
    for part in ("encoder", "joiner"):
        alone = agreement.compare(FP32, FP32 | {part: int8[part]}, description, recordings)
        assert alone["all"] == parts[part]
        assert 0 < parts[part]["mean_difference"] < parts[part]["max_difference"]
    assert 0.8 < found["all"]["same_best_token"] < 1


def test_recordings_without_a_segment(description: dict) -> None:
    with pytest.raises(UserError, match="shorter than one segment"):
        agreement.compare(FP32, FP32, description, [np.zeros(800, np.float32)])
