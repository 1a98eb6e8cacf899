"""PyTorch's side of the proof of the weights: digests of what a network computes with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from transducer2ncnn.formats.layers import BY_MODULE
from transducer2ncnn.verification.proof import STORED, Expected, Module, digest


def make(network: nn.Module, run: Callable[[int], object]) -> Expected:
    """Digests of a network's tensors: of its modules with weights, and of its constants.

    Args:
        network: one part of a transducer.
        run: executes it once, on inputs that differ by every value from one number to another.
    """
    executed: list[tuple[str, nn.Module]] = []
    handles = [
        module.register_forward_hook(lambda m, *_, name=name: executed.append((name, m)))
        for name, module in network.named_modules()
        if type(module).__name__ in BY_MODULE
    ]
    # These have digests of their own, and are large.
    known = {
        tensor.untyped_storage().data_ptr()
        for module in network.modules()
        if type(module).__name__ in BY_MODULE
        for tensor in module.parameters(recurse=False)
    }
    seen = []
    try:
        for i in range(2):
            executed.clear()
            with _Seen(known) as recorder:
                run(i)
            seen.append(recorder.digests)
    finally:
        for handle in handles:
            handle.remove()
    modules = [
        Module(type(module).__name__, name, {k: _digests(x) for k, x in _tensors(module)})
        for name, module in executed
    ]
    # What is the same whatever the input is.
    return Expected(modules, seen[0] & seen[1])


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's tensors by name; the two biases that an LSTM adds up are one, ``bias``."""
    parameters = {k: v.detach().float() for k, v in module.named_parameters(recurse=False)}
    pair = [parameters.pop(f"bias_{which}_l0", None) for which in ("ih", "hh")]
    if pair[0] is not None and pair[1] is not None:
        parameters["bias"] = pair[0] + pair[1]
    yield from parameters.items()


def _digests(values: Tensor) -> dict[str, str]:
    """The digests of fp32 values by precision."""
    # PyTorch rounds as numpy does, in a tenth of the time.
    return {
        name: digest(values.to(getattr(torch, dtype.name)).numpy())
        for name, dtype in STORED.items()
    }


class _Seen(TorchDispatchMode):
    """Digests of every tensor that goes into or comes out of an operation."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.digests: set[str] = set()
        self._known = known

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here, and to say that it must not be loads PyTorch's compiler (1 s).
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves((args, kwargs, result)):
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in self._known:
                self.digests.add(digest(x.detach().float().contiguous().numpy()))
        return result
