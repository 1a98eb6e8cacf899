"""What a repository or a training folder holds of a model is found by icefall's conventions.

The repositories are laid out like published ones: the LSTM's, the Zipformer's, the ConvEmformer's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GOLDEN
from hub_server import git_hash

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.source import conventions, discovery
from transducer2ncnn.source.repository import HubFile, Snapshot
from transducer2ncnn.workflow import discovered

COMMIT = "c" * 40

#: Files by path; a number stands for so many bytes, which nobody reads.
Layout = Mapping[str, int | str]

#: What is beside the model in all of them.
COMMON: Layout = {
    ".gitattributes": 1500,
    "data/lang_bpe_500/bpe.model": 244_853,
    "data/lang_bpe_500/tokens.txt": 5048,
    "decoding_results/greedy_search/log-decode": 90_000,
    "test_wavs/1089-134686-0001.wav": 212_044,
    "test_wavs/1221-135766-0002.wav": 153_724,
    "test_wavs/trans.txt": 396,
}

LSTM: Layout = COMMON | {
    "README.md": "See https://github.com/k2-fsa/icefall\n",
    "exp/cpu_jit-iter-468000-avg-16.pt": 353_000_000,
    "exp/encoder_jit_trace-iter-468000-avg-16.pt": 339_000_000,
    "exp/decoder_jit_trace-iter-468000-avg-16.pt": 1_000_000,
    "exp/joiner_jit_trace-iter-468000-avg-16.pt": 3_000_000,
    "exp/encoder_jit_trace-pnnx.pt": 332_000_000,
    "exp/pretrained-iter-468000-avg-16.pt": 337_000_000,
}
LSTM_ID = "csukuangfj/icefall-asr-librispeech-lstm-transducer-stateless2-2022-09-03"

ZIPFORMER: Layout = COMMON | {
    "README.md": "# Streaming zipformer\nSee the scripts in `exp`.\n",
    "exp/cpu_jit.pt": 285_000_000,
    "exp/pretrained.pt": 281_769_595,
    # The same file once more, as icefall's export script wants it.
    "exp/epoch-99.pt": 281_769_595,
    "exp/decode.sh": """#!/usr/bin/env bash
# --decode-chunk-len 64 is better, and slower
./pruned_transducer_stateless7_streaming/decode.py \\
  --epoch 30 --avg 9 \\
  --decode-chunk-len 32 \\
  --num-left-chunks=4
""",
}
ZIPFORMER_ID = (
    "csukuangfj/icefall-asr-librispeech-pruned-transducer-stateless7-streaming-2022-12-29"
)

CONV_EMFORMER: Layout = {
    "README.md": """Trained with
