"""Training folders: which checkpoints icefall's numbers choose, and what their average computes."""

from __future__ import annotations

import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN, ROOT, check_computes

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families import model
from transducer2ncnn.formats import checkpoint
from transducer2ncnn.formats.checkpoint import Checkpoint
from transducer2ncnn.source import averaging
from transducer2ncnn.source.training import Choice

EXP_DIR = GOLDEN / "checkpoint-projection"


def chosen(choice: Choice) -> list[str]:
    return [path.name for path in choice.checkpoints()]


@pytest.mark.parametrize(
    ("choice", "files", "expected"),
    [
        (Choice(EXP_DIR, 4, None, 1, False), ["epoch-4.pt"], "epoch-4-avg-1"),
        (
            Choice(EXP_DIR, 4, None, 3, False),
            ["epoch-2.pt", "epoch-3.pt", "epoch-4.pt"],
            "epoch-4-avg-3",
        ),
        (
            Choice(EXP_DIR, None, 6000, 2, False),
            ["checkpoint-4000.pt", "checkpoint-6000.pt"],
            "iter-6000-avg-2",
        ),
        (
            Choice(EXP_DIR, 4, None, 2, True),
            ["epoch-2.pt", "epoch-4.pt"],
            "epoch-4-avg-2-averaged-model",
        ),
        (
            Choice(EXP_DIR, None, 6000, 2, True),
            ["checkpoint-2000.pt", "checkpoint-6000.pt"],
            "iter-6000-avg-2-averaged-model",
        ),
    ],
)
def test_each_way_computes_what_the_recipes_average_does(
    tmp_path: Path, choice: Choice, files: list[str], expected: str
) -> None:
    assert chosen(choice) == files
    assert choice.averages == (len(files) > 1)
    path = choice.checkpoints()[0]
    if choice.averages:
        average = averaging.interval_mean if choice.use_averaged_model else averaging.mean
        arguments = choice.checkpoints()
        state = average(*arguments) if choice.use_averaged_model else average(arguments)
        path = tmp_path / "averaged.pt"
        checkpoint.save(path, state)
    network = model.load(path, "lstm")
    check_computes(network, np.load(EXP_DIR / f"expected-{expected}.npz"))


def folder(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).touch()
    return tmp_path


def test_epochs_below_one_are_left_out(tmp_path: Path) -> None:
    exp_dir = folder(tmp_path, "epoch-1.pt", "epoch-2.pt", "epoch-3.pt", "epoch-0.pt")
    assert chosen(Choice(exp_dir, 2, None, 5, False)) == ["epoch-1.pt", "epoch-2.pt"]


def test_numbers_decide_not_the_order_of_letters(tmp_path: Path) -> None:
    exp_dir = folder(tmp_path, *(f"checkpoint-{k}000.pt" for k in (2, 4, 8, 10, 12)))
    names = ["checkpoint-8000.pt", "checkpoint-10000.pt"]
    assert chosen(Choice(exp_dir, None, 11000, 2, False)) == names
    # What else lies there doesn't count.
    folder(exp_dir, "checkpoint-9000.pt.bak", "best-checkpoint-9500.pt", "epoch-9.pt")
    assert chosen(Choice(exp_dir, None, 11000, 2, False)) == names


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            (5, None, 3, False),
            r"has no epoch-3.pt, epoch-5.pt. There: epoch-1.pt, epoch-2.pt, epoch-4.pt.",
        ),
        ((4, None, 1, True), r"has no epoch-3.pt. There"),
        ((4, None, 4, True), r"would start from epoch-0.pt. Expected avg below 4"),
        ((None, 3000, 2, False), r"has 1 of the 2 checkpoints up to checkpoint-3000.pt.*2000.pt"),
        ((None, 9000, 2, True), r"has 2 of the 3 checkpoints \(avg \+ 1, for use_averaged_model"),
    ],
)
def test_missing_checkpoints_are_named_with_those_there(
    tmp_path: Path, choice: tuple, message: str
) -> None:
    names = [f"epoch-{n}.pt" for n in (1, 2, 4)] + [f"checkpoint-{n}.pt" for n in (2000, 4000)]
    with pytest.raises(UserError, match=message):
        Choice(folder(tmp_path, *names), *choice).checkpoints()


def save(path: Path, tensors: dict[str, torch.Tensor], **training: object) -> Path:
    torch.save({"model": tensors, **training}, path)
    return path


