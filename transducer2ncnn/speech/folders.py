"""Recordings in a folder: which of its files are some, and which are some that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

from transducer2ncnn.base.errors import UserError, some

#: Ends of names, in lower case, of what soundfile reads.
READABLE = frozenset(
    {
        *(".wav", ".wavex", ".flac", ".mp3", ".mp2", ".ogg", ".oga", ".opus", ".aif", ".aiff"),
        *(".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc", ".wve"),
        *(".ircam", ".sf"),
    }
)
#: The same of recordings that it does not read, or not without being told how they are stored.
UNREADABLE = frozenset(
    {
        *(".m4a", ".m4b", ".mp4", ".aac", ".wma", ".amr", ".awb", ".3gp", ".webm", ".mka", ".mkv"),
        *(".mov", ".avi", ".ape", ".wv", ".alac", ".dsf", ".spx", ".pcm", ".raw", ".g722", ".ulaw"),
        *(".ac3", ".dts", ".tta"),
    }
)
#: How many files a message names.
NAMED = 5


def recordings_in(folder: str | Path) -> list[str]:
    """The recordings in a folder and in those below it, sorted by path; hidden files are none.

    Raises:
        UserError: some are in formats that cannot be read.
    """
    found: list[str] = []
    unreadable: list[str] = []
    walked: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        # A link may lead back up.
        if (real := os.path.realpath(parent)) in walked:
            folders.clear()
            continue
        walked.add(real)
        for name in names:
            kind = os.path.splitext(name)[1].lower()
            if kind in READABLE and not name.startswith("."):
                found.append(os.path.join(parent, name))
            elif kind in UNREADABLE and not name.startswith("."):
                unreadable.append(os.path.join(parent, name))
    if unreadable:
        raise UserError(
            f"{some(sorted(unreadable), NAMED)}: cannot be read. Convert them, as by ffmpeg -i "
            "x.m4a -ar 16000 x.wav, or leave them out with a pattern such as wavs/*.wav"
        )
    return sorted(found)
