"""The utterances that the training draws from, made part by part.

    python models/zipformer-digits/training/pool.py --fsdd DIR --out DIR

Making them takes a while, so the training begins with the first part and takes in the others as
they come. Parts that are there already stay.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "digits" / "training"))

import data

PARTS, PART = 4, 2000  # files; utterances in each
#: Share of synthesised strings among them.
STRINGS = 0.25


def path(out: Path, part: int) -> Path:
    return out / f"pool-{part:02}.pickle"


def read(out: Path, part: int) -> list[data.Utterance]:
    """A part; nothing as long as it is not there."""
    file = path(out, part)
    if not file.exists():
        return []
    return [data.Utterance(*fields) for fields in pickle.loads(file.read_bytes())]


def make(fsdd: Path, out: Path) -> None:
    missing = [part for part in range(PARTS) if not path(out, part).exists()]
    if not missing:
        return
    speech = data.load_speech(fsdd, out / "speech", leave_out=[])
    for part in missing:
        utterances = data.make_pool(speech, PART, 1 + part, STRINGS)
        partial = path(out, part).with_suffix(".tmp")
        partial.write_bytes(pickle.dumps([(u.features, u.digits) for u in utterances]))
        os.replace(partial, path(out, part))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fsdd", type=Path, required=True, help="the recordings")
    parser.add_argument("--out", type=Path, required=True, help="the training's folder")
    args = parser.parse_args()
    make(args.fsdd, args.out)