def test_a_mean_by_hand(tmp_path: Path) -> None:
    values = [
        {
            "x": torch.tensor([1.0, float(k)]),
            "half": torch.tensor([k / 8], dtype=torch.float16),
            "n": torch.tensor([k]),
            "decoder_giga.x": torch.tensor([float(k)]),
        }
        for k in (1, 2, 4)
    ]
    paths = [save(tmp_path / f"epoch-{i}.pt", value) for i, value in enumerate(values)]
    mean = averaging.mean(paths)
    torch.testing.assert_close(mean["x"], torch.tensor([1.0, 7 / 3]))
    torch.testing.assert_close(mean["half"], torch.tensor([7 / 24]))
    assert mean["n"].tolist() == [2]  # 7 // 3
    assert "decoder_giga.x" not in mean


def test_a_mean_holds_one_model_beside_the_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save(tmp_path / f"{i}.pt", {"x": torch.rand(9), "y": torch.rand(9)}) for i in range(4)]
    read = Checkpoint.state_dict
    held: list[weakref.ref[torch.Tensor]] = []

    def watched(self: Checkpoint, entry: str) -> dict[str, torch.Tensor]:
        # Of those before, the first has become the sum.
        assert [ref for ref in held[2:] if ref() is not None] == []
        state = read(self, entry)
        held.extend(map(weakref.ref, state.values()))
        return state

    monkeypatch.setattr(Checkpoint, "state_dict", watched)
    averaging.mean(paths)
    assert len(held) == 2 * len(paths)


def test_an_interval_by_hand(tmp_path: Path) -> None:
    # A weight of value k at batch k, averaged over batches: 100.5 up to 200, 250.5 up to 500.
    names = ("start", "end")
    paths = [
        save(
            tmp_path / f"{name}.pt",
            {"x": torch.tensor([0.0])},
            model_avg={"x": torch.tensor([(n + 1) / 2], dtype=torch.float64)},
            batch_idx_train=n + 30,  # of which the last 30 are not in the average
            average_period=100,
        )
        for name, n in zip(names, (200, 500), strict=True)
    ]
    mean = averaging.interval_mean(*paths)["x"]
    torch.testing.assert_close(mean, torch.tensor([350.5], dtype=torch.float64))  # of 201 … 500
    with pytest.raises(UserError, match="Expected more in the second"):
        averaging.interval_mean(*reversed(paths))


def test_what_cannot_be_averaged_is_named(tmp_path: Path) -> None:
    one = save(tmp_path / "one.pt", {"x": torch.zeros(2)})
    for name, tensors in (("other", {"y": torch.zeros(2)}), ("wider", {"x": torch.zeros(3)})):
        other = save(tmp_path / f"{name}.pt", tensors)
        with pytest.raises(UserError, match=f"{name}.pt and .*one.pt are not checkpoints of the"):
            averaging.mean([one, other])
    with pytest.raises(UserError, match="holds no number 'average_period'"):
        averaging.interval_mean(one, one)


@pytest.mark.parametrize("entry", ["model", "model_avg"])
def test_a_checkpoint_with_nan_is_named(tmp_path: Path, entry: str) -> None:
    well, ill = {"x": torch.ones(3)}, {"x": torch.tensor([1.0, float("nan"), 1.0])}
    paths = []
    for i, state in enumerate((well, ill, well)):
        numbers = {"average_period": 1, "batch_idx_train": i + 1}
        paths.append(save(tmp_path / f"epoch-{i}.pt", state, model_avg=state, **numbers))
    with pytest.raises(UserError, match=r"epoch-1\.pt: tensor 'x' holds NaN or infinity in 1 of"):
        averaging.mean(paths) if entry == "model" else averaging.interval_mean(*paths[1:])


def test_memory_does_not_grow_with_the_number_of_checkpoints(tmp_path: Path) -> None:
    """Sixteen checkpoints of 20 MB, with 80 MB of an optimizer's state each."""
    big = torch.zeros(5_000_000)
    for n in range(1, 17):
        state = {"model": {"x": big}, "optimizer": {i: torch.zeros(5_000_000) for i in range(4)}}
        torch.save(state, tmp_path / f"epoch-{n}.pt")

    def peak(count: int) -> int:
        paths = [str(tmp_path / f"epoch-{n}.pt") for n in range(1, count + 1)]
        script = (
            "import resource, sys; from workflow_scripts.average import main; main();"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        command = [sys.executable, "-c", script, "--checkpoints", *paths]
        done = subprocess.run(
            [*command, "--output", str(tmp_path / "out" / "averaged.pt")],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        return int(done.stdout.splitlines()[-1]) * 1024

    assert peak(16) - peak(2) < 20_000_000