```
./conv_emformer_transducer_stateless2/train.py --num-encoder-layers 12 --chunk-length 32 \\
  --cnn-module-kernel 31 --left-context-length 32 --right-context-length 8 --memory-size 32
```
""",
    "data/lang_bpe_500/bpe.model": 244_853,
    "exp/pretrained-epoch-30-avg-10-averaged.pt": 300_000_000,
    "exp/cpu_jit-epoch-30-avg-10-1.pt": 310_000_000,
    "test_wavs/1089-134686-0001.wav": 212_044,
}
CONV_EMFORMER_ID = "Zengwei/icefall-asr-librispeech-conv-emformer-transducer-stateless2-2022-07-05"


def snapshot(repo_id: str, layout: Layout, folder: Path) -> Snapshot:
    """A repository; its texts are in the folder already, as after an earlier run."""
    files = []
    for path, content in layout.items():
        if isinstance(content, int):
            # Of one size, of one content.
            files.append(HubFile(path, content, hashlib.sha256(b"%d" % content).hexdigest()))
            continue
        kept = folder / COMMIT / path
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(content)
        files.append(HubFile(path, len(content), git_hash(content.encode())))
    return Snapshot(repo_id, "main", COMMIT, tuple(files))


def find(repo_id: str, layout: Layout, folder: Path, **stated: Any) -> dict[str, Any]:
    found = discovery.in_repository("m", snapshot(repo_id, layout, folder), stated, folder)
    return {x.key: x.value for x in found}


#: What all published models have in the same places.
WAVS = [path for path in COMMON if path.endswith(".wav")]
VOCABULARY = {
    "tokens": "data/lang_bpe_500/tokens.txt",
    "bpe_model": "data/lang_bpe_500/bpe.model",
}


def test_an_lstm_repository_is_enough(tmp_path: Path) -> None:
    assert find(LSTM_ID, LSTM, tmp_path) == {
        "family": "lstm",
        "checkpoint": "exp/pretrained-iter-468000-avg-16.pt",
        "test_wavs": WAVS,
        **VOCABULARY,
    }


def test_a_zipformers_settings_come_from_its_scripts(tmp_path: Path) -> None:
    found = discovery.in_repository("m", snapshot(ZIPFORMER_ID, ZIPFORMER, tmp_path), {}, tmp_path)
    assert {x.key: x.value for x in found} == {
        "family": "zipformer",
        "checkpoint": "exp/pretrained.pt",
        "test_wavs": WAVS,
        "settings.decode_chunk_len": 32,
        "settings.num_left_chunks": 4,
        **VOCABULARY,
    }
    origins = {x.key: x.origin for x in found}
    assert origins["settings.decode_chunk_len"] == "--decode-chunk-len in exp/decode.sh, line 5"
    assert origins["checkpoint"] == "the only pretrained*.pt, 281.8 MB"


def test_what_a_repository_does_not_say_is_asked_for_by_key(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        find(CONV_EMFORMER_ID, CONV_EMFORMER, tmp_path)
    message = str(caught.value)
    assert message.count("  models.m.") == 1
    assert "models.m.settings.nhead: attention heads; no README or script states --nhead. In" in (
        message
    )
    # What was found is said along with it.
    assert "settings.memory_size: 32 (--memory-size in README.md, line 4)" in message
    found = find(CONV_EMFORMER_ID, CONV_EMFORMER, tmp_path, settings={"nhead": 8})
    assert found["bpe_model"] == VOCABULARY["bpe_model"] and "tokens" not in found
    assert found["settings.right_context_length"] == 8 and "settings.nhead" not in found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"exp/pretrained-iter-472000-avg-18.pt": 337_000_001},
            r"models.m.checkpoint: expected one of exp/pretrained-iter-468000-avg-16.pt \(337.0 "
            r"MB\), exp/pretrained-iter-472000-avg-18.pt \(337.0 MB\)\.",
        ),
        (
            {"data/lang_bpe_5000/tokens.txt": 60_000},
            "models.m.tokens: expected one of data/lang_bpe_500/tokens.txt .5,048 bytes., data/l",
        ),
        ({"test_waves/a.wav": 9}, r"test_wavs: expected one of test_waves/\*.wav, test_wavs/\*"),
        (
            {f"test_wavs/{i}.wav": i for i in range(101)},
            "models.m.test_wavs: test_wavs has 103 recordings; expected the names of a few",
        ),
        ({f"{i}.txt": 1 for i in range(5000)}, "has 5,014 files, more than are looked through"),
        # A file that was left behind when the large ones were uploaded.
        (
            {"exp/pretrained-iter-468000-avg-16.pt": 134},
            r"checkpoint: .*too small to be one: exp/p.*134 bytes",
        ),
    ],
)
def test_what_leaves_a_choice_is_listed_with_its_key(
    changes: Layout, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        find(LSTM_ID, {**LSTM, **changes}, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("decode.py --decode-chunk-len 64\n", r"decode_chunk_len: expected one of 64 \(--decode"),
        ("decode.py --decode-chunk-len $len --decode-chunk-len 32/64\n", None),
        ("other.py --no-decode-chunk-len 64 --decode-chunk-lengths 64\n", None),
    ],
)
def test_scripts_that_contradict_each_other_settle_nothing(
    text: str, message: str | None, tmp_path: Path
) -> None:
    layout = {**ZIPFORMER, "exp/another.sh": text}
    if message is None:
        assert find(ZIPFORMER_ID, layout, tmp_path)["settings.decode_chunk_len"] == 32
    else:
        with pytest.raises(UserError, match=message):
            find(ZIPFORMER_ID, layout, tmp_path)
        found = find(ZIPFORMER_ID, layout, tmp_path, settings={"decode_chunk_len": 64})
        assert found["settings.num_left_chunks"] == 4


@pytest.mark.parametrize(
    ("repo_id", "readme", "family"),
    [
        ("a/lstm_transducer_stateless2", "", "lstm"),
        ("a/conv-emformer-transducer-stateless2-small", "", "conv_emformer"),
        ("a/mine", "egs/librispeech/ASR/lstm_transducer_stateless3/train.py", "lstm"),
        # Other networks, whose recipes' names begin alike.
        ("a/conv-emformer-transducer-stateless-2022", "", None),
        ("a/pruned-transducer-stateless7-2022", "", None),
        ("a/pruned-transducer-stateless7-streaming-ctc", "", "zipformer"),
        ("a/mine", "lstm_transducer_stateless2, conv_emformer_transducer_stateless2", None),
    ],
)
def test_the_family_is_that_of_the_recipe_that_is_named(
    repo_id: str, readme: str, family: str | None
) -> None:
    answer = conventions.family(repo_id, {"README.md": readme})
    assert answer.key == "family"
    assert (answer.value if isinstance(answer, conventions.Found) else None) == family


def test_a_training_checkpoint_holds_its_settings(tmp_path: Path) -> None:
    layout = {k: v for k, v in ZIPFORMER.items() if k != "exp/pretrained.pt"}
    found = find(ZIPFORMER_ID, layout, tmp_path)
    assert found["checkpoint"] == "exp/epoch-99.pt"
    assert not any(key.startswith("settings") for key in found)


# --- The configuration ---------------------------------------------------------------------------


def test_one_repository_stands_for_the_whole_configuration(tmp_path: Path) -> None:
    raw = {
        "repo_id": CONV_EMFORMER_ID,
        # As Snakemake reads --config 'settings={nhead: 8}'.
        "settings": {"nhead": "8"},
        "precisions": {"fp16": {}},
        "models": {"not-this": {"checkpoint": "nowhere.pt"}},
    }
    _, parsed, findings = discovered.complete(
        raw, lambda repo_id, _: snapshot(repo_id, CONV_EMFORMER, tmp_path), lambda *_: tmp_path
    )
    (name,) = findings
    assert name == CONV_EMFORMER_ID.partition("/")[2]
    assert list(parsed.models) == [name] and parsed.precisions_of(name) == ["fp16"]
    assert parsed.models[name].settings == {
        "nhead": 8,
        "chunk_length": 32,
        "left_context_length": 32,
        "right_context_length": 8,
        "memory_size": 32,
    }
    origins = discovered.origins(findings[name], CONV_EMFORMER_ID)
    assert origins["memory_size"] == f"--memory-size in README.md, line 4, of {CONV_EMFORMER_ID}"
    assert "nhead" not in origins
    del raw["settings"]
    with pytest.raises(UserError, match="settings.nhead: (.|\n)*State keys of the model beside"):
        discovered.complete(
            raw, lambda repo_id, _: snapshot(repo_id, CONV_EMFORMER, tmp_path), lambda *_: tmp_path
        )
    json.dumps(discovered.recorded(findings[name]), allow_nan=False)


def test_what_is_wrong_is_said_before_anything_is_looked_for() -> None:
    def look_up(*_: str) -> Snapshot:
        raise AssertionError("the Hub was asked")

    for raw, message in (
        ({"models": {"m": {"repo_id": "x"}}}, "models.m.repo_id: expected <owner>/<name>"),
        ({"repo_id": 5}, "models.5.repo_id"),
        (
            {"repo_id": "a/b", "chekpoint": "x"},
            "models.b.chekpoint: unknown key. Did you mean `checkpoint`",
        ),
    ):
        with pytest.raises(UserError, match=message):
            discovered.complete(raw, look_up, lambda *_: Path())


def test_a_model_on_request_that_cannot_be_found_stops_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def look_up(repo_id: str, _: str) -> Snapshot:
        if repo_id == "a/away":
            raise UserError("the Hub could not be reached.")
        return snapshot(LSTM_ID, LSTM, tmp_path)

    models = {"away": {"repo_id": "a/away", "on_request": True}, "here": {"repo_id": LSTM_ID}}
    stated, _, findings = discovered.complete({"models": models}, look_up, lambda *_: tmp_path)
    assert list(stated["models"]) == list(findings) == ["here"]
    assert "away is left out. the Hub could not be reached" in capsys.readouterr().err
    models["away"]["on_request"] = False
    with pytest.raises(UserError, match="could not be reached"):
        discovered.complete({"models": models}, look_up, lambda *_: tmp_path)


# --- A training folder ---------------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """icefall's layout: a recipe's exp, and the lang folder beside the recipe."""
    exp = tmp_path / "ASR" / "lstm_transducer_stateless2" / "exp"
    exp.mkdir(parents=True)
    shutil.copy(GOLDEN / "checkpoint-projection" / "epoch-1.pt", exp)
    add_lang(tmp_path, "lang_bpe_500")
    return tmp_path


def add_lang(folder: Path, name: str) -> None:
    lang = folder / "ASR" / "data" / name
    lang.mkdir(parents=True)
    (lang / "tokens.txt").write_text(f"<blk> 0\n{name} 1\n")
    (lang / "bpe.model").write_text(name)


def complete(recipe: Path, **model: Any) -> dict[str, Any]:
    stated = {"exp_dir": str(recipe / "ASR/lstm_transducer_stateless2/exp"), "epoch": 1, **model}

    def look_up(*_: str) -> Snapshot:
        raise AssertionError("the Hub was asked")

    raw, _, _ = discovered.complete({"models": {"m": stated}}, look_up, lambda *_: recipe)
    return raw["models"]["m"]


def test_a_training_folder_finds_its_lang_folder(recipe: Path) -> None:
    found = complete(recipe)
    assert found["tokens"] == str(recipe / "ASR/data/lang_bpe_500/tokens.txt")
    assert found["bpe_model"] == str(recipe / "ASR/data/lang_bpe_500/bpe.model")
    assert found["family"] == "lstm"


def test_several_lang_folders_are_listed(recipe: Path) -> None:
    add_lang(recipe, "lang_bpe_5000")
    with pytest.raises(UserError, match=r"models.m.tokens: expected one of .*500/tok.*5000"):
        complete(recipe)
    tokens = str(recipe / "ASR/data/lang_bpe_5000/tokens.txt")
    assert complete(recipe, tokens=tokens)["tokens"] == tokens


def test_the_checkpoint_says_which_lang_folder_it_is(recipe: Path) -> None:
    add_lang(recipe, "lang_bpe_5000")
    checkpoint = recipe / "ASR/lstm_transducer_stateless2/exp/epoch-1.pt"
    held = torch.load(checkpoint, weights_only=False) | {
        "bpe_model": "data/lang_bpe_5000/bpe.model"
    }
    torch.save(held, checkpoint)
    found = complete(recipe)
    assert found["tokens"] == str(recipe / "ASR/data/lang_bpe_5000/tokens.txt")


def test_a_training_folder_without_a_lang_folder_says_so(recipe: Path) -> None:
    shutil.rmtree(recipe / "ASR/data")
    with pytest.raises(UserError, match="models.m.tokens: no file is called tokens.txt or bpe.mo"):
        complete(recipe)
    # The numbers are checked first.
    with pytest.raises(UserError, match="models.m: expected one of `epoch` and `iter`"):
        complete(recipe, epoch=None)
