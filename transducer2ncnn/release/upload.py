"""A release on the Hugging Face Hub: one commit, of only what changed, by the Hub's own client.

HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_DISABLE_XET mean what they mean to the client. Large files
are stored by their content before the commit is made: after a break, those that arrived are not
sent again. A token is in no message, whatever a server says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub import errors as hf_errors

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.reading import read_text
from transducer2ncnn.release.contents import SUMS, read_sums
from transducer2ncnn.source import answers, hub, repository
from transducer2ncnn.source.persistence import UnreachableError, persistent, said
from transducer2ncnn.source.repository import HubFile

#: What a commit onto another parent than the branch's head is answered with.
CONFLICTS = (409, 412)


@dataclass(frozen=True)
class Target:
    """Where a release goes."""

    repo_id: str
    revision: str
    private: bool


@dataclass(frozen=True)
class Published:
    """What became of it.

    Attributes:
        commit: the commit that holds the release.
        sent: files that were added or changed by it; removed: files of the release before.
    """

    commit: str
    sent: tuple[str, ...]
    removed: tuple[str, ...]

    def address(self, repo_id: str) -> str:
        """The commit's address."""
        return f"{huggingface_hub.constants.ENDPOINT}/{repo_id}/commit/{self.commit}"


class _ConflictError(UserError):
    """A branch is no longer where it was."""


@dataclass(frozen=True)
class _Difference:
    """What a branch lacks to hold a release, and has of the one before."""

    head: str
    changed: dict[str, Path]
    removed: list[str]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def publish(target: Target, files: Mapping[str, Path], message: str) -> Published:
    """Make a branch hold a release.

    What an earlier release left there, by its SHA256SUMS, and this one has not, is removed; other
    files stay.

    Args:
        files: paths here by their paths in the repository.
        message: of the commit.

    Raises:
        UserError: no token, no access, a repository that others can read where it was to be
            private, a commit of somebody else's meanwhile, or no connection. Nothing is changed
            there then, but for large files, which are kept for the next try.
    """
    token = huggingface_hub.get_token()
    if token is None:
        raise UserError(
            f"{target.repo_id}: not published, for there is no token. Log in with `hf auth login`, "
            "or set HF_TOKEN to a token that may write there."
        )
    huggingface_hub.utils.disable_progress_bars()
    try:
        return _publish(target, files, message)
    except UnreachableError as e:
        text = f"{target.repo_id}: {e} Run again: what has arrived is not sent again."
    except UserError as e:
        text = str(e)
    raise UserError(text.replace(token, "…"))


def _publish(target: Target, files: Mapping[str, Path], message: str) -> Published:
    api = huggingface_hub.HfApi()
    repo_id, branch = target.repo_id, target.revision
    what = f"{repo_id} at {branch}"
    persistent(
        lambda: api.create_repo(repo_id, private=target.private, exist_ok=True), what, 0, _refuse
    )
    _check_private(api, target)
    if branch != huggingface_hub.constants.DEFAULT_REVISION:
        persistent(
            lambda: api.create_branch(repo_id, branch=branch, exist_ok=True), what, 0, _refuse
        )
    there = _difference(api, target, files, branch)
    if not there:
        print(f"{what}: holds this release already", flush=True)
        return Published(there.head, (), ())
    size = sum(path.stat().st_size for path in there.changed.values())
    print(
        f"{what}: {len(there.changed)} of {len(files)} files are new or changed, "
        f"{size / 1e6:,.1f} MB; {len(there.removed)} are removed",
        flush=True,
    )
    try:
        commit = persistent(
            lambda: _commit(api, target, there, message), what, hub.MAX_PAGE, _refuse
        )
    except _ConflictError:
        # It may have been made, and only the answer have been lost.
        now = _difference(api, target, files, branch)
        if now:
            raise
        commit = now.head
    # A file that a .gitignore there names is left out by the client without a word.
    if missing := _difference(api, target, files, commit).changed:
        raise UserError(
            f"{what}: published in part, as commit {commit}: {', '.join(missing)} did not get "
            "there. Look for a .gitignore in the repository that names them, and run again."
        )
    return Published(commit, tuple(there.changed), tuple(there.removed))


