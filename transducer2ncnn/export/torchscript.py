"""PyTorch to TorchScript: tracing, and proof that the trace is the model at every length."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import replacing
from transducer2ncnn.engines.pytorch import to_torch
from transducer2ncnn.families.contract import Architecture
from transducer2ncnn.families.modules import Transducer


def trace(model: Transducer, part: str, path: str | Path) -> None:
    """Trace one part of a model and save it, the same bytes every time.

    Raises:
        UserError: the trace computes something else than the model.
    """
    module, architecture = model.part(part), model.architecture
    inputs = example_inputs(architecture, part, architecture.traced_frames)
    with warnings.catch_warnings():
        # Constants in the trace are meant (a norm's epsilon), so is torch's default LSTM, and
        # TorchScript is what pnnx reads.
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", message="LSTM with projections")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch.jit")
        # Stored inputs would show pnnx their shapes: it then freezes the number of frames, and
        # turns linear layers into Gemm, which the int8 tools leave alone.
        traced = torch.jit.trace(module, inputs, check_trace=False, _store_inputs=False)
        segment = architecture.segment
        # Shorter than what was traced, and longer.
        lengths = [segment, segment + 1, architecture.traced_frames + segment]
        for frames in architecture.lengths(lengths) if part == "encoder" else [segment]:
            _compare(module, traced, example_inputs(architecture, part, frames), part, frames)
    with replacing(path) as partial:
        traced.save(partial)


def example_inputs(
    architecture: Architecture[Any, Any], part: str, frames: int
) -> tuple[Tensor, ...]:
    """Inputs of one part, batch axis included; the encoder's with ``frames`` frames."""
    sizes = architecture.sizes
    rng = np.random.default_rng(frames)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    if part == "decoder":
        return (torch.from_numpy(rng.integers(0, sizes.vocab_size, (1, sizes.context_size))),)
    if part == "joiner":
        return (
            torch.from_numpy(normal(1, sizes.encoder_dim)),
            torch.from_numpy(normal(1, sizes.decoder_dim)),
        )
    states = architecture.random_states(rng)
    features = normal(frames, sizes.feature_dim)
    return to_torch(architecture, architecture.encoder_inputs(features, states))


def _compare(
    module: nn.Module, traced: nn.Module, inputs: tuple[Tensor, ...], part: str, frames: int
) -> None:
    expected, actual = module(*inputs), traced(*inputs)
    if isinstance(expected, Tensor):
        expected, actual = (expected,), (actual,)
    for i, (e, a) in enumerate(zip(expected, actual, strict=True)):
        # allclose takes an infinity for close to itself.
        same = e.shape == a.shape and torch.allclose(e, a, rtol=1e-5, atol=1e-5)
        if not same or not torch.isfinite(e).all():
            raise UserError(
                f"the traced {part} is not the model: output {i} differs at {frames} frames "
                f"(shapes {tuple(e.shape)} and {tuple(a.shape)}), or is not finite. The model's "
                "code must not branch on its input."
            )
