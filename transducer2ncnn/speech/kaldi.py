"""A Kaldi folder: ``wav.scp``, ``text`` and, if there is one, ``segments``."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from transducer2ncnn.speech.entry import Entries, Entry, Find, read_text

FILES = ("wav.scp", "text")

#: A recording inside an archive: the file, and where in it the recording begins.
IN_ARCHIVE = re.compile(r".*\.ark(\.gz)?(:\d+)?(\[.*\])?")

#: What makes files of such recordings in wav.scp, and names them there: of a folder, which lines
#: are meant, and what makes a file of one.
MAKE_FILES = (
    'd={}; mkdir -p "$d/wavs"; cp "$d/wav.scp" "$d/wav.scp.old"; while read -r id x; do case "$x" '
    'in {}) {} && x="wavs/$id.wav";; esac; echo "$id $x"; done < "$d/wav.scp.old" > "$d/wav.scp"'
)
RUN_COMMAND = ('*"|"', 'sh -c "${x%|}" < /dev/null > "$d/wavs/$id.wav"')
COPY_FROM_ARCHIVE = ("*.ark*", 'wav-copy "$x" "$d/wavs/$id.wav" < /dev/null')


def entries(folder: Path, find: Find) -> Entries:
    """
    Raises:
        UserError: a file of the folder cannot be read.
    """
    recordings, texts = Table(folder / "wav.scp"), Table(folder / "text")
    segments = Table(folder / "segments") if (folder / "segments").is_file() else None
    for table in (recordings, texts, *([segments] if segments else [])):
        yield from table.wrong
    for id_ in [id_ for id_, (_, wav) in recordings.lines.items() if not wav]:
        where, _ = recordings.lines.pop(id_)
        yield f"{where}: expected '<recording> <file>', found {id_!r}"
    commands = [id_ for id_, (_, wav) in recordings.lines.items() if wav.endswith("|")]
    archived = [id_ for id_, (_, wav) in recordings.lines.items() if IN_ARCHIVE.fullmatch(wav)]
    for ids, what, command in (
        (commands, "commands", RUN_COMMAND),
        (archived, "inside archives", COPY_FROM_ARCHIVE),
    ):
        # One message: it may be all of them.
        if ids:
            where, _ = recordings.lines[ids[0]]
            yield (
                f"{where}: {ids[0]!r} and {len(ids) - 1} more recordings are {what}, and only "
                f"files can be read. This makes files of all, in {folder}/wavs, and a wav.scp that "
                f"names them: {MAKE_FILES.format(shlex.quote(str(folder)), *command)}"
            )
    utterances = (
        segments.lines if segments else {r: (w, r) for r, (w, _) in recordings.lines.items()}
    )
    unreadable = {*commands, *archived}
    for id_, (where, segment) in utterances.items():
        try:
            recording, start, end, channel = (
                _segment(segment) if segments else (segment, 0.0, -1.0, None)
            )
        except ValueError:
            yield (
                f"{where}: expected '<utterance> <recording> <start> <end>', found "
                f"{f'{id_} {segment}'.strip()!r}"
            )
            continue
        if recording not in recordings.lines:
            yield f"{where}: recording {recording!r} is not in wav.scp"
        elif id_ not in texts.lines:
            yield f"{where}: {id_!r} is not in text"
        elif recording not in unreadable:
            _, wav = recordings.lines[recording]
            _, text = texts.lines[id_]
            # Kaldi writes -1 where it means the recording's end.
            duration = None if end == -1 else end - start
            yield Entry(where, id_, find(wav), text, start, duration, channel)
    for id_, (where, _) in texts.lines.items():
        if id_ not in utterances:
            yield f"{where}: {id_!r} is not in {'segments' if segments else 'wav.scp'}"


def _segment(text: str) -> tuple[str, float, float, int | None]:
    """Recording, start, end and, if there is one, channel; ValueError if it is not these."""
    recording, start, end, *channel = text.split()
    if len(channel) > 1:
        raise ValueError(text)
    return recording, float(start), float(end), int(channel[0]) if channel else None


class Table:
    """A file of Kaldi's: a key and what stands behind it in every line."""

    def __init__(self, path: Path) -> None:
        #: Where a key was found, and the rest of its line.
        self.lines: dict[str, tuple[str, str]] = {}
        self.wrong: list[str] = []
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            where = f"{path.name}, line {number}"
            if not line.strip():
                continue
            key, *rest = line.split(maxsplit=1)
            if key in self.lines:
                self.wrong.append(f"{where}: {key!r} was given before, in {self.lines[key][0]}")
            else:
                self.lines[key] = (where, rest[0].strip() if rest else "")
