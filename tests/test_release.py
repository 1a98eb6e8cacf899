"""A release of the model that ships: the archive, its README as written, the card, the gates."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import made_up
import pytest
from conftest import ROOT, lstm_architecture, stored
from huggingface_hub import ModelCard

from transducer2ncnn.base import layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.evaluation import transcription
from transducer2ncnn.export import delivery
from transducer2ncnn.families import model
from transducer2ncnn.quantization.recipes import SHIPPED
from transducer2ncnn.release import archive, card, contents, gates
from transducer2ncnn.speech import audio
from transducer2ncnn.workflow import provenance
from transducer2ncnn.workflow.releases import Release

DIGITS = ROOT / "models" / "digits"
WAVS = [str(DIGITS / "test_wavs" / f"{i}.wav") for i in (1, 4)]
TITLE = "sherpa-ncnn-digits-2026-11-25"
PRECISIONS = ("fp16", "int8")
#: Of the version that the project verifies with.
PROGRAM = f"sherpa-ncnn-bin=={metadata.version('sherpa-ncnn')}"


def stated(**keys: Any) -> dict[str, Any]:
    """The section ``release``, with every key."""
    needed = {"version": "2026-11-25", "license": "cc-by-sa-4.0", "language": "en"}
    evaluated = {"dataset": "digits", "name": "Strings of digits", "split": "test"}
    return Release(**{**needed, "evaluated_on": evaluated, **keys}).model_dump()


def on_target() -> dict[str, Any]:
    """On an emulated processor, each precision of the release."""
    found = made_up.on_target()
    (of,) = found["precisions"].values()
    return found | {"precisions": {p: copy.deepcopy(of) for p in PRECISIONS}}


def made_up_model(**changes: Any) -> card.Model:
    """With everything measured, in made-up figures."""
    values: dict[str, Any] = {
        "title": TITLE,
        "stated": stated(),
        "precisions": PRECISIONS,
        "manifest": made_up.manifest() | {"sizes": asdict(lstm_architecture().sizes)},
        "headroom": made_up.headroom(),
        "verification": {p: made_up.verification(p) for p in PRECISIONS},
        "evaluation": {p: made_up.evaluation(p) for p in PRECISIONS},
        "targets": {"cortex-a76": on_target()},
        "speed": made_up.speed(),
        "wavs": [contents.Wav("test_wavs/0.wav", True)],
        "texts": {p: ["EIGHT TWO SIX"] for p in PRECISIONS},
    }
    return card.Model(**values | changes)


@pytest.fixture(scope="module")
def results(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's results, as the rules leave them: what is delivered, and its manifest."""
    folder = tmp_path_factory.mktemp("release") / "digits"
    files = {p: layout.ncnn_files(digits / p) for p in ("fp32", "fp16")}
    quantized = stored(files["fp32"], SHIPPED["int8"], folder / "ncnn")
    files["int8"] = dict(files["fp16"])
    for part in ("encoder", "joiner"):
        files["int8"][part] = layout.ncnn_files(folder / "ncnn", "int8")[part]
        for plain, int8 in zip(quantized[part], files["int8"][part], strict=True):
            plain.rename(int8)
    description = model.inspect(DIGITS / "pretrained.pt", "lstm")[1]
    (folder / provenance.RECORDS).mkdir()
    records = []
    for precision in PRECISIONS:
        made = delivery.deliver(
            files[precision],
            description,
            DIGITS / "tokens.txt",
            folder / provenance.DELIVERED / precision,
        )
        records.append(folder / provenance.RECORDS / f"{precision}.json")
        records[-1].write_text(json.dumps({"files": made}))
    source = {"kind": "file", "files": {"/home/somebody/exp/pretrained.pt": made["tokens.txt"]}}
    manifest = provenance.make(
        source, description, provenance.recorded(records), "digits", {}, {}, []
    )
    (folder / "manifest.json").write_text(json.dumps(manifest))
    texts = {
        precision: transcription.sherpa_texts(
            folder / provenance.DELIVERED / precision, {w: audio.read(w) for w in WAVS}, 1, 0.5
        )
        for precision in PRECISIONS
    }
    found = made_up_model(
        manifest=manifest, wavs=[*contents.wavs(WAVS).values()], texts=texts, targets={}
    )
    (folder / "README.md").write_text(card.render(found))
    return folder


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"workflow_scripts.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def make_archive(results: Path, output: Path) -> subprocess.CompletedProcess:
    arguments: list[str | Path] = ["--precisions", *PRECISIONS]
    arguments += ["--manifest", results / "manifest.json", "--card", results / "README.md"]
    arguments += ["--bpe-model", DIGITS / "bpe.model", "--wavs", *WAVS]
    arguments += ["--references", DIGITS / "test_wavs" / "transcripts.tsv", "--output", output]
    return script("make_archive", *arguments)


