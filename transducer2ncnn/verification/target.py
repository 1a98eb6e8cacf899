"""Delivered precisions on an emulated ARM processor: what sherpa-ncnn recognises there, and how far
ncnn is from PyTorch at sherpa-ncnn's own options.

Emulation proves arithmetic and says nothing of speed. It is slow: the audio is cut to what a model
of its size can be run on in minutes, and the result says to how much.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from transducer2ncnn.base import isolated
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS, Files, delivered_files
from transducer2ncnn.engines import recognizer
from transducer2ncnn.families.contract import FRAME_SECONDS
from transducer2ncnn.families.registry import described
from transducer2ncnn.speech import audio
from transducer2ncnn.speech.features import SAMPLE_RATE, silence
from transducer2ncnn.verification import as_run, streamed
from transducer2ncnn.verification.emulator import Emulator

#: Seconds of audio that a model with a million parameters is run on, and the least and the most of
#: any. A second of audio takes up to half a second of computing for each million.
SECONDS_PER_MILLION, LEAST_SECONDS, MOST_SECONDS = 200.0, 2.0, 20.0
#: Silence that sherpa-ncnn's own program puts behind a recording.
PROGRAM_TAIL = 0.3
#: A quantized precision is off PyTorch by much everywhere: on a target by no more than x86 times
#: this, and the tolerance.
QUANTIZED_FACTOR = 1.5


def seconds_for(parameters: int) -> float:
    """Seconds of audio that a model is run on."""
    return min(MOST_SECONDS, max(LEAST_SECONDS, SECONDS_PER_MILLION / (parameters / 1e6)))


def verify(
    emulator: Emulator,
    reference: Path,
    description: dict[str, Any],
    folders: Mapping[str, Path],
    plain: Mapping[str, Files],
    recordings: Sequence[tuple[str, np.ndarray]],
    tolerance: float,
    quantized: Collection[str] = (),
) -> dict[str, Any]:
    """Run each precision on an emulated processor and on this one.

    Args:
        folders: of each precision, the one that sherpa-ncnn runs.
        plain: and its files for plain ncnn.
        recordings: name and (n,) float32 samples at 16 kHz of each.
        tolerance: the largest error of an output that passes, but where rounding alone makes as
            much (``conditioning.py``).
        quantized: the precisions that are quantized.

    Returns:
        The processor's features, the tolerance, the seconds of audio and the segments; by
        precision, the errors of the outputs on both processors with what is allowed, the texts,
        the "failures" and whether it "passed"; and whether all did.

    Raises:
        UserError: something cannot be run.
    """
    architecture = described(description)
    limit = seconds_for(description["parameters"]["total"])
    segments = max(1, round(limit / (architecture.hop * FRAME_SECONDS)))
    cut = _cut(recordings, limit)
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as temporary:
        folder = Path(temporary)
        numbers = _on_target(emulator, reference, description, plain, segments, folder)
        made = json.loads((folder / "processor.json").read_text())
        precisions: dict[str, Any] = {}
        for name in plain:
            here = isolated.call(streamed.outputs, reference, architecture, plain[name], segments)
            texts = (
                _texts(emulator, folders[name], cut, architecture.tail_seconds, folder)
                if cut
                else []
            )
            away, near = (as_run.worst(reference, x, tolerance) for x in (numbers[name], here))
            factor = QUANTIZED_FACTOR if name in quantized else 0.0
            of = {
                "errors": {part: x.error for part, x in away.items()},
                "errors_on_x86": {part: x.error for part, x in near.items()},
                "allowed": {p: x.allowed + factor * near[p].error for p, x in away.items()},
                "texts": texts,
                "same_texts": sum(x["target"] == x["x86"] for x in texts),
            }
            failures = list(_failures(of))
            precisions[name] = of | {"failures": failures, "passed": not failures}
    return {
        **made,
        "tolerance": tolerance,
        "seconds": sum(len(samples) for _, samples in cut) / SAMPLE_RATE,
        "recordings": len(cut),
        "segments": as_run.segments_of(here),
        "precisions": precisions,
        "passed": all(of["passed"] for of in precisions.values()),
    }


def check(found: Mapping[str, Any], cpu: str) -> None:
    """Refuse what an emulated processor computes or recognises differently.

    Raises:
        UserError: naming each precision, the part and how far it is off, or the texts.
    """
    failures = [
        f"{name} on an emulated {cpu}: {failure}"
        for name, of in found["precisions"].items()
        for failure in of["failures"]
    ]
    if failures:
        raise UserError(" ".join(failures))


def warnings(found: Mapping[str, Any], cpu: str) -> Iterator[str]:
    """Recordings in which another text is recognised than on x86."""
    for name, of in found["precisions"].items():
        if wrong := _wrong_texts(of):
            yield f"{name} on an emulated {cpu}: {_other_text(wrong, len(of['texts']))}"


def _failures(of: Mapping[str, Any]) -> Iterator[str]:
    """What of a precision does not pass."""
    for part, error in of["errors"].items():
        if not error <= of["allowed"][part]:
            yield (
                f"the {part}'s outputs are off PyTorch's by {error:.3g}, where "
                f"{of['allowed'][part]:.3g} is allowed; on x86 they are off by "
                f"{of['errors_on_x86'][part]:.3g}. Values that fp16 cannot hold are the likely "
                "reason: see verification/headroom.json."
            )
    wrong = _wrong_texts(of)
    if 2 * len(wrong) > len(of["texts"]):
        yield _other_text(wrong, len(of["texts"]))


def _wrong_texts(of: Mapping[str, Any]) -> list[dict[str, str]]:
    return [x for x in of["texts"] if x["target"] != x["x86"]]


def _other_text(wrong: Sequence[Mapping[str, str]], recordings: int) -> str:
    return (
        f"sherpa-ncnn recognises something else than on x86 in {len(wrong)} of {recordings} "
        f"recordings. The first, {wrong[0]['wav']}: {wrong[0]['target']!r} for "
        f"{wrong[0]['x86']!r}."
    )


def _cut(
    recordings: Sequence[tuple[str, np.ndarray]], seconds: float
) -> list[tuple[str, np.ndarray]]:
    """As many recordings as last no longer, the last one cut."""
    cut = []
    left = round(seconds * SAMPLE_RATE)
    for name, samples in recordings:
        if left > 0:
            cut.append((name, samples[:left]))
            left -= len(samples[:left])
    return cut


def _on_target(
    emulator: Emulator,
    reference: Path,
    description: dict[str, Any],
    plain: Mapping[str, Files],
    segments: int,
    folder: Path,
) -> dict[str, dict[str, np.ndarray]]:
    request = folder / "request.json"
    precisions = {
        name: {part: [str(path.resolve()) for path in files[part]] for part in PARTS}
        for name, files in plain.items()
    }
    stated = {"reference": str(reference.resolve()), "description": description}
    request.write_text(json.dumps(stated | {"segments": segments, "precisions": precisions}))
    root = Path(__file__).resolve().parent.parent.parent
    emulator.python(["-m", streamed.__name__, request, folder], [root])
    return {name: dict(np.load(folder / f"{name}.npz")) for name in plain}


def _texts(
    emulator: Emulator,
    model: Path,
    recordings: Sequence[tuple[str, np.ndarray]],
    tail_seconds: float,
    folder: Path,
) -> list[dict[str, str]]:
    files = delivered_files(model)
    arguments: list[str | Path] = [model / "tokens.txt"]
    arguments += [path for part in PARTS for path in files[part]]
    wav = folder / "recording.wav"
    texts, heard = [], []
    for name, samples in recordings:
        print(f"{model} on the emulated processor: {name}", file=sys.stderr, flush=True)
        padded = np.concatenate([samples, silence(tail_seconds)])
        soundfile.write(wav, padded, SAMPLE_RATE, subtype="PCM_16")
        heard.append(audio.read(wav))
        printed = emulator.sherpa_ncnn([*arguments, wav, "1", "greedy_search"])
        said = re.findall(r"^text: ?(.*)$", printed, re.MULTILINE)
        if not said:
            raise UserError(f"{model}: sherpa-ncnn gave no result on the emulated processor.")
        texts.append(said[-1].strip())
    here = isolated.call(_recognise, str(model), heard)
    return [
        {"wav": name, "target": target, "x86": x86}
        for (name, _), target, x86 in zip(recordings, texts, here, strict=True)
    ]


def _recognise(model: str, recordings: Sequence[np.ndarray]) -> list[str]:
    loaded = recognizer.load(model, threads=1)
    return [recognizer.decode(loaded, samples, PROGRAM_TAIL)[1] for samples in recordings]
