"""What a model is made of, found in a repository or around a training folder.

Only what is not stated is looked for, and all that cannot be settled is said at once, each with
the key that settles it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.paths import is_file, is_folder
from transducer2ncnn.families import registry
from transducer2ncnn.source import conventions, hub, repository
from transducer2ncnn.source.conventions import Answer, Found, Unsettled
from transducer2ncnn.source.repository import HubFile, Snapshot

#: Folders above a training folder that may hold the lang folder: icefall's are
#: ``<recipe>/exp`` and, beside the recipe, ``data/lang_*``.
ABOVE = 3
VOCABULARY = ("tokens.txt", "bpe.model")

#: What is stated of a model in the configuration, by key.
Stated = Mapping[str, Any]


def in_repository(name: str, snapshot: Snapshot, stated: Stated, folder: str | Path) -> list[Found]:
    """What a repository holds of a model.

    Args:
        name: the model's, for messages.
        folder: where READMEs and scripts that have to be read are kept, by commit.

    Raises:
        UserError: something that is needed cannot be settled, the repository has more files
            than a model's has, or a text cannot be fetched.
    """
    where = f"{snapshot.repo_id} at {snapshot.revision} (commit {snapshot.commit})"
    if len(snapshot.files) > conventions.MAX_FILES:
        raise UserError(
            f"models.{name}: {where} has {len(snapshot.files):,} files, more than are looked "
            "through. State `checkpoint`, and `tokens` or `bpe_model`."
        )
    answers: list[Answer] = []
    if "checkpoint" not in stated:
        answers.append(conventions.checkpoint(snapshot.files))
    if "tokens" not in stated and "bpe_model" not in stated:
        answers += conventions.vocabulary(snapshot.files)
    if "test_wavs" not in stated:
        answers.append(conventions.test_wavs(snapshot.files))
    family = stated.get("family")
    texts: dict[str, str] | None = None
    if family is None:
        answer = conventions.family(snapshot.repo_id, {})
        if isinstance(answer, Unsettled):
            texts = _texts(snapshot, folder)
            answer = conventions.family(snapshot.repo_id, texts)
        answers.append(answer)
        family = answer.value if isinstance(answer, Found) else None
    if family is not None and not _holds_settings(stated, answers):
        known, given = registry.find(str(family)), stated.get("settings", {})
        if any(conventions.settings(known, given, {})):
            texts = _texts(snapshot, folder) if texts is None else texts
            answers += conventions.settings(known, given, texts)
    return _settled(name, answers, where)


def _holds_settings(stated: Stated, answers: Iterable[Answer]) -> bool:
    """Whether the checkpoint is a training checkpoint, which the settings are in."""
    found = [a.value for a in answers if isinstance(a, Found) and a.key == "checkpoint"]
    path = str(found[0] if found else stated.get("checkpoint", ""))
    return conventions.TRAINING.fullmatch(path.rsplit("/", 1)[-1]) is not None


def _texts(snapshot: Snapshot, folder: str | Path) -> dict[str, str]:
    """The repository's READMEs and scripts by path, fetched as all files are: checked."""
    found = {}
    for file in conventions.texts(snapshot.files):
        path = Path(folder, snapshot.commit, file.path)
        if not repository.is_whole(path, file):
            hub.download(snapshot.repo_id, snapshot.commit, file, path)
        found[file.path] = path.read_text(encoding="utf-8", errors="replace")
    return found


def in_training_folder(
    name: str, exp_dir: str | Path, checkpoints: Callable[[], list[str]], stated: Stated
) -> list[Found]:
    """What goes with a training folder: its lang folder, and the family by the recipe's name.

    Args:
        checkpoints: those that are exported, which are asked only where there are several lang
            folders: a training checkpoint holds the name of its sentencepiece model.

    Raises:
        UserError: there is no lang folder, or there are several.
    """
    where = f"{exp_dir} and the folders above it"
    files = _around(Path(exp_dir))
    answers = conventions.vocabulary(files)
    if any(isinstance(answer, Unsettled) for answer in answers) and files:
        # Seldom, so that other runs need not wait for torch.
        from transducer2ncnn.formats.checkpoint import Checkpoint

        held = Checkpoint(checkpoints()[0]).plain_values().get("bpe_model")
        named = [f for f in files if f"/{f.path}".endswith(f"/{held}")]
        if named:
            folder = Path(named[0].path).parent
            answers = [
                Found(answer.key, answer.value, f"with the bpe_model {held} in the checkpoint")
                for answer in conventions.vocabulary(
                    f for f in files if Path(f.path).parent == folder
                )
                if isinstance(answer, Found)
            ]
    if "family" not in stated:
        answer = conventions.family(str(Path(exp_dir).resolve()), {})
        # Else it stays the default: what the checkpoint is no model of is refused by name.
        answers += [answer] if isinstance(answer, Found) else []
    return _settled(name, answers, where)


def _around(exp_dir: Path) -> list[HubFile]:
    """Vocabularies in a training folder, or in the nearest lang folders above it."""
    for folder in [exp_dir, *list(exp_dir.resolve().parents)[:ABOVE]]:
        langs = [folder] if folder == exp_dir else []
        langs += [f for pattern in ("lang*", "data/lang*") for f in sorted(folder.glob(pattern))]
        paths = [f / file for f in langs if is_folder(f) for file in VOCABULARY]
        if found := [_as_listed(path) for path in paths if is_file(path)]:
            return found
    return []


def _as_listed(path: Path) -> HubFile:
    try:
        with path.open("rb") as f:
            digest = hashlib.file_digest(f, "sha256")
            return HubFile(str(path), f.tell(), digest.hexdigest())
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror}. State `tokens`.") from None


def _settled(name: str, answers: Iterable[Answer], where: str) -> list[Found]:
    """The answers, which are all found, or else an error that lists those that are not."""
    answers = list(answers)
    found = [answer for answer in answers if isinstance(answer, Found)]
    if len(found) < len(answers):
        lines = [
            f"  models.{name}.{answer.key}: {answer.problem}."
            for answer in answers
            if isinstance(answer, Unsettled)
        ]
        said = [f"  {answer.described()}" for answer in found]
        raise UserError(
            f"models.{name}: {where} leaves open what these keys have to state:\n"
            + "\n".join([*lines, *(["Found there:", *said] if said else [])])
        )
    return found
