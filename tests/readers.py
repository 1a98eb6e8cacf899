"""Every reader of files from outside, with whole files to damage."""

from __future__ import annotations

import gzip
import io
import json
import math
import pathlib
import tempfile
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import made_up
import numpy as np
import soundfile
import torch
from conftest import GOLDEN, ROOT
from fuzzing import Files, Reader
from hub_server import git_hash

from transducer2ncnn.base import reading
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.evaluation import heard, transcription
from transducer2ncnn.families.lstm import LstmSizes
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import checkpoint, npz, param, scale_table, tokens, weights
from transducer2ncnn.quantization import sharing, statistics
from transducer2ncnn.report import artifacts
from transducer2ncnn.source import averaging, hub, persistence
from transducer2ncnn.speech import audio, recordings
from transducer2ncnn.workflow import config, provenance

INT8 = GOLDEN / "int8"


def golden(*names: str) -> list[Files]:
    return [{"file": (INT8 / name).read_bytes()} for name in names]


def dumped(*values: object) -> list[Files]:
    return [{"file": json.dumps(value, indent=2).encode()} for value in values]


def lines(values: Iterable[object]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


# Networks.


def networks() -> list[Files]:
    names = ("encoder.ncnn", "encoder.int8-lstm", "decoder.ncnn", "joiner.int8")
    return [
        {kind: (INT8 / f"{name}.{kind}").read_bytes() for kind in ("param", "bin")}
        for name in names
        if (INT8 / f"{name}.bin").is_file()
    ]


def read_network(folder: Path) -> None:
    weights.read(param.read(folder / "param"), folder / "bin")


# Checkpoints.


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def checkpoints() -> list[Files]:
    state = {
        "module.encoder.weight": torch.arange(12.0).reshape(3, 4).T,
        "module.encoder.weight_scale": torch.tensor(0.5),
        "module.decoder.embedding.weight": torch.ones(2, 2, dtype=torch.float16),
        "module.decoder.embedding.scale": torch.tensor(-1.0),
        "module.joiner.n": torch.tensor(3),
    }
    training = {
        "model": state,
        "model_avg": {name: tensor.double() for name, tensor in state.items()},
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.zeros(3)}}, "lrs": [1e-3, 2e-3]},
        "exp_dir": pathlib.PosixPath("exp/lstm"),
        "best": float("inf"),
        "device": torch.device("cuda", 0),
        "batch_idx_train": 7,
        "average_period": 2,
    }
    return [{"file": saved(training)}, {"file": saved({"model": state})}]


def read_checkpoint(folder: Path) -> None:
    opened = checkpoint.Checkpoint(folder / "file")
    stored = opened.state_dict("model")
    for name in checkpoint.inference_tensors(stored):
        assert torch.isfinite(checkpoint.fold_scale(name, stored)).all()


def average(folder: Path) -> None:
    whole = folder / "whole"
    averaging.mean([folder / "file", whole])
    averaging.interval_mean(whole, folder / "file")


def averaged() -> list[Files]:
    first, _ = checkpoints()
    later = torch.load(io.BytesIO(first["file"]), weights_only=False) | {"batch_idx_train": 99}
    return [{"file": saved(later), "whole": first["file"]}]


# Recordings.


