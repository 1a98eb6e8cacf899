"""Checkpoints: what they compute, against the recipe's own modules; and that they run nothing."""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN, check_computes, lstm_architecture

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families import model
from transducer2ncnn.families.lstm import LstmArchitecture, LstmSizes
from transducer2ncnn.families.lstm.graph import build
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import checkpoint

CASES = [
    ("checkpoint-projection", "pretrained.pt", "expected-pretrained.npz"),
    ("checkpoint-projection", "pretrained-ddp.pt", "expected-pretrained.npz"),
    ("checkpoint-projection", "epoch-4.pt", "expected-epoch-4-avg-1.npz"),
    ("checkpoint-no-projection", "pretrained.pt", "expected-pretrained.npz"),
    ("checkpoint-no-projection", "pretrained-ddp.pt", "expected-pretrained.npz"),
]


@pytest.mark.parametrize(("folder", "file", "expected"), CASES)
def test_modules_compute_what_the_recipe_does(folder: str, file: str, expected: str) -> None:
    network = model.load(GOLDEN / folder / file, "lstm")
    check_computes(network, np.load(GOLDEN / folder / expected))


def test_sizes_are_read_off_the_tensors() -> None:
    def sizes(folder: str) -> LstmSizes:
        return model.load(GOLDEN / folder / "pretrained.pt", "lstm", parts=()).architecture.sizes

    assert sizes("checkpoint-projection") == LstmSizes(
        feature_dim=80,
        num_encoder_layers=3,
        encoder_dim=32,
        rnn_hidden_size=48,
        dim_feedforward=40,
        decoder_dim=24,
        joiner_dim=28,
        vocab_size=32,
        context_size=2,
    )
    assert sizes("checkpoint-no-projection") == LstmSizes(
        feature_dim=80,
        num_encoder_layers=2,
        encoder_dim=40,
        rnn_hidden_size=40,
        dim_feedforward=64,
        decoder_dim=32,
        joiner_dim=20,
        vocab_size=30,
        context_size=2,
    )


