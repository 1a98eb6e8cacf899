"""Mixed precision under a budget: the cheapest formats of all layers that lose no more than asked.

The points that may be chosen, from the cheapest to the most exact, are those of
``quantization.front``. Which of them is within the budget is measured, point by point, on files as
they would be delivered: streamed over recordings, as what is quantized is compared with fp32
everywhere.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import Files
from transducer2ncnn.evaluation import scoring
from transducer2ncnn.evaluation.heard import Heard
from transducer2ncnn.formats import tokens
from transducer2ncnn.quantization import gate
from transducer2ncnn.quantization.agreement import Compared, Reference
from transducer2ncnn.quantization.front import Option, Point, cheapest, front
from transducer2ncnn.quantization.groups import Group
from transducer2ncnn.quantization.layer_formats import Fp16
from transducer2ncnn.quantization.sensitivity import store
from transducer2ncnn.speech.features import SAMPLE_RATE


@dataclass(frozen=True)
class Budget:
    """What a precision may lose against fp32; None where nothing is asked. All must hold.

    Attributes:
        max_differing_frames: frames with another best token, of those in which one emits a token.
        min_agreement: of these frames, the share whose best token must be fp32's.
        max_rise: percentage points by which the word error rate may be above fp32's.
    """

    max_differing_frames: int | None = None
    min_agreement: float | None = None
    max_rise: float | None = None

    def shortfalls(self, measured: Mapping[str, Any]) -> Iterator[str]:
        """What is beyond the budget, in words.

        Args:
            measured: of a point; see ``search``.
        """
        differing, emitting = measured["differing_frames"], measured["emitting_frames"]
        frames = f"{differing} of the {emitting} frames in which one emits a token differ from fp32"
        if self.max_differing_frames is not None and differing > self.max_differing_frames:
            yield f"{frames}, and max_differing_frames allows {self.max_differing_frames}"
        if self.min_agreement is not None and measured["agreement"] < self.min_agreement:
            yield (
                f"{frames}, an agreement of {measured['agreement']:.2%}, and min_agreement asks "
                f"for {self.min_agreement:.2%}"
            )
        # Rates are fractions of counts: what is the limit but for rounding is not above it.
        if self.max_rise is not None and measured["rise"] > self.max_rise + 1e-9:
            yield (
                f"the word error rate is {measured['rise']:.2f} percentage points above fp32's, "
                f"and max_rise allows {self.max_rise:g}"
            )


@dataclass(frozen=True)
class Task:
    """What is to be searched, on what.

    Attributes:
        precision: its name, for messages.
        fp32: param and bin of each part.
        description: what ``model.inspect`` found.
        recordings: (n,) float32 samples at 16 kHz each, by name.
        said: what is said in each; needed where the budget has a word error rate.
        symbols: of the model's tokens, by id.
        rules: how texts are compared with it.
        limits: of the gate that the precision is to pass.
    """

    precision: str
    fp32: Files
    description: dict[str, Any]
    recordings: Mapping[str, np.ndarray]
    said: Mapping[str, str]
    symbols: Sequence[str]
    rules: scoring.Rules
    budget: Budget
    limits: gate.Limits


def points(
    groups: Sequence[Group],
    errors: Sequence[Mapping[str, float]],
    costs: Sequence[Mapping[str, float]],
) -> list[Point]:
    """The points of a model, from the cheapest to the most exact, which is fp16.

    Args:
        errors: what each group's formats besides fp16 lose (``sensitivity.errors``). What fp16
            loses is a thousandth of that, and counts as nothing.
        costs: what each group's formats cost, in bytes or seconds.
    """
    return front(
        [
            [Option(name, cost, lost.get(name, 0.0)) for name, cost in cost_of.items()]
            for lost, cost_of in zip(errors, costs, strict=True)
        ]
    )


def formats(groups: Sequence[Group], point: Point) -> dict[str, dict[str, str]]:
    """The formats of a point by part and layer; those in fp16 are left out."""
    found: dict[str, dict[str, str]] = {}
    for group, format_ in zip(groups, point.formats, strict=True):
        if format_ != Fp16.NAME:
            found.setdefault(group.part, {}).update(dict.fromkeys(group.layers, format_))
    return found


def search(
    task: Task, groups: Sequence[Group], found: Sequence[Point]
) -> tuple[int, dict[int, dict[str, Any]]]:
    """Which point is the cheapest within the budget, and what was measured of those tried.

    Returns:
        The point's number, and by number: "recordings", "seconds", "frames", "emitting_frames",
        "differing_frames", "agreement", "divergence", "mean_square", "encoder_snr_db",
        "fp32_tokens", "token_edits"; "rise", in percentage points, where the budget asks for it,
        or None; and "beyond", what of the budget and of the gate does not hold, in words.

    Raises:
        UserError: the most exact point is beyond the budget; fp32 says too little for anything to
            be measured; or ncnn cannot run the files.
    """
    seconds = math.ceil(sum(map(len, task.recordings.values())) / SAMPLE_RATE)
    reference = Reference(task.fp32, task.description, task.recordings, seconds)
    measured: dict[int, dict[str, Any]] = {}

    def measure(i: int) -> bool:
        if i not in measured:
            measured[i] = _measured(task, reference, formats(groups, found[i]))
            x = measured[i]
            print(
                f"{task.precision}: point {i + 1} of {len(found)}: {x['differing_frames']} of "
                f"{x['emitting_frames']} frames differ; "
                f"{'beyond' if x['beyond'] else 'within'} the budget",
                file=sys.stderr,
                flush=True,
            )
        return not measured[i]["beyond"]

    chosen = cheapest(len(found), measure)
    last = len(found) - 1
    if chosen is None:
        raise UserError(
            f"precisions.{task.precision}.auto: no formats are within the budget. With all layers "
            f"in fp16, {'; '.join(measured[last]['beyond'])}. Allow more, or deliver fp32."
        )
    measure(last)  # so that the curve has its other end
    return chosen, dict(sorted(measured.items()))


def _measured(
    task: Task, reference: Reference, chosen: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
        files = {
            part: store(pair, chosen.get(part, {}), Fp16.NAME, Path(folder))
            for part, pair in task.fp32.items()
        }
        compared = reference.compare(files, task.precision)
    figures = compared.figures
    examined = gate.Examined(figures, {}, [])
    if examined.proves_nothing:
        raise UserError(
            f"precisions.{task.precision}.auto: nothing can be measured, for fp32 finds only "
            f"{figures['fp32_tokens']} tokens in {figures['seconds']:.1f} s of audio, and "
            f"{gate.MIN_TOKENS} are needed. Name recordings of speech in the model's language, as "
            "`evaluation` or as test_wavs."
        )
    everything = figures["all"]
    measured = {
        key: figures[key] for key in ("recordings", "seconds", "frames", "encoder_snr_db")
    } | {
        key: everything[key]
        for key in ("emitting_frames", "differing_frames", "agreement", "divergence", "mean_square")
    }
    measured |= {key: figures[key] for key in ("fp32_tokens", "token_edits")}
    measured["rise"] = (
        _rise(task, reference, compared) if task.budget.max_rise is not None else None
    )
    refused = [why for _, why in gate.refusals(examined, task.limits, task.precision)]
    return measured | {"beyond": [*task.budget.shortfalls(measured), *refused]}


def _rise(task: Task, reference: Reference, compared: Compared) -> float:
    """By how many percentage points the error rate is above fp32's."""
    said = [task.said[name] for name in compared.texts]

    def found(texts: Mapping[str, list[int]]) -> scoring.WordErrors:
        symbols = list(task.symbols)
        heard = [
            task.rules.text(
                Heard([symbols[i] for i in texts[name]], tokens.to_text(texts[name], symbols))
            )
            for name in compared.texts
        ]
        return scoring.word_errors(said, heard, task.rules)

    ours, theirs = found(compared.texts), found(reference.texts)
    return 100 * int((ours.errors - theirs.errors).sum()) / int(ours.words.sum())
