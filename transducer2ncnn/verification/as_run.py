"""Files as sherpa-ncnn runs them, at ncnn's own options: how far they are from PyTorch.

``parity.py`` has ncnn compute in fp32, so that nothing but a mistake makes a difference. At ncnn's
own options linear layers may hold their weights in fp16 whatever the file has, and on ARM all may
be computed in fp16. Here too outputs are held to a tolerance, or to what rounding alone makes of
them. Of the encoder these are its frames: states are carried on, and what is wrong in them shows
there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base.layout import PARTS, Files
from transducer2ncnn.families.contract import Architecture
from transducer2ncnn.formats import npz
from transducer2ncnn.formats.blobs import OUTPUT
from transducer2ncnn.verification import conditioning, parity, streamed
from transducer2ncnn.verification.parity import error_of
from transducer2ncnn.verification.proof import Mismatch

#: Segments that the encoder is run over on the machine that verifies.
SEGMENTS = 10


@dataclass(frozen=True)
class Worst:
    """Of a part's outputs, the one that comes nearest to what is allowed, or exceeds it."""

    error: float
    allowed: float


def verify(
    reference: str | Path,
    architecture: Architecture[Any, Any],
    files: Files,
    stored: str,
    tolerance: float,
    tolerance_as_run: float,
) -> dict[str, Any]:
    """All that a plain precision has to pass, for its verification.

    Args, returns and raises as ``parity.compare``, whose result is "parts", and ``compare``, whose
    result is "as_run".
    """
    parts = parity.compare(reference, architecture, files, stored, tolerance)
    as_run = compare(reference, architecture, files, tolerance_as_run)
    return {"tolerance": tolerance, "parts": parts, "as_run": as_run}


def compare(
    reference: str | Path,
    architecture: Architecture[Any, Any],
    files: Files,
    tolerance: float,
) -> dict[str, Any]:
    """Compare the outputs at ncnn's own options with PyTorch's.

    Args:
        reference: file written by ``reference.save``.
        files: (param, bin) of each part.

    Returns:
        The number of segments, the tolerance, and by part the "errors" and what is "allowed".

    Raises:
        Mismatch: naming the part that is off by more.
    """
    outputs = streamed.outputs(reference, architecture, files, SEGMENTS)
    found = worst(reference, outputs, tolerance)
    for part, x in found.items():
        if not x.error <= x.allowed:
            raise Mismatch(
                f"{files[part][0]}: at ncnn's own options, which sherpa-ncnn leaves as they are, "
                f"the {part}'s outputs are off PyTorch's by {x.error:.3g}, where {x.allowed:.3g} "
                "is allowed; computed in fp32 they are right. Expected a model that bears weights "
                "rounded to fp16; `verification.target_tolerance` allows more."
            )
    figures = {
        "errors": {part: x.error for part, x in found.items()},
        "allowed": {part: x.allowed for part, x in found.items()},
    }
    print(f"at ncnn's own options: {figures['errors']}", file=sys.stderr, flush=True)
    return {"tolerance": tolerance, "segments": segments_of(outputs)} | figures


def worst(
    reference: str | Path, outputs: Mapping[str, np.ndarray], tolerance: float
) -> dict[str, Worst]:
    """The worst of each part's outputs, by the reference's keys; states are none."""
    found = dict.fromkeys(PARTS, Worst(0.0, tolerance))
    with npz.opened(reference, "PyTorch's outputs") as arrays:
        rounding = conditioning.from_arrays(arrays)
        for key, array in outputs.items():
            part, _, name = key.partition("/")
            if not name.endswith(f"/{OUTPUT}"):
                continue
            x = Worst(error_of(array, arrays[key]), rounding.allowed(key, tolerance, "fp16"))
            if not x.error / x.allowed <= found[part].error / found[part].allowed:
                found[part] = x
    return found


def segments_of(outputs: Mapping[str, np.ndarray]) -> int:
    """The number of segments that the encoder was run over."""
    return len({key.rsplit("/", 1)[0] for key in outputs if key.startswith("encoder/streaming/")})
