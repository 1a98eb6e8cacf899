"""Checkpoints that are damaged, or made to mislead: refused by name, or read for what they are."""

from __future__ import annotations

import pickle
import pickletools
import shutil
import struct
import time
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import GOLDEN
from fuzzing import peak_memory
from torch import Tensor

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families import model
from transducer2ncnn.formats import checkpoint, torch_file, torch_pickle

PRETRAINED = GOLDEN / "checkpoint-projection" / "pretrained.pt"
TRAINING = GOLDEN / "checkpoint-projection" / "epoch-4.pt"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.pt"


@contextmanager
def little_memory(megabytes: int = 100, seconds: float = 5.0) -> Iterator[None]:
    """What grows beyond this, or takes longer, fails."""
    start = time.monotonic()
    with peak_memory() as peak:
        yield
    assert peak[0] < megabytes, f"{peak[0]:.0f} MB"
    assert time.monotonic() - start < seconds


def refused(path: Path, message: str) -> None:
    with little_memory(), pytest.raises(UserError, match=message) as caught:
        checkpoint.load_state_dict(path)
    assert str(caught.value).startswith(str(path))


def entries(path: Path) -> dict[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: entry for entry in archive.infolist()}


def content_start(path: Path, entry: zipfile.ZipInfo) -> int:
    header = path.read_bytes()[entry.header_offset :][:30]
    return entry.header_offset + 30 + sum(struct.unpack_from("<2H", header, 26))


