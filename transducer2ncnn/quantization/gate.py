"""What keeps a quantized precision that is not the model any more from being delivered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.quantization.ranges import Range

#: Tokens that fp32 must find in the recordings; of fewer, nothing can be said.
MIN_TOKENS = 10
#: The smallest signal-to-noise ratio, in dB, that int8 may leave of a layer's input.
MIN_INPUT_SNR = 10.0

ADVICE = (
    "More calibration audio, of the kind that the model will hear, or layers left out of "
    "quantization may help."
)


@dataclass(frozen=True)
class Limits:
    """What a quantized precision must reach; shares are fractions.

    Attributes:
        min_agreement: of the frames in which fp32 or it emits a token, how many must have fp32's
            best token.
        max_token_edits: how many edits its text may be from fp32's, relative to fp32's tokens.
        require_speech: whether fp32 must find tokens at all.
    """

    min_agreement: float
    max_token_edits: float
    require_speech: bool


def check(
    found: dict[str, Any], ranges: dict[str, dict[str, Range]], limits: Limits, precision: str
) -> str:
    """Refuse a precision that is beyond the limits.

    Args:
        found: what ``agreement.compare`` found.
        ranges: what ``ranges.measure`` found.
        precision: its name, for messages; the limits are below ``precisions.<name>``.

    Returns:
        What was found, as a sentence.

    Raises:
        UserError: with all that is beyond the limits, and each layer whose range is wrong.
    """
    reasons = dict(refusals(found, ranges, limits, precision))
    if reasons:
        raise UserError(f"{precision} is not delivered: {' '.join(reasons.values())}")
    return summary(found, precision)


def summary(found: dict[str, Any], precision: str) -> str:
    """What was found, as a sentence."""
    everything = found["all"]
    if proves_nothing(found):
        return (
            f"WARNING: {precision} is not proven: fp32 finds {found['fp32_tokens']} tokens in "
            f"{found['seconds']:.0f} s of audio"
        )
    return (
        f"{precision} finds fp32's best token in {everything['agreement']:.1%} of "
        f"{everything['emitting_frames']} frames that emit a token; its text is "
        f"{found['token_edits']} edits from fp32's {found['fp32_tokens']} tokens"
    )


def proves_nothing(found: dict[str, Any]) -> bool:
    """Whether fp32 says too little for a comparison to mean anything."""
    return found["fp32_tokens"] < MIN_TOKENS


def refusals(
    found: dict[str, Any], ranges: dict[str, dict[str, Range]], limits: Limits, precision: str
) -> Iterator[tuple[str, str]]:
    """Each gate that a precision fails, by name, and why; arguments as of ``check``."""
    if wrong := list(_wrong_ranges(ranges)):
        yield (
            "range",
            f"{'; '.join(wrong)}. Scales belong to audio like the calibration's: calibrate on "
            "recordings of speech as the model will hear it.",
        )
    if limits.require_speech and proves_nothing(found):
        yield (
            "speech",
            f"the comparison proves nothing, for fp32 itself finds only {found['fp32_tokens']} "
            f"tokens in {found['seconds']:.1f} s of audio; at least {MIN_TOKENS} are needed. Name "
            "recordings of speech in the model's language as test_wavs, a minute at best. To "
            f"deliver it all the same, set precisions.{precision}.require_speech to false.",
        )
    everything = found["all"]
    agreement, edits = everything["agreement"], found["token_edit_rate"]
    if agreement is not None and agreement < limits.min_agreement:
        yield (
            "agreement",
            f"in the {everything['emitting_frames']} frames in which fp32 or {precision} emits a "
            f"token, it finds fp32's best token in {agreement:.1%}; precisions.{precision}."
            f"min_agreement asks for {limits.min_agreement:.1%}. With one part alone in "
            f"{precision}: {_by_part(found)}. {ADVICE}",
        )
    if edits is not None and edits > limits.max_token_edits:
        yield (
            "token edits",
            f"its text is {found['token_edits']} token edits from fp32's "
            f"{found['fp32_tokens']} tokens, {edits:.1%}; precisions.{precision}.max_token_edits "
            f"allows {limits.max_token_edits:.1%}. {ADVICE}",
        )


def _by_part(found: dict[str, Any]) -> str:
    shares = {part: x["agreement"] for part, x in found["parts"].items()}
    return ", ".join(
        f"{part} {'–' if share is None else f'{share:.1%}'}" for part, share in shares.items()
    )


def _wrong_ranges(ranges: dict[str, dict[str, Range]]) -> Iterator[str]:
    for part, layers in ranges.items():
        for layer, x in layers.items():
            if x.reproduces(MIN_INPUT_SNR):
                continue
            if not x.is_a_scale:
                yield f"the {part}'s layer {layer} has {x.scale} for an input scale"
                continue
            how = "below" if x.threshold < x.absmax else "above"
            yield (
                f"the {part}'s layer {layer} has an input scale for magnitudes up to "
                f"{x.threshold:.4g}, far {how} the {x.absmax:.4g} that the test audio shows"
            )
