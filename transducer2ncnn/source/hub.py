"""Models on the Hugging Face Hub: what a revision is, and the files of it that are asked for.

The client is ``huggingface_hub``, so HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE mean what
they mean to its users, and downloads land in its cache, where its other users find them. Here is
added what it leaves to its callers: a revision is resolved once for a whole run, transient
failures are tried again with growing waits, and what arrived is checked against the hash that the
Hub states. Whoever answers may mean harm: see ``answers`` too.
"""

from __future__ import annotations

import errno
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import huggingface_hub
from huggingface_hub import errors as hf_errors
from tqdm import tqdm

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import replacing, write_json
from transducer2ncnn.base.paths import is_inside
from transducer2ncnn.base.reading import parse_row
from transducer2ncnn.source import answers, repository
from transducer2ncnn.source.persistence import UnreachableError, persistent, said
from transducer2ncnn.source.repository import HubFile, Snapshot

#: Seconds between two lines of progress.
PROGRESS_INTERVAL = 2.0
#: Bytes that a model's page may have, which lists all of its files; and a file.
MAX_PAGE = 100_000_000
MAX_SIZE = 2**50


def resolve(repo_id: str, revision: str, record: str | Path) -> Snapshot:
    """The commit that a revision is at now, and its files.

    Args:
        record: file to leave the finding in. Where the Hub cannot be reached, or must not be
            (offline mode), the last finding there counts, or else what the client's cache holds.

    Raises:
        UserError: there is no such repository or revision, no access to it, or no way to know.
    """
    what = f"{repo_id} at {revision}"
    if huggingface_hub.is_offline_mode():
        return _known(repo_id, revision, record, "offline mode is on")
    try:
        info = persistent(
            lambda: huggingface_hub.HfApi().model_info(
                repo_id, revision=revision, files_metadata=True
            ),
            what,
            MAX_PAGE,
            _refuse,
        )
    except UnreachableError as e:
        snapshot = _known(repo_id, revision, record, str(e))
        print(
            f"warning: {e} Going on with {repo_id} at commit {snapshot.commit}, as {revision} was "
            "when last seen.",
            file=sys.stderr,
        )
        return snapshot
    commit = answers.commit_of(repo_id, info.sha)
    snapshot = Snapshot(repo_id, revision, commit, hub_files(repo_id, info.siblings))
    write_json(record, asdict(snapshot))
    return snapshot


def recorded(record: str | Path) -> Snapshot | None:
    """The last finding of ``resolve`` that was left in a file, or None."""
    try:
        found = parse_row(Path(record).read_bytes(), Snapshot)
        answers.commit_of(found.repo_id, found.commit)
        for file in found.files:
            _check_file(found.repo_id, file)
    except (OSError, ValueError, UserError):
        return None
    return found


def download(repo_id: str, commit: str, file: HubFile, target: str | Path) -> None:
    """Copy one file of a commit to ``target``, through the client's cache.

    Raises:
        UserError: it cannot be had, or what arrived is not what the Hub states.
    """
    what = f"{file.path} of {repo_id}"
    progress = type("_FileProgress", (_Progress,), {"what": file.path})

    def fetch() -> Path:
        path = huggingface_hub.hf_hub_download(
            repo_id, file.path, revision=commit, tqdm_class=progress
        )
        return Path(path)

    try:
        path = persistent(fetch, what, file.size, _refuse)
        if repository.hash_of(path, file) != file.hash:
            print(f"{what}: arrived damaged, fetched once more", file=sys.stderr, flush=True)
            _forget(path)
            path = persistent(fetch, what, file.size, _refuse)
        if (found := repository.hash_of(path, file)) != file.hash:
            _forget(path)
            raise UserError(
                f"{what} arrived twice with the hash {found}; the Hub states {file.hash} for it "
                f"({file.size:,} bytes). Something between here and there changes it: try "
                "another network, or tell the repository's owner."
            )
        with replacing(target) as partial:
            shutil.copyfile(path, partial)
    except UnreachableError as e:
        raise UserError(f"{e} Run again when it can be reached; what is there stays.") from None
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{what}: cannot be stored: {e}.") from None
        raise UserError(
            f"{what}: the disk is full ({file.size / 1e6:,.1f} MB are needed in the cache, "
            f"{huggingface_hub.constants.HF_HUB_CACHE}, and again in {Path(target).parent}). Make "
            "room, or let HF_HOME name another disk."
        ) from None


