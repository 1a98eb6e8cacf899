"""lhotse's cuts: a MonoCut a line, with its recording and its supervisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.reading import parse_json
from transducer2ncnn.speech.entry import Entries, Entry, Find, read_text

#: What to do where a cut's audio is more than a part of a file.
SAVE = (
    "save what it stands for with lhotse's cuts.save_audios(folder), and name the cuts it returns"
)
#: What makes cuts of other manifests.
MAKE_CUTS = "lhotse cut simple -r recordings.jsonl.gz -s supervisions.jsonl.gz cuts.jsonl.gz"


def entries(path: Path, find: Find) -> Entries:
    """
    Raises:
        UserError: the file cannot be read, or holds other things than cuts.
    """
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            cut = _json(line)
            if number == 1 and (other := _other(cut)):
                raise NotCuts(
                    f"{path}: holds {other}, not cuts. Make cuts of recordings and supervisions: "
                    f"{MAKE_CUTS}"
                )
            yield _cut(where, cut, find)
        except NotCuts:
            raise
        except UserError as e:
            yield f"{where}: {e}"
        except KeyError as e:
            yield f"{where}: is not a MonoCut with its recording: it has no {e.args[0]!r}"
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as e:
            yield f"{where}: is not a MonoCut with its recording ({e})"


class NotCuts(UserError):
    """A manifest of lhotse's that holds something else."""


def _json(line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as e:
        raise UserError(f"is not JSON ({e})") from None


def _other(manifest: Any) -> str | None:
    """What else than cuts a line belongs to, by the keys that lhotse writes."""
    keys = manifest.keys() if isinstance(manifest, dict) else set()
    if "recording" in keys or "supervisions" in keys:
        return None
    if {"sources", "sampling_rate"} <= keys:
        return "recordings"
    if "recording_id" in keys:
        return "features" if "storage_path" in keys else "supervisions"
    return None


def _cut(where: str, cut: Any, find: Find) -> Entry:
    if not isinstance(cut, dict):
        raise UserError(f"is not a MonoCut: expected an object, {{…}}; found {shown(repr(cut))}")
    if cut.get("type", "MonoCut") != "MonoCut":
        raise UserError(f"is a {cut['type']}; only a MonoCut can be read: {SAVE}")
    if cut.get("recording") is None:
        raise UserError("has no recording (a cut of features alone cannot be decoded)")
    recording, channel = cut["recording"], cut["channel"]
    sources = [source for source in recording["sources"] if channel in source["channels"]]
    if not sources:
        raise UserError(f"its recording has no source with channel {channel}")
    if sources[0]["type"] != "file":
        raise UserError(f"its recording comes from a {sources[0]['type']}; expected a file: {SAVE}")
    supervisions = sorted(cut["supervisions"], key=lambda s: s["start"])
    return Entry(
        where,
        cut["id"],
        find(sources[0]["source"]),
        " ".join(s.get("text") or "" for s in supervisions),
        float(cut["start"]),
        float(cut["duration"]),
        sources[0]["channels"].index(channel),
        tuple(_rate(transform) for transform in recording.get("transforms") or ()),
    )


def _rate(transform: dict[str, Any]) -> int:
    """The rate that a transform resamples to, in Hz."""
    name = str(transform["name"])
    if name != "Resample":
        raise UserError(
            f"its recording has the transform {shown(name)}, of which only Resample can be "
            f"applied here: {SAVE}"
        )
    return int(transform["kwargs"]["target_sampling_rate"])
