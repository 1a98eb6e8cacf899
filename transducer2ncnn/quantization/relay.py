"""An encoder that runs on several chunks of time at once, the states of its LSTMs handed on.

An LSTM's states lead from the first frame of a recording to the last, so that a recording cannot be
shared out. Its layers can: while one works on a chunk, the layers below it work on the next. Each
chunk is run by a thread of its own, in which every LSTM waits for the states that it left behind in
the chunk before. What is computed is the same, to the last bit, whatever the number of threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Chunk = TypeVar("Chunk")
States = tuple[Tensor, Tensor]


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes with one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def is_relayed(encoder: nn.Module, states: Sequence[np.ndarray]) -> bool:
    """Whether all states that an encoder carries are its LSTMs'.

    Args:
        states: those of one recording.
    """
    lstms = _lstms(encoder)
    own = sum(x.num_layers * (x.hidden_size + (x.proj_size or x.hidden_size)) for x in lstms)
    return bool(lstms) and own == sum(state.size for state in states)


def run(
    encoder: nn.Module,
    chunks: Iterable[Chunk],
    rows: Callable[[Chunk], list[int]],
    encode: Callable[[Chunk], Tensor],
    threads: int,
) -> Iterator[tuple[Chunk, Tensor]]:
    """Each chunk, in order, with what ``encode`` makes of it.

    Args:
        chunks: of time, one after the other. They are taken ahead of what is made of them.
        rows: the recordings in a chunk, in the order of the batch axis: all were in the chunk
            before.
        encode: runs the encoder once, on any states: from the second chunk on they are replaced.
        threads: that encode at once.
    """
    here = threading.local()

    def take(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        turn: _Turn | None = getattr(here, "turn", None)
        if turn is None or turn.before is None:
            return None
        return args[0], turn.before.states(module, turn.rows)

    def leave(module: nn.Module, _: Any, output: tuple[Tensor, States]) -> None:
        turn: _Turn | None = getattr(here, "turn", None)
        if turn is not None:
            turn.left[module].set_result(output[1])

    def work(turn: _Turn, chunk: Chunk) -> Tensor:
        # Both hold for a thread, and not for the process.
        torch.set_num_threads(1)
        here.turn = turn
        try:
            with torch.inference_mode():
                return encode(chunk)
        except BaseException as e:
            turn.fail(e)
            raise
        finally:
            here.turn = turn.before = None

    lstms = _lstms(encoder)
    handles = [x.register_forward_pre_hook(take) for x in lstms]
    handles += [x.register_forward_hook(leave) for x in lstms]
    started: deque[tuple[Chunk, Future[Tensor]]] = deque()
    before: _Turn | None = None
    try:
        with ThreadPoolExecutor(threads) as pool:
            for chunk in chunks:
                before = _Turn(rows(chunk), lstms, before)
                started.append((chunk, pool.submit(work, before, chunk)))
                if len(started) > threads:
                    done, future = started.popleft()
                    yield done, future.result()
            for done, future in started:
                yield done, future.result()
    finally:
        for handle in handles:
            handle.remove()


class _Turn:
    """One chunk: its recordings, and the states that each LSTM leaves behind."""

    def __init__(self, rows: list[int], lstms: list[nn.LSTM], before: _Turn | None) -> None:
        self.rows, self.before = rows, before
        self.left: dict[nn.Module, Future[States]] = {module: Future() for module in lstms}

    def states(self, module: nn.Module, rows: list[int]) -> States:
        """Those of some of the recordings, (layers, B, …) each, as soon as they are there."""
        h, c = self.left[module].result()
        if rows == self.rows:
            return h, c
        index = torch.tensor([self.rows.index(row) for row in rows])
        return h[:, index], c[:, index]

    def fail(self, error: BaseException) -> None:
        for future in self.left.values():
            if not future.done():
                future.set_exception(error)


def _lstms(encoder: nn.Module) -> list[nn.LSTM]:
    return [module for module in encoder.modules() if isinstance(module, nn.LSTM)]