@pytest.fixture(scope="module")
def made(results: Path) -> Path:
    path = results / "release" / f"{TITLE}{archive.ENDING}"
    done = make_archive(results, path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def program(request: pytest.FixtureRequest) -> Path:
    """An environment with sherpa-ncnn's own program, kept from one run of the tests to the next."""
    folder = Path(request.config.cache.mkdir("sherpa-ncnn-bin")) / PROGRAM
    if not (folder / "bin" / "sherpa-ncnn").is_file():
        python = Path(sys.base_prefix, "bin", "python3")
        subprocess.run([python, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        pip = [python, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet"]
        subprocess.run([*pip, PROGRAM], check=True)
    return folder / "bin"


def test_it_holds_what_sherpa_ncnns_models_do(made: Path, tmp_path: Path) -> None:
    held = archive.unpack(made, tmp_path)
    parts = {f"{part}_jit_trace-pnnx.ncnn" for part in layout.PARTS}
    names = {f"{part}.{kind}" for part in parts for kind in ("param", "bin")}
    int8 = {f"{part}.int8.{kind}" for part in parts for kind in ("param", "bin")}
    names |= {name for name in int8 if not name.startswith("decoder")}
    wavs = {"test_wavs/0.wav", "test_wavs/1.wav", "test_wavs/transcripts.tsv"}
    assert set(held) == names | wavs | {"tokens.txt", "bpe.model", "README.md", "SHA256SUMS"}
    assert held["test_wavs/1.wav"].read_bytes() == Path(WAVS[1]).read_bytes()
    said = held["test_wavs/transcripts.tsv"].read_text()
    assert said.splitlines()[:2] == ["wav\ttext", "0.wav\tEIGHT TWO SIX"]
    assert {path.relative_to(tmp_path).parts[0] for path in held.values()} == {TITLE}


def test_it_is_the_same_to_the_byte_whenever_it_is_made(
    results: Path, made: Path, tmp_path: Path
) -> None:
    for file in results.rglob("*"):
        os.utime(file, (1, 1))
    again = tmp_path / made.name
    assert make_archive(results, again).returncode == 0
    assert again.read_bytes() == made.read_bytes()
    with tarfile.open(made) as tar:
        entries = tar.getmembers()
    assert [entry.name for entry in entries if entry.isfile()] == sorted(
        entry.name for entry in entries if entry.isfile()
    )
    assert {(x.mtime, x.uid, x.gid, x.uname, x.gname) for x in entries} == {
        (archive.TIME, 0, 0, "", "")
    }


def test_the_readmes_commands_run_as_written(made: Path, program: Path, tmp_path: Path) -> None:
    folder = tmp_path / "some where" / "else"
    folder.mkdir(parents=True)
    with tarfile.open(made) as tar:
        tar.extractall(folder, filter="data")
    readme = (folder / TITLE / "README.md").read_text()
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    shell = "".join(code for kind, code in fences if kind == "sh")
    assert shell.count("sherpa-ncnn \\") == len(PRECISIONS)
    paths = {"PATH": f"{program}:{os.environ['PATH']}", "LANG": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", shell],
        cwd=folder / TITLE,
        env=paths,
        capture_output=True,
        text=True,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert re.findall(r"^text: *(.*)$", printed, re.MULTILINE) == ["EIGHT TWO SIX"] * 2
    for precision, code in zip(
        PRECISIONS, [code for kind, code in fences if kind == "python"], strict=True
    ):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder / TITLE, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "EIGHT TWO SIX"
        assert f"In {precision} it prints `EIGHT TWO SIX`." in readme
    sums = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder / TITLE)
    assert sums.returncode == 0
    (folder / TITLE / "tokens.txt").write_text("changed")
    sums = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder / TITLE)
    assert sums.returncode != 0


def test_a_changed_file_does_not_go_in(results: Path, tmp_path: Path) -> None:
    tokens = results / "sherpa-ncnn" / "int8" / "tokens.txt"
    content = tokens.read_bytes()
    try:
        tokens.write_bytes(content + b"x 29\n")
        done = make_archive(results, tmp_path / f"{TITLE}.tar.bz2")
    finally:
        tokens.write_bytes(content)
    # int8's tokens.txt is fp16's, which is what goes in; the network is each precision's own.
    assert done.returncode == 0, done.stderr
    network = results / "sherpa-ncnn" / "int8" / "encoder_jit_trace-pnnx.ncnn.int8.bin"
    content = network.read_bytes()
    try:
        network.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        done = make_archive(results, tmp_path / f"{TITLE}-2.tar.bz2")
    finally:
        network.write_bytes(content)
    assert done.returncode == 1 and "int8.bin: was changed" in done.stderr
    assert not (tmp_path / f"{TITLE}-2.tar.bz2").exists()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (entry("../evil"), "refused, for it holds '../evil'"),
        (entry("/tmp/evil"), "refused, for it holds '/tmp/evil'"),
        (entry(f"{TITLE}/../../evil"), "refused, for it holds"),
        (entry("other/evil"), "refused, for it holds 'other/evil'"),
        (entry(f"{TITLE}/link", tarfile.SYMTYPE, "/etc/passwd"), "refused, for it holds"),
        (entry(f"{TITLE}/link", tarfile.LNKTYPE, "../../x"), "refused, for it holds"),
        (entry(f"{TITLE}/more.txt"), "holds other files than its SHA256SUMS states"),
        (entry(f"{TITLE}/tokens.txt"), "tokens.txt is not what its SHA256SUMS states"),
    ],
)
def test_a_hostile_archive_is_refused(
    tmp_path: Path, hostile: tarfile.TarInfo, message: str
) -> None:
    made, path = tmp_path / "good" / f"{TITLE}.tar.bz2", tmp_path / f"{TITLE}.tar.bz2"
    archive.write(made, {}, {"README.md": "# A model\n", "tokens.txt": "<blk> 0\n"})
    assert archive.unpack(made, tmp_path / "good").keys() == {
        "README.md",
        "SHA256SUMS",
        "tokens.txt",
    }
    with tarfile.open(made) as good, tarfile.open(path, "w:bz2") as bad:
        for found in good:
            bad.addfile(found, good.extractfile(found) if found.isreg() else None)
        bad.addfile(hostile, io.BytesIO(b""))
    folder = tmp_path / "unpacked"
    with pytest.raises(UserError, match=re.escape(message)):
        archive.unpack(path, folder)
    assert not (tmp_path / "evil").exists() and not (folder / "other").exists()
    path.write_bytes(made.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be read as an archive"):
        archive.unpack(path, folder)


def test_the_cards_metadata_is_the_hubs() -> None:
    found = made_up_model(stated=stated(language=["en", "de"], datasets=["owner/digits"]))
    data = ModelCard(card.render(found)).data.to_dict()
    assert data["license"] == "cc-by-sa-4.0" and data["language"] == ["en", "de"]
    assert data["library_name"] == "sherpa-ncnn"
    assert data["pipeline_tag"] == "automatic-speech-recognition"
    assert data["base_model"] == "someone/icefall-asr-digits-lstm-transducer"
    assert data["datasets"] == ["owner/digits"]
    (index,) = data["model-index"]
    (result,) = index["results"]
    assert index["name"] == TITLE
    assert result["dataset"] == {"name": "Strings of digits", "type": "digits", "split": "test"}
    for precision, metric in zip(PRECISIONS, result["metrics"], strict=True):
        wrong = made_up.evaluation(precision)["wer"]
        errors = sum(wrong[key] for key in ("substitutions", "deletions", "insertions"))
        words = made_up.evaluation(precision)["words"]
        assert metric["type"] == "wer" and precision in metric["name"]
        assert metric["value"] == pytest.approx(100 * errors / words, abs=0.006)


def test_errors_are_counted_by_what_they_were_measured_by() -> None:
    evaluation = {p: made_up.evaluation(p) | {"unit": "character"} for p in PRECISIONS}
    text = card.render(made_up_model(evaluation=evaluation))
    data = ModelCard(text).data.to_dict()
    (metric, _) = data["model-index"][0]["results"][0]["metrics"]
    assert (metric["type"], metric["name"]) == ("cer", "character error rate in fp16, %")
    assert "240 characters" in text and "word" not in text.partition("## Accuracy")[2]


def test_the_card_holds_what_was_measured_and_nothing_else() -> None:
    text = card.render(made_up_model())
    assert "8c7d91b1b3d7a4bd0e0d7c5c2d54d1c7a4c0be2f" in text
    assert made_up.sha256("checkpoint") in text
    assert "cortex-a76, arithmetic in fp16 | int8" in text
    assert str(made_up.speed()["cpu"]) in text
    bare = made_up_model(
        evaluation={}, targets={}, speed=None, wavs=(), texts={}, stated=stated(evaluated_on=None)
    )
    text = card.render(bare)
    assert "It was not run on an ARM processor." in text
    assert text.count("not measured.") == 2
    assert "```sh\nsherpa-ncnn" not in text and "hello.wav" in text
    data = ModelCard(text).data.to_dict()
    assert not data.keys() & {"model-index", "metrics", "datasets"}


def test_what_is_not_proven_is_called_so() -> None:
    unproven = made_up.verification("int8") | {"proves_nothing": True, "fp32_tokens": 3}
    verification = {"fp16": made_up.verification("fp16"), "int8": unproven}
    text = card.render(made_up_model(verification=verification))
    assert "int8: **not proven**" in text


def test_folders_of_this_machine_are_not_published(results: Path) -> None:
    assert "/home/somebody" not in (results / "README.md").read_text()
    assert "`pretrained.pt`" in (results / "README.md").read_text()


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    template = tmp_path / "mine.md"
    template.write_text("# Mine\n{% for p in precisions %}{{ p.name }} {% endfor %}\n")
    text = card.render(made_up_model(), template)
    assert text.startswith("---\n") and text.endswith("---\n\n# Mine\nfp16 int8\n")
    assert ModelCard(text).data.to_dict()["license"] == "cc-by-sa-4.0"
    for broken, message in (
        ("{{ nothing }}", "'nothing' is undefined"),
        ("\n{% if %}", "mine.md, line 2: cannot be filled in"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ):
        template.write_text(broken)
        with pytest.raises(UserError, match=message):
            card.render(made_up_model(), template)


def checked() -> gates.Checked:
    return gates.Checked(
        precisions=PRECISIONS,
        verification={p: made_up.verification(p) for p in PRECISIONS},
        headroom=made_up.headroom() | {"blobs": []},
        quantized=["int8"],
        targets={"cortex-a76": on_target()},
        evaluation={p: made_up.evaluation(p) for p in PRECISIONS},
        max_rise={p: 100.0 for p in PRECISIONS},
    )


def broken(key: str, change: Any) -> gates.Checked:
    """What was found, with one of it changed."""
    values = copy.deepcopy(vars(checked()))
    change(values[key])
    return gates.Checked(**values)


def test_what_passed_may_be_published() -> None:
    gates.check(checked())

    def explained(verification: Any) -> None:
        """By rounding alone."""
        encoder = verification["fp16"]["parts"]["encoder"]
        encoder.update(max_error=0.5, allowed=0.6)

    gates.check(broken("verification", explained))


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        (
            "verification",
            lambda x: x["fp16"]["parts"]["encoder"].update(max_error=0.5),
            "fp16: the encoder is off PyTorch's by 0.5",
        ),
        (
            "verification",
            lambda x: x["fp16"]["parts"]["joiner"].update(max_error=float("nan")),
            "fp16: the joiner is off PyTorch's by nan",
        ),
        (
            "verification",
            lambda x: x["fp16"]["as_run"]["errors"].update(decoder=0.5),
            "fp16 at ncnn's own options: the decoder is off PyTorch's by 0.5",
        ),
        ("verification", lambda x: x.pop("int8"), "int8 was not verified"),
        (
            "verification",
            lambda x: x["int8"]["all"].update(agreement=0.5),
            "int8: it finds fp32's best token in 50.0%",
        ),
        ("verification", lambda x: x["int8"].update(fp32_tokens=3), "int8 is not proven"),
        (
            "headroom",
            lambda x: x.update(blobs=[x["kinds"][0] | {"largest": 70000.0}]),
            "and fp16 holds 65,504",
        ),
        (
            "targets",
            lambda x: x["cortex-a76"]["precisions"]["fp16"]["errors"].update(encoder=9.0),
            "fp16 on an emulated cortex-a76: the encoder is off PyTorch's by 9",
        ),
        (
            "targets",
            lambda x: x["cortex-a76"]["precisions"]["int8"].update(failures=["something else"]),
            "int8 on an emulated cortex-a76: something else",
        ),
        (
            "targets",
            lambda x: x["cortex-a76"]["precisions"].pop("int8"),
            "int8 did not run on an emulated cortex-a76",
        ),
        ("evaluation", lambda x: x.pop("fp16"), "fp16 was not evaluated"),
        ("max_rise", lambda x: x.update(int8=-100.0), "int8 is not delivered: its word error"),
    ],
)
def test_what_did_not_pass_is_not_published(key: str, change: Any, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        gates.check(broken(key, change))


def publish(results: Path, path: Path, folder: Path) -> subprocess.CompletedProcess:
    """By the script, to no Hub at all: what is refused is so before one is asked."""
    options = made_up.write(folder)
    arguments: list[str | Path] = ["--precisions", *PRECISIONS, "--quantized", "int8"]
    arguments += ["--manifest", results / "manifest.json", "--archive", path]
    arguments += ["--headroom", *options["headroom"], "--verification"]
    arguments += [x for x in options["verification"] if Path(x).stem in PRECISIONS]
    arguments += ["--repo-id", "owner/digits", "--revision", "main"]
    return script("publish", *arguments, "--output", folder / "published.json")


def test_what_the_manifest_does_not_state_is_not_published(
    results: Path, made: Path, tmp_path: Path
) -> None:
    def refusal() -> str:
        done = publish(results, made, tmp_path)
        assert done.returncode == 1 and not (tmp_path / "published.json").exists()
        return done.stderr

    file = results / "manifest.json"
    kept = file.read_text()
    changed = json.loads(kept)
    encoder = "sherpa-ncnn/fp16/encoder_jit_trace-pnnx.ncnn.bin"
    changed["delivered"][encoder]["sha256"] = "0" * 64
    try:
        file.write_text(json.dumps(changed))
        assert f"manifest.json: states another {encoder} than was delivered" in refusal()
    finally:
        file.write_text(kept)
    network = results / encoder
    content = network.read_bytes()
    try:
        network.write_bytes(content[:-1])
        assert "fp16/encoder_jit_trace-pnnx.ncnn.bin: has" in refusal()
    finally:
        network.write_bytes(content)
    good = made.read_bytes()
    with tarfile.open(made) as tar:
        readme = tar.extractfile(f"{TITLE}/README.md")
        assert readme is not None
        (tmp_path / "README.md").write_bytes(readme.read())
    try:
        # An archive that is right by itself, of other files.
        other = {"README.md": tmp_path / "README.md", "tokens.txt": tmp_path / "README.md"}
        archive.write(made, other, {})
        assert "is not the sherpa-ncnn/fp16/" in refusal()
    finally:
        made.write_bytes(good)
