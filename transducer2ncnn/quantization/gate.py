"""What keeps a quantized precision that is not the model any more from being delivered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from transducer2ncnn.base import isolated
from transducer2ncnn.base.errors import UserError, some
from transducer2ncnn.base.layout import Files
from transducer2ncnn.formats.scale_table import as_written
from transducer2ncnn.quantization import agreement, ranges, rounding
from transducer2ncnn.quantization.ranges import Range

#: Tokens that fp32 must find in the recordings; of fewer, nothing can be said.
MIN_TOKENS = 10

ADVICE = (
    "More calibration audio of the kind that the model is used on, or layers left out of "
    "quantization, may help."
)


@dataclass(frozen=True)
class Limits:
    """What a quantized precision must reach; shares are fractions.

    Attributes:
        min_agreement: of the frames in which fp32 or it emits a token, how many must have fp32's
            best token.
        max_token_edits: how many edits its text may be from fp32's, relative to fp32's tokens.
        min_input_snr: the signal-to-noise ratio, in dB, that int8 must leave of each layer's input.
        require_speech: whether fp32 must find tokens at all.
    """

    min_agreement: float
    max_token_edits: float
    min_input_snr: float
    require_speech: bool


@dataclass(frozen=True)
class Examined:
    """What was found out about a precision.

    Attributes:
        figures: of ``agreement.compare``.
        ranges: of ``ranges.measure``.
        calibrated: the input scale that calibration gives to a layer, by part and layer.
        wrong_arrays: of ``rounding.wrong_arrays``.
    """

    figures: dict[str, Any]
    ranges: dict[str, dict[str, Range]]
    wrong_arrays: list[tuple[str, str, str]]
    calibrated: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def proves_nothing(self) -> bool:
        """Whether fp32 says too little for a comparison to mean anything."""
        return bool(self.figures["fp32_tokens"] < MIN_TOKENS)


def examine(
    fp32: Files,
    files: Files,
    description: dict[str, Any],
    recordings: Mapping[str, np.ndarray],
    precision: str,
    formats: Mapping[str, Mapping[str, str]],
    calibrated: Mapping[str, Mapping[str, float]],
) -> Examined:
    """Look at a precision in every way; plain ncnn runs in a process of its own.

    Args:
        fp32: the reference.
        files: those delivered in the precision, some of which may be fp16 or fp32.
        description: what ``model.inspect`` found.
        recordings: (n,) float32 samples at 16 kHz each, by name.
        precision: its name, for messages.
        formats: of each part that is quantized, the formats of its layers by name.
        calibrated: the input scale that calibration gives to a layer, by part and layer.

    Raises:
        UserError: ncnn cannot run the files, or crashes; or an output is not finite.
    """
    try:
        figures, found = isolated.call(_run, fp32, files, description, recordings, precision)
    except isolated.IsolatedError as e:
        raise UserError(f"ncnn cannot run the files in {precision}: {e}") from None
    wrong = list(rounding.wrong_arrays(fp32, files, formats))
    return Examined(figures, found, wrong, calibrated)


def _run(
    fp32: Files,
    files: Files,
    description: dict[str, Any],
    recordings: Mapping[str, np.ndarray],
    precision: str,
) -> tuple[dict[str, Any], dict[str, dict[str, Range]]]:
    return (
        agreement.compare(fp32, files, description, recordings, precision),
        ranges.measure(fp32, files, description, recordings.values()),
    )


def check(examined: Examined, limits: Limits, precision: str) -> str:
    """Refuse a precision that is beyond the limits.

    Args:
        precision: its name, for messages; the limits are keys below ``precisions.<name>``.

    Returns:
        What was found, as a sentence.

    Raises:
        UserError: with everything that is wrong.
    """
    reasons = dict(refusals(examined, limits, precision))
    if reasons:
        raise UserError(f"{precision} is not delivered: {' '.join(reasons.values())}")
    return summary(examined, precision)


def summary(examined: Examined, precision: str) -> str:
    """What was found, as a sentence."""
    figures = examined.figures
    everything = figures["all"]
    if examined.proves_nothing:
        return (
            f"{precision} is not proven: fp32 finds only {figures['fp32_tokens']} tokens in "
            f"{figures['seconds']:.1f} s of audio"
        )
    return (
        f"{precision} finds fp32's best token in {everything['agreement']:.1%} of "
        f"{everything['emitting_frames']} frames that emit one; token edits from fp32's "
        f"{figures['fp32_tokens']} tokens: {figures['token_edits']}"
    )


def refusals(examined: Examined, limits: Limits, precision: str) -> Iterator[tuple[str, str]]:
    """Each check that a precision fails, by name, and why."""
    if examined.wrong_arrays:
        names = [f"{part} {layer} {array}" for part, layer, array in examined.wrong_arrays]
        yield (
            "weights",
            f"its weights are not fp32's, rounded by their scales: {some(names, 3)}. "
            "Remove the files and make them again.",
        )
    if wrong := list(_wrong_scales(examined)):
        yield (
            "scales",
            f"{'; '.join(wrong)}. The files are not those that were quantized by this calibration: "
            "remove them and make them again.",
        )
    if wrong := list(_wrong_ranges(examined.ranges, limits.min_input_snr)):
        yield (
            "range",
            f"{'; '.join(wrong)}. Calibrate on speech like what the model is used on; "
            f"the limit is precisions.{precision}.min_input_snr, {limits.min_input_snr:g} dB.",
        )
    figures = examined.figures
    if limits.require_speech and examined.proves_nothing:
        yield (
            "speech",
            f"the comparison proves nothing, for fp32 itself finds only {figures['fp32_tokens']} "
            f"tokens in {figures['seconds']:.1f} s of audio, and {MIN_TOKENS} are needed. Name "
            "recordings of speech in the model's language as test_wavs, a minute at best; or, to "
            f"deliver it unproven, set precisions.{precision}.require_speech to false.",
        )
    everything = figures["all"]
    share, edits = everything["agreement"], figures["token_edit_rate"]
    if share is not None and share < limits.min_agreement:
        yield (
            "agreement",
            f"it finds fp32's best token in {share:.1%} of the {everything['emitting_frames']} "
            f"frames in which one of them emits a token; precisions.{precision}.min_agreement "
            f"asks for {limits.min_agreement:.1%}. With one part alone in {precision}: "
            f"{_by_part(figures)}. {ADVICE}",
        )
    if edits is not None and edits > limits.max_token_edits:
        yield (
            "token edits",
            f"the token edits from fp32's {figures['fp32_tokens']} tokens to its own are "
            f"{figures['token_edits']}, {edits:.1%}; precisions.{precision}.max_token_edits allows "
            f"{limits.max_token_edits:.1%}. {ADVICE}",
        )
    as_run = figures["as_run"]
    if as_run["token_edits"] > max(1.0, limits.max_token_edits * as_run["tokens"]):
        yield (
            "options",
            "at ncnn's own options, which sherpa-ncnn leaves as they are, it finds another text "
            f"than when computed in fp32: {as_run['token_edits']} edits in {as_run['tokens']} "
            f"tokens, {as_run['seconds']:.1f} s of audio; precisions.{precision}.max_token_edits "
            f"allows {limits.max_token_edits:.1%}. What is not int8 in it does not bear fp16: see "
            "verification/headroom.json, and the precision fp16.",
        )


def _by_part(figures: dict[str, Any]) -> str:
    shares = {part: x["agreement"] for part, x in figures["parts"].items()}
    return ", ".join(
        f"{part} {'nothing emitted' if share is None else f'{share:.1%}'}"
        for part, share in shares.items()
    )


def _wrong_scales(examined: Examined) -> Iterator[str]:
    for part, layers in examined.ranges.items():
        for layer, expected in examined.calibrated.get(part, {}).items():
            scale = layers[layer].scale if layer in layers else None
            if scale is not None and scale != as_written(expected):
                yield (
                    f"the {part}'s layer {layer} has the input scale {scale:.6g}, and calibration "
                    f"gives {expected:.6g}"
                )


def _wrong_ranges(found: dict[str, dict[str, Range]], min_snr: float) -> Iterator[str]:
    for part, layers in found.items():
        for layer, x in layers.items():
            if not x.is_a_scale:
                yield f"the {part}'s layer {layer} has {x.scale} for an input scale"
            elif not x.reproduces(min_snr):
                how = "below" if x.threshold < x.absmax else "above"
                yield (
                    f"the {part}'s layer {layer} has an input scale for magnitudes up to "
                    f"{x.threshold:.4g}, far {how} the {x.absmax:.4g} that the test audio shows"
                )
