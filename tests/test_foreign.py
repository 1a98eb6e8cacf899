"""Checkpoints that are something else: named for what they are, with what to name instead.

And safetensors, which can be read: by what safetensors' own documents say, byte for byte.
"""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from torch import nn

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families import model
from transducer2ncnn.formats import checkpoint
from transducer2ncnn.workflow import config

PRETRAINED = GOLDEN / "checkpoint-projection" / "pretrained.pt"


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU())


def traced(path: Path) -> None:
    torch.jit.trace(module(), torch.zeros(1, 2)).save(path)


def program(path: Path) -> None:
    torch.export.save(torch.export.export(module(), (torch.zeros(1, 2),)), path)


def archived(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(PRETRAINED, "exp/pretrained.pt")


def saved_arrays(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros(2))


#: A header of a protobuf: version 7 of the format, made by "pytorch".
ONNX = b"\x08\x07\x12\x07pytorch\x1a\x032.0"

#: What is written, what it is called, and whether a look at the file's ends tells.
FOREIGN: list[tuple[Callable[[Path], Any], str, bool]] = [
    (lambda path: torch.jit.script(module()).save(path), "is a TorchScript program", True),
    (traced, "is a TorchScript program", True),
    (program, "is a program of torch.export", True),
    (lambda path: path.write_bytes(ONNX), "is an ONNX model", True),
    (archived, "is a tar archive.*Unpack it", True),
    (lambda path: path.write_bytes(gzip.compress(b"x")), "is a gzip archive. Unpack it", True),
    (saved_arrays, "is an archive of numpy's", True),
    (lambda path: path.write_text("7767517\n1 1\n"), "is an ncnn param file", True),
    (lambda path: torch.save(module(), path), "holds a module as a whole .torch.nn.mod", False),
    (lambda path: torch.save({"model": module()}, path), "holds a module as a whole", False),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("write", "message", "at_once"), FOREIGN)
def test_it_is_named_for_what_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path], Any],
    message: str,
    at_once: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pt"
    write(path)
    with pytest.raises(UserError, match=rf"^{path}: .*{message}") as caught:
        model.inspect(path, "lstm")
    advice = "Name the checkpoint that|Unpack it|save of the module its state dict"
    assert len([x for x in advice.split("|") if x in str(caught.value)]) == 1
    if at_once:  # before a run does anything
        (tmp_path / "tokens.txt").write_text("<blk> 0\n")
        stated = {"models": {"m": {"checkpoint": "x.pt", "tokens": "tokens.txt"}}}
        with pytest.raises(UserError, match=f"models.m.checkpoint: x.pt: {message}"):
            config.parse(stated)


def test_an_onnx_model_is_known_by_its_name_too(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"\x0a\x01x")
    with pytest.raises(UserError, match="is an ONNX model"):
        model.inspect(tmp_path / "encoder.onnx", "lstm")


def renamed(tmp_path: Path, names: Callable[[str], str]) -> Path:
    state = torch.load(PRETRAINED, weights_only=True)["model"]
    torch.save({"model": {names(name): x for name, x in state.items()}}, tmp_path / "renamed.pt")
    return tmp_path / "renamed.pt"


@pytest.mark.parametrize(
    "names",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"_orig_mod.module.{name}",
        lambda name: f"module._orig_mod.module.{name}",
        lambda name: f"module.module.{name}",
        # Parts that were compiled by themselves, and wrapped.
        lambda name: name.replace("encoder.", "encoder._orig_mod.", 1),
    ],
)
def test_what_wrappers_leave_in_names_is_left_out(
    tmp_path: Path, names: Callable[[str], str]
) -> None:
    expected = checkpoint.load_state_dict(PRETRAINED)
    found = checkpoint.load_state_dict(renamed(tmp_path, names))
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_two_of_one_name_are_refused_whatever_the_wrapper(tmp_path: Path) -> None:
    x = torch.zeros(1)
    torch.save({"model": {"_orig_mod.a": x, "module.a": x}}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="holds 'a' twice"):
        checkpoint.load_state_dict(tmp_path / "x.pt")


