"""Checkpoints: what they compute, against the recipe's own modules; and that they run nothing."""

from __future__ import annotations

import hashlib
import pathlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN

from transducer2ncnn import checkpoint, model
from transducer2ncnn.errors import UserError
from transducer2ncnn.families.lstm import LstmSizes
from transducer2ncnn.families.lstm.graph import LstmTransducer

CASES = [
    ("checkpoint-projection", "pretrained.pt", "expected-pretrained.npz"),
    ("checkpoint-projection", "pretrained-ddp.pt", "expected-pretrained.npz"),
    ("checkpoint-projection", "epoch-4.pt", "expected-epoch-4-avg-1.npz"),
    ("checkpoint-no-projection", "pretrained.pt", "expected-pretrained.npz"),
    ("checkpoint-no-projection", "pretrained-ddp.pt", "expected-pretrained.npz"),
]


@pytest.mark.parametrize(("folder", "file", "expected"), CASES)
def test_modules_compute_what_the_recipe_does(folder: str, file: str, expected: str) -> None:
    network, _ = model.load(GOLDEN / folder / file, "lstm")
    golden = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / folder / expected).items()}
    lengths = {int(k.split("_")[1][1:]) for k in golden if k.startswith("encoder_T")}
    assert lengths
    for t in lengths:
        x, h, c = (golden[f"encoder_T{t}_{k}"] for k in ("x", "h0", "c0"))
        outputs = network.encoder(x, torch.tensor([float(t)]), h, c)
        for output, name in zip(outputs, ("encoder_out", "lengths", "h1", "c1"), strict=True):
            wanted = golden[f"encoder_T{t}_{name}"].float()
            torch.testing.assert_close(output, wanted, rtol=0, atol=1e-5)
    decoder_out = network.decoder(golden["decoder_y"].long())
    torch.testing.assert_close(decoder_out, golden["decoder_out"], rtol=0, atol=1e-5)
    logit = network.joiner(golden["joiner_encoder_out"], golden["joiner_decoder_out"])
    torch.testing.assert_close(logit, golden["joiner_logit"], rtol=0, atol=1e-5)


def test_sizes_are_read_off_the_tensors() -> None:
    _, sizes = model.load(GOLDEN / "checkpoint-projection" / "pretrained.pt", "lstm", parts=())
    assert sizes == LstmSizes(80, 3, 32, 48, 40, 24, 28, 32, 2)
    _, sizes = model.load(GOLDEN / "checkpoint-no-projection" / "pretrained.pt", "lstm", parts=())
    assert sizes == LstmSizes(80, 2, 40, 40, 64, 32, 20, 30, 2)


def test_full_size_parameter_counts(tmp_path: Path) -> None:
    sizes = LstmSizes(80, 12, 512, 1024, 2048, 512, 512, 500, 2)
    with torch.device("meta"):
        state = LstmTransducer(sizes).state_dict()
    # Tensors that are one number, repeated: a full-size checkpoint of a few kilobytes.
    torch.save(
        {"model": {k: torch.zeros(()).expand(v.shape) for k, v in state.items()}}, tmp_path / "x.pt"
    )
    counts = model.describe(tmp_path / "x.pt", "lstm", {})["parameters"]
    assert counts == {
        "encoder": 83_137_520,
        "decoder": 257_024,
        "joiner": 781_812,
        "total": 84_176_356,
    }


