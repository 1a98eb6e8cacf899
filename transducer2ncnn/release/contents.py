"""What goes into a release, under names of its own: those that sherpa-ncnn's models have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.fingerprints import fingerprint
from transducer2ncnn.base.layout import DELIVERED, PARTS, TRANSCRIBE, file_name
from transducer2ncnn.speech.features import SAMPLE_RATE

CARD, SUMS, TOKENS, BPE = "README.md", "SHA256SUMS", "tokens.txt", "bpe.model"
WAVS = "test_wavs"
TRANSCRIPTS = f"{WAVS}/transcripts.tsv"


@dataclass(frozen=True)
class Wav:
    """A test recording.

    Attributes:
        name: its path in the release.
        plain: whether sherpa-ncnn's own program reads it: 16 kHz, one channel, 16 bits.
    """

    name: str
    plain: bool


def model_files(manifest: Mapping[str, Any], precision: str) -> dict[str, str]:
    """The files of a precision as a release calls them, with their paths in the results.

    Raises:
        UserError: the manifest names other files than a precision has.
    """
    folder = f"{DELIVERED}/{precision}/"
    paths = [path for path in manifest["delivered"] if path.startswith(folder)]
    files = {path.removeprefix(folder): path for path in paths}
    # It runs a folder of one precision; a release has several side by side.
    files.pop(TRANSCRIBE, None)
    if TOKENS not in files or sorted(map(_kind, files.keys() - {TOKENS})) != _KINDS:
        raise UserError(
            f"the manifest of {manifest['model']} has for {precision}: {', '.join(files) or 'none'}"
            f". Expected {TOKENS}, and a param and a bin of each of {', '.join(PARTS)}."
        )
    return files


_KINDS = sorted(f"{part}.{kind}" for part in PARTS for kind in ("param", "bin"))


def _kind(name: str) -> str:
    """The part and the kind of a network's file, by its name; empty for any other."""
    for part in PARTS:
        for kind in ("param", "bin"):
            if name in (file_name(part, "fp16", kind), file_name(part, "int8", kind)):
                return f"{part}.{kind}"
    return ""


def by_part(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Names of a precision's params and bins, by part and kind."""
    found: dict[str, dict[str, str]] = {part: {} for part in PARTS}
    for name in files:
        part, _, kind = _kind(name).partition(".")
        if part:
            found[part][kind] = name
    return found


def together(manifest: Mapping[str, Any], precisions: Sequence[str]) -> dict[str, str]:
    """The model files of several precisions, side by side.

    Raises:
        UserError: two of them have a file of one name that is not the same.
    """
    files: dict[str, str] = {}
    delivered = manifest["delivered"]
    for precision in precisions:
        for name, path in model_files(manifest, precision).items():
            if name in files and delivered[files[name]] != delivered[path]:
                raise UserError(
                    f"{manifest['model']}: {files[name]} and {path} differ, and cannot both be "
                    f"{name} of a release. Leave one of them out of the release's `precisions`."
                )
            files.setdefault(name, path)
    return files


def wavs(paths: Sequence[str | Path]) -> dict[str, Wav]:
    """The test recordings by their paths here; in a release they are numbered.

    Raises:
        UserError: one of them cannot be read.
    """
    found = {}
    for i, path in enumerate(paths):
        try:
            info = soundfile.info(str(path))
        except (soundfile.LibsndfileError, OSError) as e:
            raise UserError(f"{path}: cannot be read as audio ({e}).") from None
        plain = (info.format, info.subtype) == ("WAV", "PCM_16") and (
            info.samplerate,
            info.channels,
        ) == (SAMPLE_RATE, 1)
        ending = "wav" if info.format.startswith("WAV") else info.format.lower()
        found[str(path)] = Wav(f"{WAVS}/{i}.{ending}", plain)
    return found


def transcripts(recordings: Mapping[str, Wav], references: Mapping[str, str]) -> str | None:
    """The table of what is said in them, or None where nothing is known.

    Args:
        references: texts by the recordings' names here.
    """
    rows = [
        (PurePosixPath(wav.name).name, " ".join(references[Path(path).name].split()))
        for path, wav in recordings.items()
        if Path(path).name in references
    ]
    if not rows:
        return None
    return "".join(f"{name}\t{text}\n" for name, text in [("wav", "text"), *rows])


def sums(files: Mapping[str, str | Path]) -> str:
    """What ``sha256sum --check`` reads, of files by name."""
    return "".join(
        f"{fingerprint(path)['sha256']}  {name}\n" for name, path in sorted(files.items())
    )


def read_sums(text: str) -> dict[str, str]:
    """Digests by name, of what ``sums`` wrote.

    Raises:
        ValueError: it is none.
    """
    digests = {}
    for line in text.splitlines():
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64:
            raise ValueError(f"a line is {line[:100]!r}")
        digests[name] = digest
    return digests