def flip(path: Path, name: str) -> None:
    """Change one bit in the middle of an entry."""
    entry = entries(path)[name]
    data = bytearray(path.read_bytes())
    data[content_start(path, entry) + entry.file_size // 2] ^= 1
    path.write_bytes(data)


def archive_of(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        for name, content in (storages or {}).items():
            archive.writestr(f"x/data/{name}", content)


def test_all_golden_checkpoints_hold_what_torch_reads_in_them() -> None:
    for file in sorted(GOLDEN.glob("*/*.pt")):
        expected = torch.load(file, weights_only=False)
        opened = checkpoint.Checkpoint(file)
        for entry in ("model", "model_avg"):
            if expected.get(entry):
                state = opened.state_dict(entry)
                wanted = {k.removeprefix("module."): v for k, v in expected[entry].items()}
                left_out = wanted.keys() - state.keys()
                assert all(
                    k.startswith(checkpoint.TRAINING_ONLY) or k.endswith(checkpoint.BALANCER_COUNT)
                    for k in left_out
                )
                assert state.keys() < wanted.keys() or not left_out
                for name, tensor in state.items():
                    assert tensor.dtype == wanted[name].dtype
                    assert torch.equal(tensor, wanted[name]), name
        if "batch_idx_train" in expected:
            assert opened.number("batch_idx_train") == expected["batch_idx_train"]


def test_a_flipped_bit_anywhere_in_what_is_read_is_refused_by_its_entrys_name(path: Path) -> None:
    state = torch.load(PRETRAINED, weights_only=True)["model"]
    # Storages are numbered in the order of the state dict.
    read = [f"data/{i}" for i, k in enumerate(state) if not k.startswith(checkpoint.TRAINING_ONLY)]
    assert len(read) > 80
    for name in ["data.pkl", "byteorder", *read[::6], read[-1]]:
        shutil.copyfile(PRETRAINED, path)
        flip(path, f"pretrained/{name}")
        refused(path, f"is damaged: its entry 'pretrained/{name}' does not match the checksum")


def test_what_is_not_read_of_a_training_checkpoint_is_not_checked(path: Path) -> None:
    shutil.copyfile(TRAINING, path)
    state = torch.load(TRAINING, weights_only=False)
    own = {id(t.untyped_storage()) for t in state["model"].values()}
    assert own
    flip(path, f"epoch-4/data/{len(entries(path)) - 20}")  # of the running average
    assert checkpoint.Checkpoint(path).state_dict("model")
    with pytest.raises(UserError, match="is damaged: its entry"):
        checkpoint.Checkpoint(path).state_dict("model_avg")


def test_the_file_is_left_alone_and_little_of_it_is_in_memory(path: Path) -> None:
    large = {"model": {"encoder.x": torch.ones(10)}, "optimizer": torch.zeros(100_000_000)}
    torch.save(large, path)
    before = path.read_bytes()[-1000:]
    del large
    with little_memory(50):
        (tensor,) = checkpoint.load_state_dict(path).values()
        tensor.mul_(2)
    assert tensor.tolist() == [2.0] * 10
    assert torch.equal(checkpoint.load_state_dict(path)["encoder.x"], torch.ones(10))
    assert path.read_bytes()[-1000:] == before


def test_two_names_for_one_tensor_are_refused(path: Path) -> None:
    state = {"encoder.x": torch.zeros(2), "module.encoder.x": torch.ones(2)}
    torch.save({"model": state}, path)
    refused(path, "holds 'encoder.x' twice, with and without a wrapper's 'module.'")


def folded(path: Path) -> dict[str, Tensor]:
    stored = checkpoint.load_state_dict(path)
    return {
        name: checkpoint.fold_scale(name, stored) for name in checkpoint.inference_tensors(stored)
    }


def test_tensors_that_share_memory_are_each_scaled_once(path: Path) -> None:
    shared = torch.arange(1.0, 7.0)
    scale = torch.tensor(2.0).log()
    torch.save(
        {
            "model": {
                "a.weight": shared,
                "a.weight_scale": scale,
                "b.weight": shared,
                "b.weight_scale": scale,  # the very same
                "c.weight": shared[2:4],
                "d.weight": shared.view(2, 3).T,
                "d.weight_scale": torch.tensor(3.0).log(),
            }
        },
        path,
    )
    found = folded(path)
    torch.testing.assert_close(found["a.weight"], 2 * shared)
    torch.testing.assert_close(found["b.weight"], 2 * shared)
    torch.testing.assert_close(found["c.weight"], shared[2:4])
    torch.testing.assert_close(found["d.weight"], 3 * shared.view(2, 3).T)


def test_a_tensor_whose_values_overlap_is_refused(path: Path) -> None:
    # As large as its storage, so that its size does not give it away.
    torch.save({"model": {"encoder.x": torch.arange(9.0).as_strided((4, 2), (1, 1))}}, path)
    refused(path, "'encoder.x' repeats what is stored")


def test_many_names_of_one_large_tensor_do_not_fill_the_memory(path: Path) -> None:
    large = torch.zeros(1_000_000)
    torch.save({"model": {f"encoder.{i}": large for i in range(10_000)}}, path)
    refused(path, "together they would take 40,000 MB")


def test_a_scale_that_nothing_would_multiply_by_is_not_dropped(path: Path) -> None:
    names = ("x.weight", "x.weight_scale", "x.weight_scale_scale", "y.embedding.weight_scale")
    state = {name: torch.zeros(1) for name in (*names, "y.embedding.weight", "y.embedding.scale")}
    torch.save({"model": state}, path)
    left = checkpoint.inference_tensors(checkpoint.load_state_dict(path))
    assert set(left) == {
        "x.weight",
        "x.weight_scale_scale",
        "y.embedding.weight",
        "y.embedding.weight_scale",
    }


def test_an_archive_behind_another_is_not_the_one_that_is_read(path: Path) -> None:
    """Which directory counts is a matter of the reader; here it is refused whichever it is."""
    first, second = path.with_name("first.pt"), path.with_name("second.pt")
    torch.save({"model": {"encoder.x": torch.zeros(1)}}, first)
    torch.save({"model": {"encoder.x": torch.ones(1)}}, second)
    whole, other = first.read_bytes(), second.read_bytes()
    for data in (
        whole + other,
        whole + b"\n",
        whole[:-2] + struct.pack("<H", len(other)) + other,  # as the comment of the first
        b"\n" + whole,
        whole + bytes(200) + whole[-98:],
    ):
        path.write_bytes(data)
        refused(path, "not a checkpoint that torch can read")


def test_a_second_directory_within_the_archive_is_refused(path: Path) -> None:
    """A valid archive whose entries begin behind another archive."""
    torch.save({"model": {"encoder.x": torch.zeros(1)}}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/data/1", b"1234")
    assert checkpoint.load_state_dict(path)
    shutil.copyfile(path, path.with_name("front"))
    with open(path.with_name("front"), "ab") as front, zipfile.ZipFile(front, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}, protocol=2))
    shutil.copyfile(path.with_name("front"), path)
    refused(path, "something stands in front of its first entry")


def test_two_entries_of_one_name_are_refused(path: Path) -> None:
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "w") as archive:
        for value in ({"model": {}}, {"model": 1}):
            archive.writestr("x/data.pkl", pickle.dumps(value, protocol=2))
    refused(path, "two of its entries have the same name")