def _forget(path: Path) -> None:
    """Take a file out of the client's cache, which would hand it out again."""
    path.resolve().unlink()
    path.unlink(missing_ok=True)


class _Progress(tqdm):
    """Progress in lines, for output that goes through a pipe and into a log."""

    what = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # huggingface_hub's own keyword, and its wish to be silent where there is no terminal.
        kwargs.pop("name", None)
        super().__init__(*args, **kwargs | {"disable": False, "mininterval": PROGRESS_INTERVAL})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if self.total and self.total >= 1e6:
            done = f"{self.n / 1e6:,.1f} of {self.total / 1e6:,.1f} MB"
            print(f"{self.what}: {done}", file=sys.stderr, flush=True)


def _refuse(error: Exception, what: str) -> NoReturn:
    """Raise what a person can do about a failure that stays."""
    endpoint = huggingface_hub.constants.ENDPOINT
    token = (
        "Log in with `hf auth login`, or set HF_TOKEN to a token of an account that may read it."
    )
    if isinstance(error, hf_errors.GatedRepoError):
        advice = f"its owner lets in only who has accepted its terms, on its page. Then: {token}"
    elif isinstance(error, hf_errors.RevisionNotFoundError):
        advice = "there is no such revision. Correct `revision`: a branch, a tag or a commit."
    elif isinstance(error, hf_errors.RepositoryNotFoundError):
        advice = f"{endpoint} knows no such repository, or it is private. Check `repo_id`. {token}"
    elif isinstance(error, hf_errors.EntryNotFoundError):
        advice = "there is no such file in the repository. Check the path."
    elif isinstance(error, hf_errors.FileMetadataError):
        advice = f"{endpoint} answers as no Hub does ({said(error)}). {answers.advice()}"
    elif isinstance(error, httpx2.TransportError):
        advice = f"{said(error)}. {answers.advice()} SSL_CERT_FILE names certificates to trust."
    elif isinstance(error, hf_errors.OfflineModeIsEnabled):
        advice = "offline mode is on, and the client's cache does not hold it."
    elif isinstance(error, hf_errors.HfHubHTTPError):
        status = error.response.status_code
        advice = f"{endpoint} answered {status} {httpx2.codes.get_reason_phrase(status)}."
        if status in (401, 403):
            advice += f" No access: {token}"
    else:
        raise error
    raise UserError(f"{what}: {advice}") from None


def hub_files(repo_id: str, siblings: Any) -> tuple[HubFile, ...]:
    """The files that the Hub lists.

    Raises:
        UserError: as ``_check_file``, or it lists no files.
    """
    if not isinstance(siblings, list):
        raise UserError(f"{repo_id}: the Hub lists no files.")
    files = tuple(
        HubFile(s.rfilename, s.size, s.lfs.sha256 if s.lfs else s.blob_id) for s in siblings
    )
    for file in files:
        _check_file(repo_id, file)
    return files


def _check_file(repo_id: str, file: HubFile) -> None:
    """Refuse a file whose path leads out of the repository, or that has no size or hash."""
    if not isinstance(file.path, str) or not is_inside(file.path):
        raise UserError(f"{repo_id}: refused, for it lists a file with the path {file.path!r}.")
    sized = type(file.size) is int and 0 <= file.size < MAX_SIZE
    if not sized or not answers.is_hash(file.hash):
        raise UserError(f"{repo_id}: the Hub states no size and hash for {file.path!r}.")


def _known(repo_id: str, revision: str, record: str | Path, why: str) -> Snapshot:
    """What is known of a revision without the Hub."""
    if snapshot := recorded(record):
        return snapshot
    try:
        repos = huggingface_hub.scan_cache_dir().repos
    except hf_errors.CacheNotFound:
        repos = frozenset()
    for repo in repos:
        if repo.repo_id != repo_id or repo.repo_type != "model":
            continue
        for cached in repo.revisions:
            if revision in cached.refs or revision == cached.commit_hash:
                root = cached.snapshot_path
                files = (
                    HubFile(
                        f.file_path.relative_to(root).as_posix(), f.size_on_disk, f.blob_path.name
                    )
                    for f in cached.files
                )
                return Snapshot(repo_id, revision, cached.commit_hash, tuple(files))
    raise UserError(
        f"{repo_id} at {revision}: {why.rstrip('.')}, and neither an earlier run nor the client's "
        f"cache, {huggingface_hub.constants.HF_HUB_CACHE}, holds it. Run once with the Hub in "
        "reach, or fill the cache on another machine with `hf download`."
    )
