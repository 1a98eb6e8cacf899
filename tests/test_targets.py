"""Emulated ARM processors: the shipped model is right there, and an overflow is not missed."""

from __future__ import annotations

import copy
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, export

from transducer2ncnn.base import layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.export import delivery
from transducer2ncnn.families import model
from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.speech import audio
from transducer2ncnn.verification import emulator, parity, reference, target

DIGITS = ROOT / "models" / "digits"
CPU = "cortex-a76"


@pytest.fixture(scope="module")
def installed(request: pytest.FixtureRequest) -> Path:
    """The packages are kept from one run of the tests to the next."""
    folder = Path(request.config.cache.mkdir("emulator"))
    emulator.install(folder)
    return folder


@pytest.fixture(scope="module")
def digits() -> Transducer:
    return model.load(DIGITS / "pretrained.pt", "lstm")


def made(network: Transducer, folder: Path) -> tuple[Path, dict[str, Any], layout.Files]:
    """Its reference, its description and its fp32 files."""
    export(network, folder)
    arrays = reference.make(copy.deepcopy(network), [9], segments=20)
    reference.save(folder / "reference.npz", arrays)
    description = model.inspect(DIGITS / "pretrained.pt", "lstm")[1]
    return folder / "reference.npz", description, layout.ncnn_files(folder / "fp32")


def test_the_shipped_model_is_right(installed: Path, digits: Transducer, tmp_path: Path) -> None:
    expected, description, files = made(digits, tmp_path)
    delivery.deliver(files, description, DIGITS / "tokens.txt", tmp_path / "sherpa")
    recordings = [("1.wav", audio.read(DIGITS / "test_wavs" / "1.wav"))]
    found = target.verify(
        emulator.Emulator(installed, CPU),
        expected,
        description,
        {"fp32": tmp_path / "sherpa"},
        {"fp32": files},
        recordings,
        2e-2,
    )
    target.check(found, CPU)
    (fp32,) = found["precisions"].values()
    (text,) = fp32["texts"]
    assert text["target"] == text["x86"] == "EIGHT TWO SIX"
    # It computes fp32 files in fp16, and is off by more than x86 is.
    assert found["features"]["asimdhp"]
    assert fp32["errors"]["encoder"] > 2 * fp32["errors_on_x86"]["encoder"] > 0
    assert found["segments"] == 20
    assert found["passed"] and fp32["passed"] and not list(target.warnings(found, CPU))


def of_one(**changes: Any) -> dict[str, Any]:
    """What was found of a precision that is right, but for some figures."""
    errors = dict.fromkeys(layout.PARTS, 1e-2)
    texts = [{"wav": f"{i}.wav", "target": "SIX", "x86": "SIX"} for i in range(2)]
    found: dict[str, Any] = {
        "errors": errors,
        "errors_on_x86": dict.fromkeys(layout.PARTS, 1e-3),
        "allowed": dict.fromkeys(layout.PARTS, 2e-2),
        "texts": texts,
    } | changes
    return found | {"failures": list(target._failures(found))}


def wrong_texts(number: int) -> list[dict[str, str]]:
    return [{"wav": f"{i}.wav", "target": "SIX"[i < number :], "x86": "SIX"} for i in range(3)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"errors": {"encoder": 3e-2}}, "the encoder's outputs are off PyTorch's by 0.03, where"),
        ({"errors": {"joiner": float("nan")}, "errors_on_x86": {"joiner": 0.0}}, "off .* by nan"),
        ({"texts": wrong_texts(2)}, r"in 2 of 3 recordings\. The first, 0\.wav: 'IX' for 'SIX'"),
    ],
)
def test_what_is_wrong_there_is_refused(changes: dict[str, Any], words: str) -> None:
    sound = {"precisions": {"fp16": of_one()}}
    target.check(sound, CPU)
    with pytest.raises(UserError, match=rf"int8 on an emulated cortex-a76: .*{words}"):
        target.check({"precisions": {"fp16": of_one(), "int8": of_one(**changes)}}, CPU)


def test_one_other_text_is_a_warning() -> None:
    found = {"precisions": {"fp16": of_one(texts=wrong_texts(1))}}
    target.check(found, CPU)
    (warning,) = target.warnings(found, CPU)
    assert "fp16 on an emulated cortex-a76: sherpa-ncnn recognises something else" in warning
    assert "in 1 of 3 recordings" in warning


def test_an_overflow_shows(installed: Path, digits: Transducer, tmp_path: Path) -> None:
    """The same function, with values before the first norm that fp16 cannot hold."""
    network = copy.deepcopy(digits)
    embed = network.get_submodule("encoder.encoder_embed")
    for tensor in embed.get_submodule("out").parameters():
        tensor.data *= 8192.0
    embed.get_submodule("out_norm").get_buffer("eps").data += 2 * torch.tensor(8192.0).log()
    expected, description, files = made(network, tmp_path)
    on_x86 = parity.compare(expected, network.architecture, files, "fp32", 1e-4)
    assert on_x86["encoder"]["max_error"] < 1e-4
    found = target.verify(
        emulator.Emulator(installed, CPU),
        expected,
        description,
        {"fp32": tmp_path},
        {"fp32": files},
        [],
        2e-2,
    )
    assert not found["passed"]
    with pytest.raises(UserError, match="the encoder's outputs are off PyTorch's by"):
        target.check(found, CPU)


def test_how_much_audio() -> None:
    assert target.seconds_for(1_161_645) == target.MOST_SECONDS
    assert target.seconds_for(50_000_000) == pytest.approx(4)
    assert target.seconds_for(600_000_000) == target.LEAST_SECONDS
    recordings = [(name, np.zeros(32000, np.float32)) for name in "abc"]
    cut = target._cut(recordings, 3.0)
    assert [(name, len(samples)) for name, samples in cut] == [("a", 32000), ("b", 16000)]


def test_another_host_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(UserError, match="emulated on Linux with an x86-64 .* Linux on aarch64"):
        emulator.install(tmp_path)
    with pytest.raises(UserError, match="Leave `targets` out"):
        emulator.Emulator(tmp_path, CPU)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get is not installed. Expected Debian 12"):
        emulator.install(tmp_path / "emulator")
    # What was fetched is another package than the pinned one.
    monkeypatch.setattr(emulator, "_call", lambda *_, **__: None)
    packages = tmp_path / "emulator" / "packages"
    (packages / "qemu-user-static.deb").write_bytes(b"another")
    with pytest.raises(UserError, match="no file there is qemu-user-static_1:7.2.*SHA-256"):
        emulator.install(tmp_path / "emulator")
    assert not (tmp_path / "emulator" / "installed.json").exists()


def test_the_wheels_are_of_the_pinned_versions() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    for name, version, _ in emulator.WHEELS:
        # sherpa-ncnn's program comes in a wheel of its own, of the same version.
        assert f"{name.removesuffix('-bin').removesuffix('-core')}=={version}" in lines