def test_a_directory_that_would_fill_the_memory_is_refused(path: Path) -> None:
    torch.save({"model": {}}, path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, len(data) - 98 + 40, 2_000_000_000)
    path.write_bytes(data)
    refused(path, "its directory takes 2,000 MB")


class Calls:
    """Pickled as a call of a function that PyTorch's own safe reader allows."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.reduced


def test_a_gigabyte_in_a_few_bytes_of_pickle_is_refused(path: Path) -> None:
    torch.save({"model": {"encoder.x": torch.zeros(1)}, "epoch": Calls(bytearray, 10**9)}, path)
    assert entries(path)["x/data.pkl"].file_size < 400
    refused(path, "asks for '__builtin__.bytearray'")


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        # Memory by instructions alone.
        (b"\x80\x02" + b"]" * 9_000_000 + b".", "data.pkl is larger than 8 MB"),
        (b"\x80\x02}r\xff\xff\xff\xffj\xff\xff\xff\xff.", r"\{\}|no 'model' entry"),
        (b"\x80\x02cbuiltins\nset\n.", "asks for 'builtins.set'"),
        (b"\x80\x02(lp0\n.", "instruction LIST"),
        (b"\x80\x02\x8b\x40\x42\x0f\x00" + b"\xff" * 1_000_000 + b".", "instruction LONG4"),
        (b"\x80\x02I" + b"9" * 1_000_000 + b"\n.", "in its data.pkl"),
        # Changing functions of ours, which other pickles might call.
        (b"\x80\x02ctorch.device\n.", "in its data.pkl"),
        (b"\x80\x02ctorch\ndevice\n}X\x04\x00\x00\x00callNsb.", "takes a _Function for a dict"),
        # What cannot be hashed in good time.
        (b"\x80\x02}" + b")" + b"\x85" * 100 + b"Ns.", "has a tuple for a key"),
        # Text that cannot be printed.
        (b"\x80\x02}X\x03\x00\x00\x00\xed\xa0\x80Ns.", "surrogates not allowed"),
        # Less than it says.
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "in its data.pkl"),
        (b"\x80\x020.", "in its data.pkl"),
        (b"\x80\x02.", "takes more than there is"),
        (b"\x80\x02e.", "in its data.pkl"),
        (b"\x80\x02h\x07.", "in its data.pkl"),
        (b"", "in its data.pkl"),
        (b"\x80\x02)" + b"\x85" * 100_000 + b".", "holds a tuple"),
    ],
)
def test_a_pickle_that_misbehaves_is_refused(path: Path, pickled: bytes, message: str) -> None:
    archive_of(path, pickled)
    refused(path, message)


def tensor_pickle(
    count: object = 1,
    key: object = "0",
    offset: object = 0,
    size: object = (1,),
    stride: object = (1,),
) -> bytes:
    """A checkpoint of one tensor, whose sizes are what is given."""
    n, name, start, shape, strides = map(instructions, (count, key, offset, size, stride))
    return (
        b"\x80\x02}X\x05\x00\x00\x00model}X\x09\x00\x00\x00encoder.x"
        b"ctorch._utils\n_rebuild_tensor_v2\n(("
        b"X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        + name
        + b"X\x03\x00\x00\x00cpu"
        + n
        + b"tQ"
        + start
        + shape
        + strides
        + b"\x89NtR"
        + b"ss."
    )


def instructions(value: object) -> bytes:
    """What pushes a value, without what opens and ends a pickle."""
    return pickletools.optimize(pickle.dumps(value, protocol=2))[2:-1]


def test_a_tensor_put_together_by_hand_is_read(path: Path) -> None:
    archive_of(path, tensor_pickle(), {"0": struct.pack("<f", 3.5)})
    assert checkpoint.load_state_dict(path)["encoder.x"].tolist() == [3.5]


@pytest.mark.parametrize(
    "sizes",
    [
        {"count": 10**12},
        {"count": -1},
        {"count": 2},
        {"count": True},
        {"count": 1.0},
        {"count": 2**62},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"key": 0},
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**70},
        {"size": (2,)},
        {"size": (-1,)},
        {"size": (10**6, 10**6), "stride": (1, 1)},
        {"size": (1,) * 9, "stride": (1,) * 9},
        {"size": (2**62, 0), "stride": (2**62, 1), "offset": 2**63},
        {"stride": (-1,)},
        {"stride": ()},
        {"size": "a", "stride": "b"},
        {"size": ("1",)},
        {"size": None},
    ],
)
def test_sizes_that_are_not_those_of_the_file_are_refused(
    path: Path, sizes: dict[str, object]
) -> None:
    archive_of(path, tensor_pickle(**sizes), {"0": struct.pack("<f", 3.5)})
    refused(path, "not a checkpoint that torch can read")


def test_a_tensor_in_every_five_bytes_is_refused(path: Path) -> None:
    whole = tensor_pickle()
    arguments = whole[whole.index(b"((") : whole.index(b"\x89NtR") + 3]
    body = b"\x80\x02](ctorch._utils\n_rebuild_tensor_v2\nq\x00" + arguments + b"q\x01R"
    archive_of(path, body + b"h\x00h\x01R" * 200_000 + b"e.", {"0": struct.pack("<f", 3.5)})
    refused(path, "holds more than 100,000 tensors")


def test_entries_that_lie_over_each_other_are_scaled_once(path: Path) -> None:
    """Two entries of the directory that name the same bytes."""
    torch.save(
        {
            "model": {
                "a.weight": torch.ones(2),
                "a.weight_scale": torch.ones(()),
                "b.weight": torch.ones(2),
                "b.weight_scale": torch.ones(()),
            }
        },
        path,
    )
    data = bytearray(path.read_bytes())
    found = entries(path)
    a, b = found["x/data/0"], found["x/data/2"]
    at = data.rindex(b"x/data/2")  # in the directory, whose record has the offset 4 bytes before
    struct.pack_into("<L", data, at - 4, a.header_offset)
    path.write_bytes(data)
    assert entries(path)["x/data/2"].header_offset == a.header_offset != b.header_offset
    for tensor in folded(path).values():
        torch.testing.assert_close(tensor, torch.full((2,), 2.718281828))


def test_big_endian_numbers_are_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", tensor_pickle())
        archive.writestr("x/byteorder", b"big")
        archive.writestr("x/data/0", struct.pack(">f", 3.5))
    refused(path, "its numbers are big-endian")


def test_an_archive_that_is_not_aligned_is_read_and_checked(path: Path) -> None:
    for pad in range(4):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", tensor_pickle())
            archive.writestr("x/pad", bytes(pad))
            archive.writestr("x/data/0", struct.pack("<f", 3.5))
        assert checkpoint.load_state_dict(path)["encoder.x"].tolist() == [3.5]
        flip(path, "x/data/0")
        refused(path, "is damaged: its entry 'x/data/0'")


def test_plain_values_and_their_kinds() -> None:
    value = OrderedDict(a=[1, 2.5, None, True, "▁x", (1, 2, 3, 4), {}], b={"c": -(2**40)})
    assert torch_pickle.load(pickle.dumps(value, protocol=2), pytest.fail) == value
    for name in ("MAX_PICKLE", "MAX_DIRECTORY"):
        # Far above what a large training checkpoint has.
        assert getattr(torch_file, name) > 50 * entries(TRAINING)["epoch-4/data.pkl"].file_size


def test_numbers_of_training_that_are_none_are_refused(path: Path) -> None:
    for value in (True, 2**70, "3", None, 1.0):
        torch.save({"model": {}, "batch_idx_train": value}, path)
        with pytest.raises(UserError, match="holds no number 'batch_idx_train'"):
            checkpoint.Checkpoint(path).number("batch_idx_train")


def test_a_tied_model_computes_what_an_untied_one_does(path: Path) -> None:
    state = torch.load(PRETRAINED, weights_only=True)["model"]
    name = "encoder.encoder.layers.0.feed_forward.0.bias"
    other = name.replace("layers.0", "layers.1")
    untied = dict(state) | {other: state[name].clone()}
    expected = []
    for tensors in (untied, dict(state) | {other: state[name]}):
        torch.save({"model": tensors}, path)
        network = model.load(path, "lstm")
        expected.append({k: v.clone() for k, v in network.state_dict().items()})
    for key, value in expected[0].items():
        assert torch.equal(value, expected[1][key]), key
