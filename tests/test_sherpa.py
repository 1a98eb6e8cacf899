"""The real sherpa-ncnn: what it knows, what it makes of a delivered folder, and how it fails."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN, Export, lstm_architecture

from transducer2ncnn.base import layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines import search
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.evaluation import transcription
from transducer2ncnn.export import assembly, delivery
from transducer2ncnn.families import model
from transducer2ncnn.families.lstm import LstmArchitecture
from transducer2ncnn.formats import param, sherpa, tokens
from transducer2ncnn.speech import audio


def test_the_patch_is_the_hand_edit() -> None:
    plain = param.read(GOLDEN / "int8" / "encoder.ncnn.param")
    architecture = lstm_architecture(num_encoder_layers=2, encoder_dim=64, rnn_hidden_size=128)
    patched = sherpa.with_meta_data(plain, architecture.meta_data()).text()
    golden = (GOLDEN / "int8" / "encoder.sherpa.ncnn.param").read_text()
    assert [x.split() for x in patched.splitlines()] == [x.split() for x in golden.splitlines()]


def description(exported: Export, **sizes: int) -> dict[str, Any]:
    stated = dataclasses.asdict(exported.sizes) | sizes
    return {"family": "lstm", "sizes": stated, "settings": {}}


@pytest.fixture
def folder(exported: Export, tmp_path: Path) -> Path:
    """The exported model, as it is delivered."""
    tokens_txt = GOLDEN / exported.name / "tokens.txt"
    assembly.assemble(
        exported.files("fp32"), description(exported), tokens_txt, tmp_path / "sherpa"
    )
    return tmp_path / "sherpa"


@pytest.fixture(scope="module")
def recordings() -> dict[str, np.ndarray]:
    """Noises, which a random model says enough about; the last ends with its last segment."""
    rng = np.random.default_rng(0)
    bursts = np.repeat(rng.uniform(0, 0.5, 20), 1600)
    return {
        "bursts": (rng.standard_normal(32000) * bursts).astype(np.float32),
        "exact": (rng.standard_normal(12000) * 0.1).astype(np.float32),
        "hum": (0.3 * np.sin(np.arange(16000) / 20)).astype(np.float32),
    }


def test_it_hears_what_plain_ncnn_hears(
    exported: Export, folder: Path, recordings: dict[str, np.ndarray]
) -> None:
    by_sherpa = transcription.sherpa_texts(folder, recordings, threads=1, tail_seconds=0.5)
    transducer = NcnnTransducer(exported.files("fp32"), exported.architecture)
    symbols = tokens.read(folder / "tokens.txt", exported.sizes.vocab_size)
    by_ncnn = [tokens.to_text(search.decode(transducer, x), symbols) for x in recordings.values()]
    assert by_sherpa == by_ncnn
    assert any(len(text) > 5 for text in by_sherpa)


def test_it_refuses_an_unpatched_folder(
    exported: Export, folder: Path, recordings: dict[str, np.ndarray]
) -> None:
    shutil.copy(exported.files("fp32")["encoder"][0], layout.ncnn_files(folder)["encoder"][0])
    with pytest.raises(UserError, match="sherpa-ncnn cannot run the model in .*its process"):
        transcription.sherpa_texts(folder, recordings, threads=1, tail_seconds=0.5)


def test_a_crash_is_an_error_with_what_it_printed(
    folder: Path, recordings: dict[str, np.ndarray]
) -> None:
    for _, bin_ in layout.ncnn_files(folder).values():
        bin_.write_bytes(b"")
    with pytest.raises(UserError, match="its process (crashed|exited)") as caught:
        transcription.sherpa_texts(folder, recordings, threads=1, tail_seconds=0.5)
    assert "sherpa-ncnn loads" in str(caught.value)


@pytest.fixture
def golden_int8(tmp_path: Path) -> dict[str, dict[str, tuple[Path, Path]]]:
    """The real tools' files of one model under the names that the workflow gives them."""
    made: dict[str, dict[str, tuple[Path, Path]]] = {}
    for part, precision, name in (
        ("encoder", "fp32", "encoder.ncnn"),
        ("encoder", "int8", "encoder.int8-lstm"),
        ("decoder", "fp16", "decoder.ncnn"),
        ("joiner", "fp32", "joiner.ncnn"),
        ("joiner", "int8", "joiner.int8"),
    ):
        folder = tmp_path / precision
        folder.mkdir(exist_ok=True)
        pair = layout.ncnn_files(folder, precision)[part]
        for file in pair:
            shutil.copy(GOLDEN / "int8" / f"{name}{file.suffix}", file)
        made.setdefault(part, {})[precision] = pair
    return made


