"""The section ``models``: where each model comes from, and what goes with it."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from transducer2ncnn.base import inputs
from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.layout import PartName
from transducer2ncnn.base.paths import MAX_NAME, is_file, is_folder, is_inside
from transducer2ncnn.base.reading import read_text
from transducer2ncnn.families import registry
from transducer2ncnn.formats import foreign
from transducer2ncnn.source import training
from transducer2ncnn.speech import kaldi, manifests
from transducer2ncnn.speech.folders import recordings_in
from transducer2ncnn.workflow.releases import Release
from transducer2ncnn.workflow.section import RepoId, Section

#: Addresses in a storage that a plugin of Snakemake's reads, which looks there for what is named.
ADDRESS = re.compile(r"s3://[^/*?\[\]]+/[^*?\[\]]*[^/*?\[\]]")


def is_address(path: str | Path) -> bool:
    """Whether a path is an address in a storage, and not on this machine."""
    return isinstance(path, str) and path.startswith("s3://")


def _existing_file(path: str) -> str:
    if is_address(path):
        if not ADDRESS.fullmatch(path):
            raise ValueError(
                f"expected an address such as s3://bucket/folder/file; found {shown(path)!r}. A "
                "list file here (.txt, an address a line) may stand for many"
            )
        return path
    path = inputs.expanded(path)
    _check(path)
    return path


def _checkpoint(path: str) -> str:
    path = _existing_file(path)
    if not is_address(path):
        try:
            foreign.check(path)
        except UserError as e:
            raise ValueError(str(e).rstrip(".")) from None
    return path


def _check(path: str, peek: bool = True) -> None:
    try:
        inputs.check(path, peek)
    except UserError as e:
        raise ValueError(str(e)) from None


def _matching_files(items: Any) -> list[str]:
    """Patterns, folders and list files → the files that they stand for, sorted by path."""
    items = [items] if isinstance(items, str) else items
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(
            "expected a pattern such as wavs/*.wav, a folder, a list file (.txt, a path a line), "
            "or a list of these"
        )
    files: set[str] = set()
    for item in map(inputs.expanded, items):
        if is_address(item):
            found = [_existing_file(item)]
        elif is_folder(item):
            try:
                found = recordings_in(item)
            except UserError as e:
                raise ValueError(str(e)) from None
            if not found:
                raise ValueError(f"there is no recording in the folder {shown(item, 300)!r}")
        elif item.endswith(".txt") and is_file(item):
            found = _listed(item)
        else:
            # A link that leads nowhere matches as well, and is then refused.
            found = [f for f in glob.glob(item, recursive=True) if not is_folder(f)]
        if not found:
            if "{" in item:
                raise ValueError(
                    f"no file matches {item!r}: braces are not expanded here. Expected a list of "
                    "patterns, such as [a/*.wav, b/*.wav]"
                )
            if not glob.has_magic(item):
                _check(item)
            raise ValueError(f"no file matches {item!r} (looked for from {Path.cwd()})")
        files.update(found)
    for file in sorted(files):
        if not is_address(file):
            _check(file, peek=False)
    return sorted(files)


def _listed(path: str) -> list[str]:
    """The files that a list file names, a path a line."""
    _check(path)
    try:
        lines = read_text(path, "a list of files").splitlines()
    except UserError as e:
        raise ValueError(str(e)) from None
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found.append(_existing_file(line.strip()))
            except ValueError as e:
                raise ValueError(f"{path}, line {number}: {e}") from None
    return found


def _existing_folder(path: str) -> str:
    path = inputs.expanded(path)
    try:
        inputs.check_folder(path)
    except UserError as e:
        raise ValueError(str(e)) from None
    return path


def _path_in_repository(path: str) -> str:
    if not is_inside(path):
        raise ValueError(
            f"expected a path in the repository, such as exp/pretrained.pt; found {path!r}"
        )
    if longest := [name for name in path.split("/") if len(name.encode()) > MAX_NAME]:
        raise ValueError(
            f"{shown(longest[0])!r} is longer than the {MAX_NAME} bytes that a file's name here "
            "may have"
        )
    return path


def _family(name: str) -> str:
    if name not in registry.names():
        raise ValueError(f"expected one of {', '.join(registry.names())}; found {name!r}")
    return name


def _manifest(path: str) -> str:
    path = inputs.expanded(path)
    try:
        parts = [Path(path, name) for name in kaldi.FILES] if is_folder(path) else [Path(path)]
        for part in parts:
            if os.path.lexists(part):
                inputs.check(part)
        manifests.kind(path)
    except UserError as e:
        raise ValueError(str(e)) from None
    return path


File = Annotated[str, AfterValidator(_existing_file)]
CheckpointFile = Annotated[str, AfterValidator(_checkpoint)]
Folder = Annotated[str, AfterValidator(_existing_folder)]
RemotePath = Annotated[str, AfterValidator(_path_in_repository)]
RemotePaths = Annotated[
    list[RemotePath], BeforeValidator(lambda x: [x] if isinstance(x, str) else x)
]
Manifest = Annotated[str, AfterValidator(_manifest)]
Files = Annotated[list[str], BeforeValidator(_matching_files)]
FamilyName = Annotated[str, AfterValidator(_family)]


#: What every source's key `source` means.
SOURCE = "where the model comes from; if left out, told by `checkpoint`, `exp_dir` or `repo_id`"


class AnyModel(Section):
    """What every model to export has, wherever it comes from."""

    family: FamilyName = Field(
        "lstm",
        description="its architecture, of those in families.md. Where files of the model are "
        "looked for, so is the family: see sources.md",
    )
    sizes: dict[str, int] = Field(
        {},
        description="sizes that the checkpoint must have, such as `encoder_dim: 512`; the run "
        "stops if it does not. They are read off the checkpoint anyway",
    )
    settings: dict[str, int | float | str | bool] = Field(
        {},
        description="what no tensor tells and the checkpoint does not say: the family's settings, "
        "such as the length of a chunk. An LSTM has none",
    )
    precisions: list[str] = Field(
        [],
        description="what to export it in, of `precisions` below and the recipes that ship. If "
        "left out, those of `precisions` that it has the recordings for: quantized ones are "
        "compared with fp32 on the `test_wavs` or the `calibration_wavs`, and some take the latter",
    )
    keep: dict[PartName, list[str]] = Field(
        {},
        description="layers of this model that no precision quantizes, by part, as in a "
        "precision's own `keep`",
    )
    calibration_wavs: Files = Field(
        [],
        description="recordings that int8-table is calibrated on: a pattern, a folder (all that "
        "is audio in it), a list file (.txt, a path a line), or a list of these. A minute of "
        "speech like what the model is used on is a good start; not the recordings that it is "
        "tested on",
    )
    transcripts: File | None = Field(
        None,
        description="a table (tab-separated, columns `wav` and `text`) of what is said in the "
        "`test_wavs`",
    )
    evaluation: Manifest | None = Field(
        None,
        description="recordings and transcripts to evaluate it on: a table (.tsv, columns `wav`, "
        "`text` and, if wanted, `id`), lhotse cuts (.jsonl, .jsonl.gz) or a Kaldi folder",
    )
    evaluation_root: Folder | None = Field(
        None,
        description="the folder that relative paths in `evaluation` lead from, where a corpus is "
        "elsewhere than its manifest",
    )
    on_request: bool = Field(
        False, description="whether only a run that asks for one of its artifacts exports it"
    )
    release: Release | None = Field(
        None, description="what is said of it where it is published; see publishing.md"
    )

    def origin(self) -> tuple[object, ...]:
        """What it is made from: models of the same origin share what is fetched and averaged."""
        raise NotImplementedError

    @property
    def is_complete(self) -> bool:
        """Whether the configuration names all files, or some are to be found (``discovered``)."""
        return True


class _LocalModel(AnyModel):
    """A model whose files are on this machine."""

    tokens: File | None = Field(None, description="its tokens.txt")
    bpe_model: File | None = Field(
        None, description="its sentencepiece model, which tokens.txt can be made of"
    )
    test_wavs: Files = Field([], description="recordings to transcribe: like `calibration_wavs`")


class FileModel(_LocalModel):
    """A checkpoint that is there, in one file."""

    source: Literal["file"] = Field("file", description=SOURCE)
    checkpoint: CheckpointFile = Field(
        description="the icefall checkpoint, or a state dict in safetensors"
    )

    def origin(self) -> tuple[object, ...]:
        return (self.source, self.checkpoint)

    def checkpoints(self) -> list[str]:
        return [self.checkpoint]

    def here(self) -> bool:
        """Whether the checkpoint is on this machine."""
        return not is_address(self.checkpoint)


class ExpDirModel(_LocalModel):
    """A training folder; the numbers choose checkpoints as they do for icefall's scripts."""

    source: Literal["exp_dir"] = Field("exp_dir", description=SOURCE)
    exp_dir: Folder = Field(description="the training folder, which holds epoch-N.pt")
    epoch: int | None = Field(None, ge=1, description="the epoch to export")
    iter: int | None = Field(
        None, ge=1, description="instead of `epoch`: the number of batches trained on"
    )
    avg: int = Field(1, ge=1, description="the number of checkpoints to average")
    use_averaged_model: bool = Field(
        False, description="whether to average by the running averages kept while training"
    )

    @property
    def is_complete(self) -> bool:
        return bool(self.tokens or self.bpe_model)

    def choice(self) -> training.Choice:
        return training.Choice(
            Path(self.exp_dir), self.epoch, self.iter, self.avg, self.use_averaged_model
        )

    def origin(self) -> tuple[object, ...]:
        return (self.source, self.choice())

    def checkpoints(self) -> list[str]:
        return [str(path) for path in self.choice().checkpoints()]

    def here(self) -> bool:
        return True