def _commit(api: huggingface_hub.HfApi, target: Target, there: _Difference, message: str) -> str:
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(name, path) for name, path in there.changed.items()),
        *(CommitOperationDelete(name) for name in there.removed),
    ]
    try:
        made = api.create_commit(
            target.repo_id,
            operations,
            commit_message=message,
            revision=target.revision,
            parent_commit=there.head,
        )
    except ValueError as e:
        if not isinstance(e.__cause__, hf_errors.BadRequestError):
            raise
        # The metadata, which the client has the Hub look at first.
        raise UserError(f"not published. {' '.join(str(e).split())}") from None
    except RuntimeError as e:
        # The client's word for a file that did not arrive; the cause says why, if there is one.
        if isinstance(e.__cause__, Exception):
            raise e.__cause__ from None
        raise UnreachableError(f"a file did not arrive: {said(e)}.") from None
    return answers.commit_of(target.repo_id, made.oid)


def _difference(
    api: huggingface_hub.HfApi, target: Target, files: Mapping[str, Path], revision: str
) -> _Difference:
    info = _info(api, target, revision)
    head = answers.commit_of(target.repo_id, info.sha)
    listed = {file.path: file for file in hub.hub_files(target.repo_id, info.siblings)}
    changed = {
        name: path
        for name, path in sorted(files.items())
        if name not in listed or not repository.is_whole(path, listed[name])
    }
    before = _release_before(target, head, listed.get(SUMS))
    return _Difference(head, changed, sorted((before & listed.keys()) - files.keys()))


def _info(api: huggingface_hub.HfApi, target: Target, revision: str | None) -> Any:
    return persistent(
        lambda: api.model_info(target.repo_id, revision=revision, files_metadata=True),
        f"{target.repo_id} at {target.revision}",
        hub.MAX_PAGE,
        _refuse,
    )


def _check_private(api: huggingface_hub.HfApi, target: Target) -> None:
    """Refuse a repository that others can read, where they were not to."""
    private = _info(api, target, None).private
    if target.private and private is not True:
        raise UserError(
            f"{target.repo_id}: not published, for the repository is public, and `private` of the "
            "release is true. Set it to false, or name another repository."
        )
    if not target.private and private:
        print(f"warning: {target.repo_id} is private, and stays so: its settings can change that")


def _release_before(target: Target, head: str, sums: HubFile | None) -> set[str]:
    """The files of the release that a branch holds, by what it states of itself."""
    if sums is None:
        return set()
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
        path = Path(folder, SUMS)
        hub.download(target.repo_id, head, sums, path)
        try:
            return set(read_sums(read_text(path)))
        except (UserError, ValueError) as e:
            raise UserError(
                f"{target.repo_id}: its {SUMS} is not of a release of this project ({e}). Remove "
                "it there, or name another repository."
            ) from None


def _refuse(error: Exception, what: str) -> NoReturn:
    """Raise what a person can do about a failure that stays."""
    endpoint = huggingface_hub.constants.ENDPOINT
    token = (
        "Log in with `hf auth login`, or set HF_TOKEN to a token that may write there; its owner "
        "must be who the repository's address begins with, or a member."
    )
    if isinstance(error, hf_errors.OfflineModeIsEnabled):
        raise UserError(f"{what}: not published, for offline mode is on.") from None
    if not isinstance(error, hf_errors.HfHubHTTPError):
        raise error
    status = error.response.status_code
    if status in CONFLICTS:
        raise _ConflictError(
            f"{what}: not published, for somebody else has changed it meanwhile ({endpoint} "
            f"answered {status}). Look at what is there, and run again: what has arrived is not "
            "sent again."
        ) from None
    if status in (401, 403) or isinstance(error, hf_errors.RepositoryNotFoundError):
        advice = f"no access. {token}"
    else:
        advice = f"{error.server_message or said(error)}."
    raise UserError(f"{what}: not published. {endpoint} answered {status}: {advice}") from None