def test_parts_of_several_precisions_in_one_folder(golden_int8: dict, tmp_path: Path) -> None:
    description = model.inspect(GOLDEN / "int8" / "pretrained.pt", "lstm")[1]
    wavs = sorted((GOLDEN / "int8" / "wavs").glob("*.wav"))[:2]
    recordings = {wav.name: audio.read(wav) for wav in wavs}
    for encoder, joiner in (("int8", "int8"), ("int8", "fp32"), ("fp32", "int8")):
        files = {
            "encoder": golden_int8["encoder"][encoder],
            "decoder": golden_int8["decoder"]["fp16"],
            "joiner": golden_int8["joiner"][joiner],
        }
        # Into the same folder each time: what another precision left there must go.
        folder = tmp_path / "sherpa"
        delivery.deliver(files, description, GOLDEN / "int8" / "tokens.txt", folder)
        assert len(list(folder.iterdir())) == 8
        delivered = layout.delivered_files(folder)
        assert delivered["encoder"][0].name == files["encoder"][0].name
        by_sherpa = transcription.sherpa_texts(folder, recordings, threads=1, tail_seconds=0.5)
        assert all(len(text) > 10 for text in by_sherpa)


@pytest.mark.parametrize(
    ("size", "value", "message"),
    [
        ("context_size", 1, "context size is 1, and sherpa-ncnn supports 2 only"),
        ("feature_dim", 40, "feature dim is 40, and sherpa-ncnn supports 80 only"),
    ],
)
def test_what_it_cannot_use_is_not_delivered(
    exported: Export, tmp_path: Path, size: str, value: int, message: str
) -> None:
    sizes = dataclasses.asdict(exported.sizes) | {size: value}
    with pytest.raises(UserError, match=message):
        delivery.deliver(
            exported.files("fp32"),
            {"family": "lstm", "sizes": sizes, "settings": {}},
            GOLDEN / exported.name / "tokens.txt",
            tmp_path / "sherpa",
        )
    assert not (tmp_path / "sherpa").exists()


def deliver(
    exported: Export,
    tmp_path: Path,
    encoder: Path | None = None,
    tokens_txt: Path | None = None,
    **sizes: int,
) -> None:
    """Deliver the fp32 files, over an older folder; with another param, table, or sizes stated."""
    files = exported.files("fp32")
    if encoder:
        files["encoder"] = (encoder, files["encoder"][1])
    tokens_txt = tokens_txt or GOLDEN / exported.name / "tokens.txt"
    folder = tmp_path / "sherpa"
    folder.mkdir()
    (folder / "tokens.txt").write_text("older")
    delivery.deliver(files, description(exported, **sizes), tokens_txt, folder)


def check_nothing_is_delivered(tmp_path: Path) -> None:
    """What was there is as it was, and nothing half-made lies beside it."""
    assert [f.name for f in (tmp_path / "sherpa").iterdir()] == ["tokens.txt"]
    assert (tmp_path / "sherpa" / "tokens.txt").read_text() == "older"
    assert not list(tmp_path.glob(".partial-*"))


