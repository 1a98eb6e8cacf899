"""Decoding a checked manifest: shared out among jobs, and never the same thing twice.

What was heard in an utterance is kept under what it depends on: its samples, the model's files,
the search and the code. So an added utterance is all that is decoded, whatever shard it falls to,
and a job that was ended goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from transducer2ncnn.base import files, isolated, reading
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.shards import share_out
from transducer2ncnn.engines import recognizer
from transducer2ncnn.engines.search import Decoding
from transducer2ncnn.evaluation.heard import Heard
from transducer2ncnn.formats import tokens
from transducer2ncnn.speech import recordings
from transducer2ncnn.speech.recordings import Utterance

#: Seconds between two lines of progress.
PROGRESS_INTERVAL = 5.0


class Cache:
    """What was heard, in files: one an utterance, each whole or not there.

    Several jobs may use the same folder at once.

    Args:
        folder: of all caches of a system.
        depends_on: everything besides the samples that changes what is heard.
    """

    def __init__(self, folder: str | Path, *depends_on: object) -> None:
        key = hashlib.sha256(json.dumps([str(x) for x in depends_on]).encode()).hexdigest()
        self._folder = Path(folder, key[:16])

    def get(self, utterance: Utterance) -> Heard | None:
        try:
            return reading.parse_row(self._file(utterance).read_bytes(), Heard)
        except (FileNotFoundError, ValueError):  # a crash of the machine can leave a file empty
            return None

    def put(self, utterance: Utterance, heard: Heard) -> None:
        files.write_json(self._file(utterance), asdict(heard))

    def _file(self, utterance: Utterance) -> Path:
        return self._folder / f"{utterance.sha256}.json"


def digest(paths: Iterable[str | Path]) -> str:
    """A digest of files' contents, in the order given."""
    found = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as f:
            found.update(hashlib.file_digest(f, "sha256").digest())
    return found.hexdigest()


def share(utterances: list[Utterance], shard: int, shards: int) -> list[Utterance]:
    """One shard's utterances, in the manifest's order; all shards last about as long.

    Args:
        shard: from 1 on.
    """
    mine = set(share_out({u.id: u.duration for u in utterances}, shards)[shard - 1])
    return [utterance for utterance in utterances if utterance.id in mine]


def fill(
    cache: Cache, utterances: list[Utterance], recognise: Callable[[np.ndarray], Heard], who: str
) -> None:
    """Decode utterances into the cache; now and then a line says how far ``who`` is."""
    total = sum(u.duration for u in utterances)
    seconds, said = 0.0, time.monotonic()
    for utterance in utterances:
        try:
            cache.put(utterance, recognise(recordings.read(utterance)))
        except UserError as e:
            raise UserError(f"utterance {utterance.id!r}: {e}") from None
        seconds += utterance.duration
        if time.monotonic() - said > PROGRESS_INTERVAL:
            said = time.monotonic()
            print(f"{who}: {seconds:.0f} of {total:.0f} s of audio", file=sys.stderr, flush=True)


def fill_by_sherpa_ncnn(
    cache: Cache,
    utterances: list[Utterance],
    folder: str | Path,
    symbols: list[str],
    tail_seconds: float,
    decoding: Decoding,
    who: str,
) -> None:
    """The same by sherpa-ncnn, in a process of its own.

    Args:
        folder: made for sherpa-ncnn.
        symbols: of the model's tokens, by id.
        tail_seconds: silence to put behind each, as the model's architecture has it.

    Raises:
        UserError: sherpa-ncnn refused the model or crashed; with what it printed last.
    """
    try:
        isolated.call(
            _fill_by_sherpa_ncnn,
            cache,
            utterances,
            str(folder),
            symbols,
            tail_seconds,
            decoding,
            who,
        )
    except isolated.IsolatedError as e:
        raise UserError(f"sherpa-ncnn cannot run the model: {e}") from None


def _fill_by_sherpa_ncnn(
    cache: Cache,
    utterances: list[Utterance],
    folder: str,
    symbols: list[str],
    tail_seconds: float,
    decoding: Decoding,
    who: str,
) -> None:
    loaded = recognizer.load(folder, threads=1, decoding=decoding)

    def recognise(samples: np.ndarray) -> Heard:
        ids, text = recognizer.decode(loaded, samples, tail_seconds)
        return Heard([symbols[i] for i in ids], text)

    fill(cache, utterances, recognise, who)


def heard(ids: list[int], symbols: list[str]) -> Heard:
    return Heard([symbols[i] for i in ids], tokens.to_text(ids, symbols))


def decoded(cache: Cache, utterances: list[Utterance]) -> dict[str, Heard]:
    """What was recognised in utterances that are all in the cache, by their ids.

    Raises:
        UserError: one is not there any more.
    """
    found: dict[str, Heard] = {}
    for utterance in utterances:
        heard = cache.get(utterance)
        if heard is None:
            raise UserError(
                f"utterance {utterance.id!r}: was decoded, and is gone from the cache. Start "
                "again, and leave evaluation/cache alone while a run decodes."
            )
        found[utterance.id] = heard
    return found