def test_full_size_parameter_counts(tmp_path: Path) -> None:
    architecture = lstm_architecture(
        num_encoder_layers=12,
        encoder_dim=512,
        rnn_hidden_size=1024,
        dim_feedforward=2048,
        decoder_dim=512,
        joiner_dim=512,
        vocab_size=500,
    )
    with torch.device("meta"):
        state = build(architecture).state_dict()
    torch.save({"model": {k: torch.zeros(v.shape) for k, v in state.items()}}, tmp_path / "x.pt")
    counts = model.inspect(tmp_path / "x.pt", "lstm")[1]["parameters"]
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
    assert "joiner_giga.output_linear.weight" not in loaded
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


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
def test_training_parameters_may_hold_a_path(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where Python 3.13 has it, for the pickle to say so.
    monkeypatch.setitem(sys.modules, "pathlib._local", pathlib)
    monkeypatch.setattr(pathlib.PosixPath, "__module__", module)
    state = {"x": torch.zeros(1)}
    torch.save(
        {"model": state, "exp_dir": pathlib.PosixPath("exp"), "best": float("inf")},
        tmp_path / "x.pt",
    )
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        assert f"{module}\nPosixPath".encode() in archive.read("x/data.pkl")
    monkeypatch.undo()
    assert list(checkpoint.load_state_dict(tmp_path / "x.pt")) == ["x"]


def zipped(path: Path, entries: dict[str, bytes], compression: int) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def repacked(path: Path, compression: int) -> None:
    """A golden checkpoint, its entries stored or compressed."""
    with zipfile.ZipFile(GOLDEN / "checkpoint-projection" / "pretrained.pt") as golden:
        entries = {entry.filename: golden.read(entry) for entry in golden.infolist()}
    zipped(path, entries, compression)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = tmp_path / "x.pt"
    zipped(bomb, {"x/data.pkl": bytes(500_000_000)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1_000_000
    tracemalloc.start()
    with pytest.raises(UserError, match=r"refused.*of 500 MB when unpacked"):
        checkpoint.load_state_dict(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    # An archive is not refused for being one: stored, as torch does it, the same entries load.
    repacked(tmp_path / "stored.pt", zipfile.ZIP_STORED)
    repacked(tmp_path / "packed.pt", zipfile.ZIP_DEFLATED)
    assert checkpoint.load_state_dict(tmp_path / "stored.pt")
    with pytest.raises(UserError, match="torch.save never compresses"):
        checkpoint.load_state_dict(tmp_path / "packed.pt")


def test_a_tensor_larger_than_what_is_stored_of_it_is_refused(tmp_path: Path) -> None:
    huge = torch.zeros(()).expand(10**6, 10**6)
    torch.save({"model": {"encoder.x": huge}}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"'encoder.x' repeats what is stored"):
        checkpoint.load_state_dict(tmp_path / "x.pt")


def test_half_precision_is_read_as_fp32(tmp_path: Path) -> None:
    golden = checkpoint.load_state_dict(GOLDEN / "checkpoint-projection" / "pretrained.pt")
    for dtype in (torch.float16, torch.bfloat16):
        torch.save({"model": {k: v.to(dtype) for k, v in golden.items()}}, tmp_path / "x.pt")
        network = model.load(tmp_path / "x.pt", "lstm")
        for name, tensor in network.state_dict().items():
            assert tensor.dtype == torch.float32
            scale = golden.get(f"{name}_scale", torch.tensor(0.0)).to(dtype).float()
            if name == "decoder.embedding.weight":
                scale = golden["decoder.embedding.scale"].to(dtype).float()
            torch.testing.assert_close(tensor, golden[name].to(dtype).float() * scale.exp())


#: Scales whose exponential fp32 cannot hold, or not as a normal number.
SCALES = {"infinite scale": 1000.0, "vanishing scale": -100.0, "NaN scale": float("nan")}


def corrupt(name: str, path: Path) -> None:
    golden = GOLDEN / "checkpoint-projection" / "pretrained.pt"
    layer = "encoder.encoder.layers.1."
    if name == "missing":
        return
    if name == "truncated":
        path.write_bytes(golden.read_bytes()[:100_000])
    elif name == "text":
        path.write_text("not a checkpoint")
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "zip":
        zipped(path, {"readme.txt": b"x"}, zipfile.ZIP_STORED)
    elif name == "list":
        torch.save([1, 2], path)
    elif name == "no model":
        torch.save({"state_dict": {"x": torch.zeros(1)}}, path)
    elif name == "sparse":
        torch.save({"model": {"encoder.x": torch.zeros(9, 9).to_sparse()}}, path)
    else:
        state = torch.load(golden, weights_only=True)["model"]
        if name == "tensor missing":
            del state[f"{layer}lstm.weight_hh_l0"]
        elif name == "tensor unexpected":
            state["encoder.ctc.weight"] = torch.zeros(1)
        elif name == "wrong shape":
            state[f"{layer}feed_forward.0.bias"] = torch.zeros(7)
        elif name == "wrong scale":
            state[f"{layer}feed_forward.0.bias_scale"] = torch.zeros(7)
        elif name == "nan":
            state[f"{layer}feed_forward.0.bias"][3] = float("nan")
        elif name in SCALES:
            state["joiner.output_linear.weight_scale"].fill_(SCALES[name])
        elif name == "layer missing":
            state = {k: v for k, v in state.items() if not k.startswith(layer)}
        elif name == "no vocabulary":
            state["decoder.embedding.weight"] = torch.zeros(0, 24)
        else:
            state = {k: torch.zeros(1) for k in OTHER_ARCHITECTURES[name]}
        torch.save({"model": state}, path)


#: Some tensors of each, named as the recipes' modules name them.
OTHER_ARCHITECTURES = {
    "zipformer": ["encoder.encoders.0.layers.0.pooling.proj.weight"],
    "zipformer, downsampled": ["encoder.encoders.1.encoder.layers.0.pooling.proj.weight"],
    "zipformer 2": ["encoder.encoder_embed.conv.0.weight", "encoder.encoders.0.layers.0.norm.eps"],
    "zipformer 2, downsampled": ["encoder.encoders.1.encoder.layers.0.norm.eps"],
    "conv-emformer": ["encoder.encoder.emformer_layers.0.conv_module.pointwise_conv1.weight"],
    "emformer": ["encoder.encoder.emformer_layers.0.attention.emb_to_query.weight"],
    "conformer": [
        "encoder.encoder.layers.0.conv_module.norm.weight",
        "encoder.encoder.layers.0.self_attn.in_proj.weight",
    ],
    "transformer": ["encoder.encoder.layers.0.self_attn.in_proj_weight"],
    "something else": ["conv1.weight"],
}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "there is no file"),
        ("truncated", "not a checkpoint that torch can read"),
        ("text", "not a checkpoint that torch can read"),
        ("empty", "not a checkpoint that torch can read"),
        ("zip", "not a checkpoint that torch can read"),
        ("list", "holds a list"),
        ("no model", "holds the keys state_dict"),
        ("sparse", "asks for 'torch._utils._rebuild_sparse_tensor'"),
        ("tensor missing", "missing encoder.encoder.layers.1.lstm.weight_hh_l0"),
        ("tensor unexpected", "unexpected encoder.ctc.weight"),
        ("wrong shape", r"feed_forward.0.bias' has shape \(7,\).*ask for \(40,\)"),
        ("wrong scale", r"feed_forward.0.bias_scale' has shape \(7,\), expected one number"),
        ("nan", "layers.1.feed_forward.0.bias' holds NaN or infinity in 1 of its 40 values"),
        ("infinite scale", "'joiner.output_linear.weight_scale' is 1000: .* which is inf in fp32"),
        ("vanishing scale", "'joiner.output_linear.weight_scale' is -100: .* 3.78.*e-44 in fp32"),
        ("NaN scale", "'joiner.output_linear.weight_scale' is nan: .* which is nan in fp32"),
        ("layer missing", "encoder.encoder.layers.N are numbered 0, 2. Expected all from 0"),
        ("no vocabulary", "vocab_size, read off its tensors' shapes, would be 0"),
        ("zipformer", "encoder.encoders.0.*it looks like a Zipformer transducer"),
        ("zipformer, downsampled", "it looks like a Zipformer transducer"),
        ("zipformer 2", "encoder.encoders.0.*it looks like a Zipformer of another version"),
        ("zipformer 2, downsampled", "it looks like a Zipformer of another version"),
        ("conv-emformer", "it looks like a ConvEmformer transducer"),
        ("emformer", "it looks like an Emformer transducer"),
        ("conformer", "it looks like a Conformer"),
        ("transformer", "it looks like a Transformer"),
        ("something else", r"is missing. The checkpoint holds conv1.weight.$"),
    ],
)
def test_bad_checkpoints_are_named_for_what_they_are(
    tmp_path: Path, name: str, message: str
) -> None:
    path = tmp_path / "x.pt"
    corrupt(name, path)
    with pytest.raises(UserError, match=message) as caught:
        model.inspect(path, "lstm")
    assert str(path) in str(caught.value)


def test_a_stated_size_that_differs_is_an_error_with_both() -> None:
    path = GOLDEN / "checkpoint-projection" / "pretrained.pt"
    model.check_stated(path, "lstm", {"encoder_dim": 32})
    with pytest.raises(UserError, match="encoder_dim is 32, not 512"):
        model.check_stated(path, "lstm", {"encoder_dim": 512})
    with pytest.raises(UserError, match="no such size"):
        model.check_stated(path, "lstm", {"encoder_dims": 512})


def test_described_models_survive_the_way_through_a_file() -> None:
    path = GOLDEN / "checkpoint-projection" / "pretrained.pt"
    description = json.loads(json.dumps(model.inspect(path, "lstm")[1]))
    architecture = described(description)
    assert isinstance(architecture, LstmArchitecture)
    assert architecture.sizes == model.load(path, "lstm", parts=()).architecture.sizes