def wrong_choice(name: str, model: ExpDirModel) -> Iterator[str]:
    """What is wrong with the numbers that choose checkpoints, a line each."""
    if (model.epoch is None) == (model.iter is None):
        found = "neither" if model.epoch is None else "both"
        yield (
            f"models.{name}: expected one of `epoch` and `iter`; found {found}. In {model.exp_dir} "
            f"there are {model.choice().there()}."
        )
        return
    key = f"models.{name}.{'iter' if model.epoch is None else 'epoch'}"
    try:
        checkpoints = model.checkpoints()
    except UserError as e:
        yield f"{key}: {e}"
        return
    for checkpoint in checkpoints:
        try:
            foreign.check(checkpoint)
        except UserError as e:
            yield f"{key}: {e}"


class HubModel(AnyModel):
    """A model on the Hugging Face Hub."""

    #: What is named by its path in the repository; all other files are on this machine.
    REMOTE: ClassVar[frozenset[str]] = frozenset({"checkpoint", "tokens", "bpe_model", "test_wavs"})

    source: Literal["huggingface"] = Field("huggingface", description=SOURCE)
    repo_id: RepoId = Field(description="the repository, `<owner>/<name>`")
    revision: str = Field("main", min_length=1, description="a branch, a tag or a commit")
    checkpoint: RemotePath | None = Field(
        None,
        description="the icefall checkpoint. If left out, it is found in the repository, and so "
        "are the other files and the settings that are not stated",
    )
    tokens: RemotePath | None = Field(None, description="its tokens.txt")
    bpe_model: RemotePath | None = Field(None, description="its sentencepiece model")
    test_wavs: RemotePaths = Field(
        [], description="recordings to transcribe: a pattern such as `test_wavs/*.wav`, or a list"
    )

    @property
    def is_complete(self) -> bool:
        return self.checkpoint is not None and bool(self.tokens or self.bpe_model)

    def origin(self) -> tuple[object, ...]:
        return (self.source, self.repo_id, self.revision)


#: Keys that tell where a model comes from.
IMPLIED = {"exp_dir": "exp_dir", "repo_id": "huggingface"}

#: Kinds of models by the value of their key `source`.
SOURCES: dict[str, type[AnyModel]] = {
    "file": FileModel,
    "exp_dir": ExpDirModel,
    "huggingface": HubModel,
}


Model = Annotated[
    Annotated[FileModel, Tag("file")]
    | Annotated[ExpDirModel, Tag("exp_dir")]
    | Annotated[HubModel, Tag("huggingface")],
    Discriminator(lambda raw: source_of(raw)),
]


def source_of(raw: Any) -> Any:
    """The value of a model's key `source`, or the one that its other keys imply."""
    if not isinstance(raw, dict):
        return "file"
    if raw.get("source") is not None:
        return raw["source"]
    implied = [source for key, source in IMPLIED.items() if key in raw]
    return implied[0] if implied else "file"
