"""What a repository's files are, by icefall's conventions: names, folders and sizes.

icefall's authors publish a model as its recipe leaves it: ``exp/pretrained*.pt`` beside exports of
other kinds, ``data/lang_*`` with the vocabulary, ``test_wavs``, and the scripts or a README with
the commands that trained and decoded it. What these names settle is ``Found``, with where it was
taken from. Whatever leaves a choice is ``Unsettled``: nothing is guessed.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from transducer2ncnn.base.errors import shown, some
from transducer2ncnn.families import registry
from transducer2ncnn.families.contract import Family
from transducer2ncnn.families.settings import Value
from transducer2ncnn.source.repository import HubFile

#: Files of a repository that is looked through. Those of the published models are about a hundred.
MAX_FILES = 2000
#: Recordings that are taken for a model's test wavs.
MAX_WAVS = 100
#: Bytes that a checkpoint has at least; less is a pointer to one that was never uploaded.
MIN_CHECKPOINT = 4096
#: READMEs and scripts that are read, and bytes of each.
MAX_TEXTS = 40
MAX_TEXT = 500_000
#: Candidates that a message shows.
SHOWN = 8

#: Names of checkpoints, the likeliest first: where there are some of one kind, the next ones are
#: not looked at.
CHECKPOINTS = (
    re.compile(r"pretrained.*\.pt"),
    re.compile(r"(epoch|checkpoint)-[0-9]+\.pt"),
    re.compile(r".+\.pt"),
)
#: Exports of other kinds, which are called ``.pt`` as well.
EXPORTS = re.compile(r"jit|pnnx|script|trace|encoder|decoder|joiner")
#: A training checkpoint, which holds its settings itself.
TRAINING = CHECKPOINTS[1]
TEST_WAVS = re.compile(r"test[-_]?wav(e?s)?")

#: How an option's value is read. There is no such word for a truth value.
READ: dict[type, Callable[[str], Value]] = {int: int, float: float, str: str}


@dataclass(frozen=True)
class Found:
    """A value for a key of the model.

    Attributes:
        key: ``settings.<name>`` for a setting.
        origin: where it was taken from, or why it is this.
    """

    key: str
    value: Value | list[str]
    origin: str

    def described(self) -> str:
        """The finding in words."""
        value = ", ".join(self.value) if isinstance(self.value, list) else str(self.value)
        return f"{self.key}: {shown(value) or 'none'} ({self.origin})"


@dataclass(frozen=True)
class Unsettled:
    """A key that has to be stated, and why."""

    key: str
    problem: str


Answer = Found | Unsettled


def checkpoint(files: Iterable[HubFile]) -> Answer:
    """The icefall checkpoint among a repository's files."""
    named = [f for f in files if f.path.endswith(".pt") and not EXPORTS.search(_name(f))]
    large = [f for f in named if f.size >= MIN_CHECKPOINT]
    for kind in CHECKPOINTS:
        if found := _distinct(f for f in large if kind.fullmatch(_name(f))):
            break
    else:
        small = f"; too small to be one: {_listed(named)}" if named else ""
        return Unsettled("checkpoint", f"no file is called like one, as pretrained.pt is{small}")
    if len(found) > 1:
        return Unsettled("checkpoint", f"expected one of {_listed(found)}")
    return Found("checkpoint", found[0].path, f"the only {_kind(kind)}, {_size(found[0])}")


def _kind(kind: re.Pattern[str]) -> str:
    return ("pretrained*.pt", "training checkpoint", ".pt that is no export")[
        CHECKPOINTS.index(kind)
    ]


def vocabulary(files: Iterable[HubFile]) -> list[Answer]:
    """``tokens``, ``bpe_model`` or both."""
    files = list(files)
    tokens = _in_lang_folders(f for f in files if _name(f) == "tokens.txt")
    models = _in_lang_folders(f for f in files if _name(f) == "bpe.model")
    if len(tokens) > 1:
        return [Unsettled("tokens", f"expected one of {_listed(tokens)}")]
    if not tokens:
        if len(models) > 1:
            return [Unsettled("bpe_model", f"expected one of {_listed(models)}")]
        if not models:
            return [Unsettled("tokens", "no file is called tokens.txt or bpe.model")]
        return [Found("bpe_model", models[0].path, "the only bpe.model, and no tokens.txt")]
    (found,) = tokens
    answers: list[Answer] = [Found("tokens", found.path, "the only tokens.txt")]
    beside = [f for f in models if _folder(f) == _folder(found)]
    if len(beside or models) == 1:
        (model,) = beside or models
        why = "beside the tokens" if beside else "the only bpe.model"
        answers.append(Found("bpe_model", model.path, why))
    return answers


