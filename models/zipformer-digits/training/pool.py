"""The utterances that the training draws from: made once, kept in the training's folder."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import data

#: Utterances, and the share of synthesised strings among them.
UTTERANCES = 16000
STRINGS = 0.25


def load(fsdd: Path, out: Path) -> list[data.Utterance]:
    """The pool in ``out``, made from the recordings and ``out``/speech where it is missing."""
    path = out / "pool.pickle"
    if not path.exists():
        speech = data.load_speech(fsdd, out / "speech", leave_out=[])
        made = data.make_pool(speech, UTTERANCES, 1, STRINGS)
        partial = path.with_suffix(".tmp")
        partial.write_bytes(pickle.dumps([(u.features, u.digits) for u in made]))
        os.replace(partial, path)
    return [data.Utterance(*fields) for fields in pickle.loads(path.read_bytes())]
