"""What int8 costs, part by part: its logits against those of the fp32 files, on recordings.

Both sides walk the same path, the tokens that fp32 finds, so that one differing token does not
make all that follows differ. Each part is swapped in by itself, and then all together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS, Files
from transducer2ncnn.engines.runtime import Network
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats.sherpa import BLANK, NEVER_EMITTED
from transducer2ncnn.speech.features import SAMPLE_RATE, fbank

#: Seconds of audio that are compared; what comes after that is left out.
SECONDS = 60


def compare(
    fp32: Files, int8: Files, description: dict[str, Any], recordings: list[np.ndarray]
) -> dict[str, Any]:
    """Differences of the logits, by part and for all parts together.

    Args:
        fp32: the reference.
        int8: the files delivered as int8, some of which may be fp16 or fp32.
        description: what ``model.describe`` found.
        recordings: (n,) float32 samples at 16 kHz each.

    Returns:
        For each of the "parts", and for "all" of them together: the largest and the mean absolute
        difference of the logits, and the share of frames whose best token is the same. And the
        number of "frames".

    Raises:
        UserError: ncnn cannot run the files, or the recordings hold not one frame.
    """
    architecture = described(description)
    sizes = architecture.sizes
    networks = {
        name: {part: Network(*pair) for part, pair in files.items()}
        for name, files in (("fp32", fp32), ("int8", int8))
    }
    # For every variant, whose network is used for which part.
    variants = {
        changed: {part: "int8" if changed in (part, "all") else "fp32" for part in PARTS}
        for changed in (*PARTS, "all")
    }
    found = {name: _Difference() for name in variants}
    left = SECONDS * SAMPLE_RATE
    for samples in recordings:
        features = fbank(samples[:left], sizes.feature_dim)
        left -= len(samples[:left])
        if len(features) < architecture.segment:
            continue
        inputs = architecture.encoder_inputs(features, architecture.initial_states())
        blobs = {f"in{i}": array for i, array in enumerate(inputs)}
        encoded = {name: n["encoder"].run(blobs, ["out0"])[0] for name, n in networks.items()}
        tokens = [BLANK] * sizes.context_size
        decoded = _decode(networks, tokens)
        for t in range(len(encoded["fp32"])):
            frames = {name: encoder_out[t] for name, encoder_out in encoded.items()}
            reference = _join(networks, dict.fromkeys(PARTS, "fp32"), frames, decoded)
            for name, uses in variants.items():
                found[name].add(reference, _join(networks, uses, frames, decoded))
            token = int(reference.argmax())
            if token not in NEVER_EMITTED:
                tokens.append(token)
                decoded = _decode(networks, tokens[-sizes.context_size :])
    if not found["all"].frames:
        raise UserError("the recordings to compare int8 on are all shorter than one segment.")
    return {
        "frames": found["all"].frames,
        "parts": {part: found[part].summary() for part in PARTS},
        "all": found["all"].summary(),
    }


def _decode(networks: dict[str, dict[str, Network]], context: list[int]) -> dict[str, np.ndarray]:
    """What either decoder makes of a context."""
    blobs = {"in0": np.array(context, dtype=np.int32)}
    return {name: n["decoder"].run(blobs, ["out0"])[0].reshape(-1) for name, n in networks.items()}


def _join(
    networks: dict[str, dict[str, Network]],
    uses: dict[str, str],
    frames: dict[str, np.ndarray],
    decoded: dict[str, np.ndarray],
) -> np.ndarray:
    """The logits of one frame, each part's result taken from the networks that it ``uses``."""
    blobs = {"in0": frames[uses["encoder"]], "in1": decoded[uses["decoder"]]}
    return networks[uses["joiner"]]["joiner"].run(blobs, ["out0"])[0]


class _Difference:
    """The differences of logits, gathered frame by frame."""

    def __init__(self) -> None:
        self.frames = 0
        self._largest, self._sum, self._same = 0.0, 0.0, 0

    def add(self, reference: np.ndarray, logits: np.ndarray) -> None:
        difference = np.abs(logits - reference)
        self.frames += 1
        self._largest = max(self._largest, float(difference.max()))
        self._sum += float(difference.mean())
        self._same += bool(logits.argmax() == reference.argmax())

    def summary(self) -> dict[str, float]:
        return {
            "max_difference": self._largest,
            "mean_difference": self._sum / self.frames,
            "same_best_token": self._same / self.frames,
        }
