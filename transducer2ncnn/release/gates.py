"""What must have passed for a model to be published, judged anew by what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.evaluation import gate as accuracy
from transducer2ncnn.quantization import gate as quantized
from transducer2ncnn.verification import headroom, target

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Checked:
    """What was found out about a model.

    Attributes:
        precisions: those that are released.
        verification: by precision; headroom: of all.
        targets: by emulated processor, empty where none is configured.
        evaluation: by precision, of those that have a limit; max_rise: that limit, in percentage
            points.
        quantized: which of the precisions are.
    """

    precisions: Sequence[str]
    verification: Mapping[str, Json]
    headroom: Json
    quantized: Sequence[str]
    targets: Mapping[str, Json] = field(default_factory=dict)
    evaluation: Mapping[str, Json] = field(default_factory=dict)
    max_rise: Mapping[str, float] = field(default_factory=dict)


def check(checked: Checked) -> None:
    """Refuse a model of which something did not pass.

    Raises:
        UserError: with everything that did not.
    """
    reasons = list(_refusals(checked))
    if reasons:
        raise UserError("not published. " + " ".join(reasons))


def _refusals(checked: Checked) -> Iterator[str]:
    for precision in checked.precisions:
        if precision not in checked.verification:
            yield f"{precision} was not verified."
        elif precision in checked.quantized:
            yield from _against_fp32(precision, checked.verification[precision])
        else:
            yield from _against_pytorch(precision, checked.verification[precision])
        if precision in checked.max_rise:
            if precision not in checked.evaluation:
                yield f"{precision} was not evaluated, and evaluation.max_rise has a limit for it."
            else:
                evaluation, limit = checked.evaluation[precision], checked.max_rise[precision]
                yield from _raised(partial(accuracy.check_rise, dict(evaluation), limit))
    yield from _raised(partial(headroom.check, checked.headroom, "the model"))
    for cpu, found in checked.targets.items():
        missing = [x for x in checked.precisions if x not in found["precisions"]]
        if missing:
            yield f"{' and '.join(missing)} did not run on an emulated {cpu}."
        yield from _raised(partial(target.check, found, cpu))
        for precision, of in found["precisions"].items():
            yield from _beyond(f"{precision} on an emulated {cpu}", of["errors"], of["allowed"])


def _against_pytorch(precision: str, found: Json) -> Iterator[str]:
    parts = found["parts"]
    allowed = {part: x["allowed"] for part, x in parts.items()}
    yield from _beyond(precision, {part: x["max_error"] for part, x in parts.items()}, allowed)
    own = found["as_run"]
    yield from _beyond(f"{precision} at ncnn's own options", own["errors"], own["allowed"])


def _beyond(what: str, errors: Mapping[str, float], allowed: Mapping[str, float]) -> Iterator[str]:
    for part, error in errors.items():
        # What is not a number is not within it either.
        if not error <= allowed[part]:
            yield (
                f"{what}: the {part} is off PyTorch's by {error:.3g}, and {allowed[part]:.3g} is "
                "allowed."
            )


def _against_fp32(precision: str, found: Json) -> Iterator[str]:
    examined = quantized.Examined(dict(found), {}, [])
    limits = quantized.Limits(**found["limits"])
    if examined.proves_nothing:
        yield f"{quantized.summary(examined, precision)}. Name recordings of speech as test_wavs."
    for reason in dict(quantized.refusals(examined, limits, precision)).values():
        yield f"{precision}: {reason}"


def _raised(check: Callable[[], None]) -> Iterator[str]:
    """What a check that raises says."""
    try:
        check()
    except UserError as e:
        yield str(e)