def test_wavs(files: Iterable[HubFile]) -> Answer:
    """The recordings that are there to try a model on; there may be none."""
    folders: dict[PurePosixPath, list[str]] = {}
    for file in files:
        folder = _folder(file)
        if file.path.lower().endswith(".wav") and TEST_WAVS.fullmatch(folder.name):
            folders.setdefault(folder, []).append(file.path)
    if not folders:
        return Found("test_wavs", [], "there is no folder test_wavs with recordings")
    depth = min(len(folder.parts) for folder in folders)
    first = [folder for folder in folders if len(folder.parts) == depth]
    if len(first) > 1:
        several = ", ".join(f"{folder}/*.wav" for folder in sorted(first)[:SHOWN])
        return Unsettled("test_wavs", f"expected one of {several}, or [] for none")
    (folder,) = first
    wavs = sorted(folders[folder])
    if len(wavs) > MAX_WAVS:
        return Unsettled(
            "test_wavs", f"{folder} has {len(wavs):,} recordings; expected the names of a few"
        )
    return Found("test_wavs", wavs, f"the recordings in {folder}")


def family(name: str, texts: Mapping[str, str]) -> Answer:
    """The model's family.

    Args:
        name: of the repository, or a folder's path; where the recipe is in it, that decides.
        texts: of the repository's READMEs and scripts, by path.
    """
    found = {value: f"{recipe} is in its name" for value, recipe in _recipes(name)}
    if not found:
        for path, text in texts.items():
            for value, recipe in _recipes(text):
                found.setdefault(value, f"{recipe} is in {path}")
    if len(found) == 1:
        ((only, origin),) = found.items()
        return Found("family", only, origin)
    several = "; ".join(f"{value} ({origin})" for value, origin in found.items())
    return Unsettled(
        "family",
        f"expected one of {several}"
        if found
        else f"expected one of {', '.join(registry.names())}; no recipe of theirs is named",
    )


def _recipes(text: str) -> Iterator[tuple[str, str]]:
    """Families and recipes that a text names, with dashes or underscores."""
    text = text.lower().replace("_", "-")
    for name in registry.names():
        for recipe in registry.find(name).recipes:
            words = re.escape(recipe.lower().replace("_", "-"))
            if re.search(rf"(?<![a-z0-9]){words}(?![a-z0-9])", text):
                yield name, recipe


def settings(found: Family, stated: Iterable[str], texts: Mapping[str, str]) -> Iterator[Answer]:
    """The settings that have no default, as options of the commands in READMEs and scripts.

    Args:
        stated: settings that need not be looked for.
    """
    kinds = typing.get_type_hints(found.settings)
    for field in fields(found.settings):
        if field.name in stated or field.default is not MISSING:
            continue
        option = "--" + field.name.replace("_", "-")
        values: dict[Value, str] = {}
        for path, text in texts.items():
            for line, value in _values(option, path, text, kinds[field.name]):
                values.setdefault(value, f"{option} in {path}, line {line}")
        key, about = f"settings.{field.name}", field.metadata
        if len(values) == 1:
            ((only, origin),) = values.items()
            yield Found(key, only, origin)
        elif values:
            several = "; ".join(f"{value} ({origin})" for value, origin in values.items())
            yield Unsettled(key, f"expected one of {shown(several, 500)}")
        else:
            yield Unsettled(
                key,
                f"{about['description']}; no README or script states {option}. In the published "
                f"models it is {about['published']}",
            )


def _values(option: str, path: str, text: str, kind: Any) -> Iterator[tuple[int, Value]]:
    """Line numbers and values of an option in commands; what a shell would put in is none."""
    pattern = re.compile(rf"(?<![\w-]){option}[\s=]+['\"]?([\w.-]{{1,20}})(?=[\s'\"`)|\\,;]|$)")
    for number, line in enumerate(text.splitlines(), start=1):
        if path.endswith(".sh") and line.lstrip().startswith("#"):
            continue
        for match in pattern.finditer(line):
            try:
                yield number, READ[kind](match[1].rstrip("."))
            except (KeyError, ValueError):
                continue


def texts(files: Iterable[HubFile]) -> list[HubFile]:
    """The READMEs and scripts that are worth reading, the nearest to the top first."""
    found = [
        f
        for f in files
        if (_name(f).lower() == "readme.md" or _name(f).endswith(".sh")) and f.size <= MAX_TEXT
    ]
    return sorted(found, key=lambda f: (f.path.count("/"), f.path))[:MAX_TEXTS]


def _in_lang_folders(files: Iterable[HubFile]) -> list[HubFile]:
    """Distinct files; those in a folder called lang… come before copies elsewhere."""
    return _distinct(sorted(files, key=lambda f: not _folder(f).name.startswith("lang")))


def _distinct(files: Iterable[HubFile]) -> list[HubFile]:
    """Files of different content, the first of each; sorted by path."""
    first: dict[str, HubFile] = {}
    for file in files:
        first.setdefault(file.hash, file)
    return sorted(first.values(), key=lambda f: f.path)


def _listed(files: Sequence[HubFile]) -> str:
    return some([f"{shown(f.path, 200)} ({_size(f)})" for f in files], SHOWN)


def _size(file: HubFile) -> str:
    return f"{file.size / 1e6:,.1f} MB" if file.size >= 1e5 else f"{file.size:,} bytes"


def _name(file: HubFile) -> str:
    return PurePosixPath(file.path).name


def _folder(file: HubFile) -> PurePosixPath:
    return PurePosixPath(file.path).parent