def sound(format_: str, subtype: str, channels: int = 1, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    samples = np.sin(np.arange(3000 * channels) / 20).reshape(-1, channels) / 2
    soundfile.write(file, samples, rate, format=format_, subtype=subtype)
    return file.getvalue()


def sounds(rates: tuple[int, ...] = (16000, 44100)) -> list[Files]:
    return [
        {"file": sound(*arguments)}
        for arguments in (
            ("WAV", "PCM_16"),
            ("WAV", "FLOAT"),
            ("WAV", "PCM_24", 2, rates[-1]),
            ("WAV", "ULAW"),
            ("WAV", "IMA_ADPCM"),
            ("WAVEX", "PCM_16", 2),
            ("FLAC", "PCM_16"),
            ("OGG", "VORBIS"),
            ("AIFF", "PCM_16"),
            ("NIST", "PCM_16"),
            ("MP3", "MPEG_LAYER_III"),
        )
    ]


def read_sound(folder: Path) -> None:
    assert audio.duration(folder / "file") > 0
    assert np.isfinite(audio.read(folder / "file")).all()


def read_segment(folder: Path) -> None:
    assert np.isfinite(audio.segment(folder / "file", 0.05, 0.1)).all()
    audio.segment(folder / "file", channel=0)


WAV = sound("WAV", "PCM_16")


def cut(name: str, start: float, **changes: object) -> dict[str, Any]:
    return {
        "id": name,
        "type": "MonoCut",
        "start": start,
        "duration": 0.05,
        "channel": 0,
        "supervisions": [{"id": name, "start": 0, "duration": 0.05, "text": f"ten {name}"}],
        "recording": {
            "id": "a",
            "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
            "sampling_rate": 16000,
        },
    } | changes


def manifests() -> dict[str, Files]:
    cuts = lines([cut("one", 0), cut("two", 0.06)])
    return {
        "table": {"m.tsv": b"wav\ttext\tid\na.wav\tone two\tfirst\na.wav\tthree\tsecond\n"},
        "cuts": {"m.jsonl": cuts},
        "compressed cuts": {"m.jsonl.gz": gzip.compress(cuts, mtime=0)},
        "Kaldi folder": {
            "k/wav.scp": b"a a.wav\nb a.wav\n",
            "k/text": b"one ten\ntwo three\n",
            "k/segments": b"one a 0.0 0.1\ntwo b 0.05 -1\n",
        },
    }


def read_manifest(folder: Path) -> None:
    (path,) = {folder / f.relative_to(folder).parts[0] for f in folder.rglob("*")} - {
        folder / "a.wav"
    }
    if path.is_dir():
        (path / "a.wav").write_bytes(WAV)
    for utterance in recordings.check(path):
        recordings.read(utterance)


# What the workflow wrote itself, and somebody may have touched.


def checked() -> bytes:
    row = {"id": "a", "wav": "a.wav", "text": "x", "start": 0.0, "duration": 1.5, "channel": None}
    return lines([row | {"sha256": "0" * 64}, row | {"id": "b", "channel": 1, "sha256": "f" * 64}])


def histograms() -> Files:
    histogram = statistics.Histogram("Linear", "encoder.linear")
    histogram.add(np.linspace(-1, 1, 100, dtype=np.float32))
    with tempfile.TemporaryDirectory() as folder:
        statistics.save(Path(folder, "x"), {"encoder": [histogram]})
        return {"file": Path(folder, "x").read_bytes()}


def read_histograms(folder: Path) -> None:
    for found in statistics.load([folder / "file", folder / "file"]).values():
        for histogram in found:
            assert math.isfinite(histogram.counts.sum())


def arrays() -> Files:
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    np.savez(
        file,
        **{
            "encoder/9 frames/in0": rng.random((9, 4), dtype=np.float32),
            "decoder/sample 0/in0": np.array([0, 1], dtype=np.int32),
            "joiner/sample 0/out0": rng.random(5, dtype=np.float32),
        },
    )
    return {"file": file.getvalue()}


def read_arrays(folder: Path) -> None:
    with npz.opened(folder / "file", "arrays") as found:
        for name in found:
            assert isinstance(found[name], np.ndarray)


def read_manifest_json(folder: Path) -> None:
    list(provenance.differences(folder))


def read_description(folder: Path) -> None:
    described(reading.read_json(folder / "file"))


def read_list(folder: Path) -> None:
    files = [str(folder / "list.txt")]
    model = {"checkpoint": files[0], "tokens": files[0], "calibration_wavs": files}
    config.parse({"models": {"m": model}})


# The Hub, by the real client, whose requests end here.

FILE = b"<blk> 0\n"
COMMIT = "0123456789" * 4


def hub_answers() -> list[Files]:
    siblings = [
        {"rfilename": "tokens.txt", "size": len(FILE), "blobId": git_hash(FILE)},
        {
            "rfilename": "a.pt",
            "size": 5,
            "blobId": COMMIT,
            "lfs": {"sha256": "0" * 64, "size": 5, "pointerSize": 134},
        },
    ]
    page = {
        "_id": "1",
        "id": "owner/model",
        "sha": COMMIT,
        "siblings": siblings,
        "tags": ["x"],
        "lastModified": "2024-01-01T00:00:00.000Z",
    }
    headers = f'X-Repo-Commit: {COMMIT}\nETag: "{git_hash(FILE)}"\nX-Linked-Size: {len(FILE)}\n'
    return [{"page": json.dumps(page).encode(), "headers": headers.encode(), "body": FILE}]


@cache
def _hub_client() -> dict[str, Path]:
    """The folder that the answers are in, which whoever asks sets before."""
    where: dict[str, Path] = {}

    def answer(request: httpx2.Request) -> httpx2.Response:
        folder = where["folder"]
        if request.url.path.startswith("/api/"):
            return httpx2.Response(200, content=(folder / "page").read_bytes())
        pairs = (x.partition(b":") for x in (folder / "headers").read_bytes().split(b"\n"))
        headers = [(k.strip(), v.strip()) for k, _, v in pairs if k.strip()]
        body = b"" if request.method == "HEAD" else (folder / "body").read_bytes()
        return httpx2.Response(200, headers=headers, content=body)

    def client() -> httpx2.Client:
        return httpx2.Client(transport=httpx2.MockTransport(answer))

    huggingface_hub.set_client_factory(client)
    return where


def ask_hub(folder: Path) -> None:
    where = _hub_client()
    where["folder"] = folder
    waits, cache_folder = persistence.WAITS, huggingface_hub.constants.HF_HUB_CACHE
    persistence.WAITS, huggingface_hub.constants.HF_HUB_CACHE = (
        (),
        str(folder / "deep/er/still/hub"),
    )
    try:
        snapshot = hub.resolve("owner/model", "main", folder / "deep/er/record.json")
        file = snapshot.file("tokens.txt", "models.m.tokens")
        hub.download("owner/model", snapshot.commit, file, folder / "deep/er/got")
    finally:
        persistence.WAITS, huggingface_hub.constants.HF_HUB_CACHE = waits, cache_folder
        given = {"page", "headers", "body", "deep/er/record.json", "deep/er/got"}
        for name in {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}:
            assert name in given or name.startswith("deep/er/still/hub/"), name


def readers() -> list[Reader]:
    vocabulary = b"".join(b"%s %d\n" % (s, i) for i, s in enumerate((b"<blk>", b"a", b"bc", b"d")))
    digits = json.loads(json.dumps(made_up.manifest()))
    description = {
        "family": "lstm",
        "sizes": {field.name: 8 for field in fields(LstmSizes)},
        "settings": {},
        "parameters": {part: 1 for part in PARTS},
    }
    manifest_readers = [
        Reader(name, [files | {"a.wav": WAV}], read_manifest, frozenset({"a.wav"}))
        for name, files in manifests().items()
    ]
    recognised = lines(
        [{"id": "a", "tokens": ["x", "y"], "text": "xy"}, {"id": "b", "tokens": [], "text": ""}]
    )
    record = {
        "repo_id": "o/m",
        "revision": "main",
        "commit": COMMIT,
        "files": [{"path": "a", "size": 1, "hash": COMMIT}],
    }
    return [
        Reader(
            "param",
            golden("encoder.ncnn.param", "encoder.int8.param"),
            lambda f: param.read(f / "file"),
        ),
        Reader("param and bin", networks(), read_network),
        Reader(
            "scale table",
            [{"file": x.read_bytes()} for x in sorted(INT8.glob("*scale-table*.txt"))],
            lambda f: scale_table.read(f / "file"),
        ),
        Reader("tokens", [{"file": vocabulary}], lambda f: tokens.read(f / "file", 4)),
        Reader(
            "bpe.model",
            [{"file": (ROOT / "models/digits/bpe.model").read_bytes()}],
            lambda f: tokens.from_bpe_model(f / "file", 29),
        ),
        Reader("checkpoint", checkpoints(), read_checkpoint),
        Reader("checkpoints to average", averaged(), average, frozenset({"whole"})),
        Reader("recording", sounds(), read_sound),
        Reader("part of a recording", sounds((16000,)), read_segment),
        *manifest_readers,
        Reader(
            "transcripts",
            [{"file": b"wav\ttext\na.wav\tone\nb.wav\ttwo\n"}],
            lambda f: transcription.read_references(f / "file"),
        ),
        Reader("list of files", [{"list.txt": b"/etc/hostname\n/etc/passwd\n"}], read_list),
        Reader("Hub", hub_answers(), ask_hub),
        Reader("what was resolved", dumped(record), lambda f: hub.recorded(f / "file")),
        Reader("model.json", dumped(description), read_description),
        Reader(
            "manifest.json", [{"manifest.json": json.dumps(digits).encode()}], read_manifest_json
        ),
        Reader(
            "checked manifest",
            [{"file": checked()}],
            lambda f: (recordings.read_checked(f / "file"), artifacts.read_recordings(f / "file")),
        ),
        Reader("decoded", [{"file": recognised}], lambda f: heard.read([f / "file"])),
        Reader(
            "rules.json", dumped(made_up.rules()), lambda f: artifacts.read_rule_graph(f / "file")
        ),
        Reader(
            "measured recordings",
            [{"file": b"1.5\t-20.5\tabc\ta.wav\n2.25\t-inf\tdef\tb c.wav\n"}],
            lambda f: sharing.read_recordings(f / "file"),
        ),
        Reader("histograms", [histograms()], read_histograms),
        Reader("arrays", [arrays()], read_arrays),
    ]