def test_a_sound_model_is_delivered(exported: Export, tmp_path: Path) -> None:
    deliver(exported, tmp_path)
    made = {f.name: f.read_bytes() for f in (tmp_path / "sherpa").iterdir()}
    assembly.assemble(
        exported.files("fp32"),
        description(exported),
        GOLDEN / exported.name / "tokens.txt",
        tmp_path / "plain",
    )
    assert made.pop(layout.TRANSCRIBE)
    assert made == {f.name: f.read_bytes() for f in (tmp_path / "plain").iterdir()}
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.parametrize(
    ("key", "change"),
    [
        pytest.param(0, -2, id="another family"),
        pytest.param(1, -1, id="a layer too few"),
        pytest.param(2, -8, id="narrower hidden states"),
        pytest.param(3, 8, id="wider cell states"),
        pytest.param(3, -8, id="narrower cell states"),
    ],
)
def test_wrong_metadata_is_not_delivered(
    exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: int, change: int
) -> None:
    right = exported.architecture.meta_data()
    value = right[key]
    assert isinstance(value, int)
    wrong = right | {key: value + change}
    monkeypatch.setattr(LstmArchitecture, "meta_data", lambda architecture: wrong)
    with pytest.raises(UserError, match=f"{tmp_path}/sherpa: not delivered. .*sherpa-ncnn"):
        deliver(exported, tmp_path)
    check_nothing_is_delivered(tmp_path)


# Not rnn_hidden_size: what ncnn makes of cell states that are too wide depends on the memory.
@pytest.mark.parametrize("size", ["num_encoder_layers", "encoder_dim"])
def test_sizes_that_are_not_the_graphs(exported: Export, tmp_path: Path, size: str) -> None:
    # A layer too many in the metadata alone would change nothing: sherpa-ncnn starts from zeros.
    with pytest.raises(UserError, match="not delivered"):
        deliver(exported, tmp_path, **{size: getattr(exported.sizes, size) + 1})
    check_nothing_is_delivered(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (r"\bout3\b", "ncnn cannot compute blob 'out3'"),
        (r"\bin3\b", "has no input blob 'in3'"),
    ],
)
def test_a_graph_without_a_state_is_not_delivered(
    exported: Export, tmp_path: Path, edit: str, message: str
) -> None:
    encoder = tmp_path / "encoder.param"
    encoder.write_text(re.sub(edit, "lost", exported.files("fp32")["encoder"][0].read_text()))
    with pytest.raises(UserError, match=f"not delivered. .*{message}"):
        deliver(exported, tmp_path, encoder=encoder)
    check_nothing_is_delivered(tmp_path)


def test_tokens_that_it_cannot_write_are_not_delivered(
    exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "tokens.txt"
    lines = (GOLDEN / exported.name / "tokens.txt").read_text().splitlines()
    table.write_text("\n".join(lines[:8]) + "\n")
    with pytest.raises(UserError, match="not delivered. .*tokens.txt: holds 8 tokens"):
        deliver(exported, tmp_path, tokens_txt=table)
    check_nothing_is_delivered(tmp_path)
    # Even if the project took it for a good table.
    shutil.rmtree(tmp_path / "sherpa")
    monkeypatch.setattr(tokens, "read", lambda path, vocab_size: [])
    with pytest.raises(UserError, match="not delivered. the tokens.txt beside the model lacks a"):
        deliver(exported, tmp_path, tokens_txt=table)
    check_nothing_is_delivered(tmp_path)


def test_int8_is_delivered(golden_int8: dict, tmp_path: Path) -> None:
    """Where plain ncnn and sherpa-ncnn round differently the most."""
    files = {part: found.get("int8", found.get("fp16")) for part, found in golden_int8.items()}
    delivery.deliver(
        files,
        model.inspect(GOLDEN / "int8" / "pretrained.pt", "lstm")[1],
        GOLDEN / "int8" / "tokens.txt",
        tmp_path / "sherpa",
    )
    assert len(list((tmp_path / "sherpa").iterdir())) == 8