def test_a_scale_is_folded_and_the_file_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    stored = {
        "a.weight": torch.tensor([2.0, -4.0]),
        "a.weight_scale": torch.tensor(2.0).log(),
        "decoder.embedding.weight": torch.tensor([[3.0]], dtype=torch.float16),
        "decoder.embedding.scale": torch.tensor(0.5).log(),
        "n.eps": torch.tensor(-1.0),
        "simple_am_proj.weight": torch.zeros(1),
        "joiner_giga.output_linear.weight": torch.zeros(1),
    }
    torch.save({"model": {"module." + k: v for k, v in stored.items()}}, path)
    before = hashlib.sha256(path.read_bytes()).digest()
    loaded = checkpoint.load_state_dict(path)
    names = list(checkpoint.inference_tensors(loaded))
    assert names == ["a.weight", "decoder.embedding.weight", "n.eps"]
    folded = {name: checkpoint.fold_scale(name, loaded) for name in names}
    torch.testing.assert_close(folded["a.weight"], torch.tensor([4.0, -8.0]))
    torch.testing.assert_close(folded["decoder.embedding.weight"], torch.tensor([[1.5]]))
    torch.testing.assert_close(folded["n.eps"], torch.tensor(-1.0))
    assert hashlib.sha256(path.read_bytes()).digest() == before


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, legacy: bool) -> None:
    target = tmp_path / "payload-ran"
    path = tmp_path / "x.pt"
    torch.save(
        {"model": {"x": torch.zeros(1)}, "params": Payload(target)},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(UserError, match="nothing in it was run"):
        checkpoint.load_state_dict(path)
    assert not target.exists()
    torch.load(path, weights_only=False)  # the payload works, where it is let
    assert target.exists()


def test_training_parameters_may_hold_a_path(tmp_path: Path) -> None:
    state = {"x": torch.zeros(1)}
    torch.save(
        {"model": state, "exp_dir": pathlib.PosixPath("exp"), "best": float("inf")},
        tmp_path / "x.pt",
    )
    assert list(checkpoint.load_state_dict(tmp_path / "x.pt")) == ["x"]


def corrupt(name: str, path: Path) -> None:
    golden = GOLDEN / "checkpoint-projection" / "pretrained.pt"
    if name == "missing":
        return
    if name == "truncated":
        path.write_bytes(golden.read_bytes()[:100_000])
    elif name == "text":
        path.write_text("not a checkpoint")
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "list":
        torch.save([1, 2], path)
    elif name == "no model":
        torch.save({"state_dict": {"x": torch.zeros(1)}}, path)
    else:
        state = torch.load(golden, weights_only=True)["model"]
        if name == "tensor missing":
            del state["encoder.encoder.layers.1.lstm.weight_hh_l0"]
        elif name == "tensor unexpected":
            state["encoder.ctc.weight"] = torch.zeros(1)
        elif name == "wrong shape":
            state["encoder.encoder.layers.1.feed_forward.0.bias"] = torch.zeros(7)
        elif name == "zipformer":
            state = {"encoder.encoders.0.layers.0.weight": torch.zeros(1)}
        torch.save({"model": state}, path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no such checkpoint"),
        ("truncated", "not a checkpoint that torch can read"),
        ("text", "not a checkpoint that torch can read"),
        ("empty", "not a checkpoint that torch can read"),
        ("list", "holds a list"),
        ("no model", "holds the keys state_dict"),
        ("tensor missing", "missing encoder.encoder.layers.1.lstm.weight_hh_l0"),
        ("tensor unexpected", "unexpected encoder.ctc.weight"),
        ("wrong shape", r"feed_forward.0.bias' has shape \(7,\).*ask for \(40,\)"),
        ("zipformer", "not an LSTM transducer.*encoder.encoders.0"),
    ],
)
def test_bad_checkpoints_are_named_for_what_they_are(
    tmp_path: Path, name: str, message: str
) -> None:
    path = tmp_path / "x.pt"
    corrupt(name, path)
    with pytest.raises(UserError, match=message) as caught:
        model.describe(path, "lstm", {})
    assert str(path) in str(caught.value)


def test_a_stated_size_that_differs_is_an_error_with_both() -> None:
    path = GOLDEN / "checkpoint-projection" / "pretrained.pt"
    model.describe(path, "lstm", {"encoder_dim": 32})
    with pytest.raises(UserError, match="encoder_dim is 32, not 512"):
        model.describe(path, "lstm", {"encoder_dim": 512})
    with pytest.raises(UserError, match="no such size"):
        model.describe(path, "lstm", {"encoder_dims": 512})