def test_a_state_dict_by_itself_is_a_checkpoint(tmp_path: Path) -> None:
    expected = checkpoint.load_state_dict(PRETRAINED)
    torch.save(torch.load(PRETRAINED, weights_only=True)["model"], tmp_path / "x.pt")
    assert list(checkpoint.load_state_dict(tmp_path / "x.pt")) == list(expected)


def written(header: Any, content: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


def as_safetensors(state: dict[str, torch.Tensor], pad: int = 0) -> bytes:
    """A file of them, by the format's description; blanks may follow the header."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    content = b""
    for name, tensor in state.items():
        raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(content), len(content) + len(raw)],
        }
        content += raw
    return written(json.dumps(header).encode() + b" " * pad, content)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pad", [0, 1])
def test_safetensors_hold_what_torch_saved(tmp_path: Path, dtype: torch.dtype, pad: int) -> None:
    expected = {k: x.to(dtype) for k, x in checkpoint.load_state_dict(PRETRAINED).items()}
    # By what it holds, whatever it is called; and at any alignment.
    path = tmp_path / ("model.safetensors" if pad else "x.pt")
    path.write_bytes(as_safetensors({f"module.{k}": x for k, x in expected.items()}, pad))
    found = checkpoint.load_state_dict(path)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == dtype and torch.equal(found[name], tensor)
    before = path.read_bytes()
    described = model.inspect(path, "lstm")[1]
    assert described["sizes"] == model.inspect(PRETRAINED, "lstm")[1]["sizes"]
    assert path.read_bytes() == before  # folding is done in memory


GOOD = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def put(**changed: Any) -> dict[str, Any]:
    return {"a": GOOD["a"] | changed}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (written(GOOD, bytes(7)), "is cut off in front of the end of 'a'"),
        (written(GOOD, bytes(9)), "one behind the other, up to its end"),
        (written(put(data_offsets=[-8, 0]), bytes(8)), "the shape or the place of 'a' is none"),
        (written(put(data_offsets=[8, 0]), bytes(8)), "takes another number of bytes"),
        (written(put(data_offsets=[0, 2**60]), bytes(8)), "the shape or the place of 'a'"),
        (written(put(shape=[2**40, 2**40]), bytes(8)), "takes another number of bytes"),
        (written(put(shape=[1] * 100), bytes(8)), "the shape or the place of 'a'"),
        (written(put(shape=2), bytes(8)), "the shape or the place of 'a'"),
        (written(put(shape=[True, 2]), bytes(8)), "the shape or the place of 'a'"),
        (written(put(dtype="F8"), bytes(8)), "states no type, shape and place"),
        (written(put(dtype=["F32"]), bytes(8)), "states no type, shape and place"),
        (written(put(data_offsets=[0]), bytes(8)), "states no type, shape and place"),
        (written({"a": 3}, bytes(8)), "states no type, shape and place"),
        (written(GOOD | {"b": GOOD["a"]}, bytes(8)), "one behind the other"),
        (written({"a" * 10**6: 3}, b""), "of 'a{100}….? it states"),
        (written(b"[" * 100_000, b""), "its header is no JSON"),
        (written(b"{" * 100_000, b""), "its header is no JSON"),
        (written(b"[1]", b""), "its header holds no names"),
        (written(b"\xff{}", b""), "its header is no JSON"),
        ((2**63).to_bytes(8, "little") + b"{}", "its header is longer"),
        ((100).to_bytes(8, "little") + b"{}", "its header is longer"),
        (b"{", "its header is longer"),
        (b"", "cannot be read as safetensors"),
    ],
)
def test_safetensors_that_make_no_sense_are_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        checkpoint.load_state_dict(path)
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < 1000
