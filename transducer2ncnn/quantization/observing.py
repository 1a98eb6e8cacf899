"""What goes into every layer that can be quantized by calibration, observed in PyTorch.

Observed are the inputs of the encoder's and the joiner's convolutions and linear layers while
recordings are decoded by greedy search; the decoder has none. What is made of that is decided
elsewhere: how a scale is chosen does not change what was observed.

What is counted is what sherpa-ncnn's generate-int8-scale-table sees, which runs the encoder
on one segment at a time: a value inside the convolutions counts once for every segment that sees
it, and what follows the last full segment is not seen at all. So does the encoder run here, on
many recordings side by side, where the network can take them so. A network that can be cut
anywhere runs on many segments at once, for none of its values depends on how they are cut.
The tool's search is not sherpa-ncnn's own (``tool_search``); a table is what the tool makes of a
model, so it is followed there too.

Shapes: B recordings in a batch, K segments in a chunk of time, T' output frames in one.
"""

from __future__ import annotations

import copy
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transducer2ncnn.engines.pytorch import from_torch, to_torch
from transducer2ncnn.families.contract import FRAME_SECONDS, Architecture
from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.quantization import relay
from transducer2ncnn.quantization.statistics import Histogram, NotFiniteError, Observed
from transducer2ncnn.quantization.tool_search import ToolSearch
from transducer2ncnn.speech.features import FbankStream

#: The types of layers that are observed, with the axis that time runs along in their inputs, batch
#: first. Only networks that can be cut anywhere must have it there.
TIME_AXIS = {"Conv2d": 2, "Linear": 1}

#: What is told of a layer on the way: its name, itself and its input.
See = Callable[[str, nn.Module, Tensor], None]

#: The networks of a transducer that are observed.
PARTS = ("encoder", "joiner")

#: The joiner's layers that are given what others of its layers made.
INSIDE_JOINER = frozenset({"output_linear"})

#: Segments that are read and searched at a time.
CHUNK = 32

NOT_FINITE_ADVICE = (
    "Check that the checkpoint's weights are finite: int8 cannot be calibrated on such values."
)


def observe(
    model: Transducer,
    batches: Iterable[Iterable[tuple[str, Iterable[np.ndarray]]]],
    progress: Callable[[float], None] = lambda seconds: None,
    threads: int = 1,
) -> Observed:
    """Histograms of what goes into every layer to be quantized, over all recordings.

    Recordings too short for a segment are named on standard error.

    The same batches give the same histograms, however they are shared out among calls whose
    results are merged: how many threads share a matrix product changes how its sums round, so
    each is computed with one, whatever PyTorch is set to. To use several cores, make several
    calls, each in a process of its own, or let the layers of an LSTM share one call. Other batches
    of the same recordings, and other processors, differ by float32's rounding.

    Args:
        batches: groups of (name, recording), a recording being its samples piece by piece: (n,)
            float32 in [−1, 1] at 16 kHz. Of each recording in a batch, no more than a piece and
            a chunk of time is in memory.
        progress: called with the seconds of audio done so far, after every chunk of a batch.
        threads: that work on successive chunks at once, where the encoder allows it (``relay``).

    Raises:
        NotFiniteError: a recording or a layer's input is not finite; the message names recording
            and layer.
    """
    with relay.one_thread(), torch.inference_mode(), warnings.catch_warnings():
        # oneDNN has no LSTM with projections; PyTorch's own is what is wanted.
        warnings.filterwarnings("ignore", message="LSTM with projections")
        run = _Run(model, threads)
        seconds = 0.0
        for batch in batches:
            for more in run.observe(batch):
                seconds += more
                progress(seconds)
        return run.observed()


class _Run:
    """Observes one model: batch after batch is decoded, chunk after chunk of time."""

    def __init__(self, model: Transducer, threads: int) -> None:
        self._model, self._architecture = model, model.architecture
        self._threads = threads
        self._counting = threading.Lock()
        #: Inputs along time: how many values an output frame sees, and by how many that moves on.
        self._windows: dict[str, tuple[int, int]] = {}
        self._histograms: dict[str, dict[str, Histogram]] = {part: {} for part in PARTS}
        self._learn_layers()

    def observed(self) -> Observed:
        return {part: list(by_name.values()) for part, by_name in self._histograms.items()}

    def observe(self, batch: Iterable[tuple[str, Iterable[np.ndarray]]]) -> Iterator[float]:
        """Count one batch; yields the seconds of audio done, chunk by chunk."""
        architecture = self._architecture
        going = [
            _Recording(name, pieces, i, architecture) for i, (name, pieces) in enumerate(batch)
        ]
        search = ToolSearch(self._model, len(going))
        for chunk, out in self._encoded(going):
            encoder_out = out.unflatten(1, (-1, architecture.frames_per_segment))
            segments = [recording.segments for recording in chunk]
            rows = torch.tensor([recording.row for recording in chunk])
            joined = [
                (encoder_out[:n, k], search.step(encoder_out[:n, k], rows[:n]))
                for k, n in _going(segments)
            ]
            names = [recording.name for _, n in _going(segments) for recording in chunk[:n]]
            encoded, met = (torch.cat(tensors) for tensors in zip(*joined, strict=True))
            self._join(encoded, met, names)
            yield sum(segments) * architecture.hop * FRAME_SECONDS

    def _encoded(self, going: list[_Recording]) -> Iterator[tuple[list[_Recording], Tensor]]:
        """Chunk by chunk, the recordings that have it and what the encoder makes of it.

        The longest come first: those that go on within the chunk are then always the first ones.
        """

        def chunks() -> Iterator[list[_Recording]]:
            left = going
            while left := [recording for recording in left if recording.read_chunk() > 0]:
                left.sort(key=lambda recording: -recording.segments)
                yield left

        encoder, states = self._model.encoder, self._architecture.initial_states()
        if self._architecture.any_length and relay.is_relayed(encoder, states):
            # As they are now: they are read on while this chunk is worked on.
            now = (list(map(copy.copy, chunk)) for chunk in chunks())
            yield from relay.run(
                encoder, now, lambda x: [r.row for r in x], self._encode, self._threads
            )
        else:
            for chunk in chunks():
                yield chunk, self._encode(chunk)

    def _join(self, encoder_out: Tensor, decoder_out: Tensor, names: list[str]) -> None:
        """Count what goes into the joiner, once more and on all segments together.

        Counting segment by segment would take longer.

        Args:
            encoder_out: (S, T', encoder_dim), frames of S segments.
            decoder_out: (S, T', decoder_dim), what they meet.
            names: of each segment, its recording.
        """

        def see(layer: str, _: nn.Module, x: Tensor) -> None:
            if layer in INSIDE_JOINER:
                x = x[:, :1].expand_as(x)
            self._count("joiner", layer, x, names)

        _forward(self._model.joiner, [encoder_out, decoder_out], see)

    def _learn_layers(self) -> None:
        """Find the layers, in order of execution, by running one segment, and perhaps two."""
        architecture, sizes = self._architecture, self._architecture.sizes

        def see(part: str, layer: str, module: nn.Module) -> None:
            kind = type(module).__name__
            self._histograms[part][layer] = Histogram(kind, f"{part}.{layer}")

        def see_one(layer: str, module: nn.Module, x: Tensor) -> None:
            see("encoder", layer, module)
            self._windows[layer] = (x.size(TIME_AXIS[type(module).__name__]), 0)

        def see_two(layer: str, module: nn.Module, x: Tensor) -> None:
            window, _ = self._windows[layer]
            self._windows[layer] = (window, x.size(TIME_AXIS[type(module).__name__]) - window)

        segment = architecture.segment
        runs = [(segment, see_one)]
        if architecture.any_length:
            runs.append((segment + architecture.hop, see_two))
        for frames, hook in runs:
            features = np.zeros((frames, sizes.feature_dim), dtype=np.float32)
            recording = _Recording("", [], 0, architecture)
            encoder_out = self._run([recording], [features], hook)
        decoder_out = self._model.decoder(torch.zeros(1, sizes.context_size, dtype=torch.long))
        _forward(
            self._model.joiner,
            [encoder_out[:, 0], decoder_out[:, 0]],
            lambda layer, module, _: see("joiner", layer, module),
        )

    def _encode(self, recordings: list[_Recording]) -> Tensor:
        """Run the encoder on as many segments as the longest has; count each one's own only.

        Args:
            recordings: those that go on, with the most segments first; their states move on.

        Returns:
            (B, K·T', encoder_dim), of the others' missing frames whatever.
        """
        if self._architecture.any_length:
            return self._encode_at_once(recordings)
        segments = [recording.segments for recording in recordings]
        encoded = []
        for i, n in _going(segments):
            out = self._encode_segment(recordings[:n], i)
            encoded.append(torch.cat([out, out.new_zeros(len(recordings) - n, *out.shape[1:])]))
        return torch.cat(encoded, dim=1)

    def _encode_segment(self, recordings: list[_Recording], i: int) -> Tensor:
        """Run the encoder on the segment ``i`` of the chunk, (B, T', encoder_dim)."""
        start, length = i * self._architecture.hop, self._architecture.segment
        if self._architecture.batch_axis is None and len(recordings) > 1:
            return torch.cat([self._encode_segment([recording], i) for recording in recordings])

        def see(layer: str, _: nn.Module, x: Tensor) -> None:
            self._histograms["encoder"][layer].add(x.numpy())

        try:
            return self._run(
                recordings, [r.features[start : start + length] for r in recordings], see
            )
        except NotFiniteError as e:
            # Whose it is cannot be told from a batch, whose axis is where the layer has it.
            for recording in recordings if len(recordings) > 1 else []:
                self._encode_segment([recording], i)
            names = ", ".join(recording.name for recording in recordings)
            raise NotFiniteError(f"{names}: {e} {NOT_FINITE_ADVICE}") from None

    def _encode_at_once(self, recordings: list[_Recording]) -> Tensor:
        """The same of a network that can be cut anywhere, on all segments together."""
        architecture = self._architecture
        segments = [recording.segments for recording in recordings]
        length = architecture.segment + (segments[0] - 1) * architecture.hop
        own = torch.arange(segments[0]) < torch.tensor(segments)[:, None]  # (B, K)
        names = [recording.name for recording in recordings]
        rows = [recording.name for recording in recordings for _ in range(recording.segments)]

        def see(layer: str, module: nn.Module, x: Tensor) -> None:
            axis = TIME_AXIS[type(module).__name__]
            windows = x.unfold(axis, *self._windows[layer]).movedim(axis, 1)  # (B, K, …)
            if own.all():
                self._count("encoder", layer, windows, names)
            else:
                self._count("encoder", layer, windows[own], rows)

        features = [recording.features[:length] for recording in recordings]
        padded = [np.pad(x, ((0, length - len(x)), (0, 0))) for x in features]
        return self._run(recordings, padded, see)

    def _run(self, recordings: list[_Recording], features: list[np.ndarray], see: See) -> Tensor:
        """Run the encoder on the next features of recordings, whose states move on.

        Args:
            recordings: several only if the network has a batch axis.
            features: (T, feature_dim) of each, all of one length.

        Returns:
            (B, frames, encoder_dim)
        """
        architecture = self._architecture
        singles = [
            to_torch(architecture, architecture.encoder_inputs(x, recording.states))
            for x, recording in zip(features, recordings, strict=True)
        ]
        axes = architecture.batch_axes()
        if len(recordings) == 1:
            outputs = _forward(self._model.encoder, singles[0], see)
            parts = [outputs]
        else:
            # An input without a batch axis is one number for a recording.
            along = [axis or 0 for axis in axes]
            inputs = [
                torch.cat(x, axis)
                for x, axis in zip(zip(*singles, strict=True), along, strict=True)
            ]
            outputs = _forward(self._model.encoder, inputs, see)
            parts = [
                tuple(x.narrow(axis, i, 1) for x, axis in zip(outputs, along, strict=True))
                for i in range(len(recordings))
            ]
        for recording, part in zip(recordings, parts, strict=True):
            recording.states = architecture.carried(from_torch(architecture, part))
        out: Tensor = outputs[0]
        return out[None] if axes[0] is None else out.movedim(axes[0], 0)

    def _count(self, part: str, layer: str, x: Tensor, rows: Sequence[str]) -> None:
        """Count x (rows, …); each row is of the recording named in ``rows``."""
        try:
            with self._counting:
                self._histograms[part][layer].add(x.numpy())
        except NotFiniteError as e:
            row = int((~torch.isfinite(x)).flatten(1).any(dim=1).nonzero()[0])
            raise NotFiniteError(f"{rows[row]}: {e} {NOT_FINITE_ADVICE}") from None


class _Recording:
    """One recording of a batch: where it is, its next chunk, and its states.

    Attributes:
        row: its place in the batch.
        segments: how many the chunk has.
        features: (T, feature_dim) from the chunk's first segment on.
        states: the encoder's, before the chunk.
    """

    def __init__(
        self,
        name: str,
        pieces: Iterable[np.ndarray],
        row: int,
        architecture: Architecture[Any, Any],
    ) -> None:
        self.name, self.row = name, row
        self.segments = 0
        self.features = np.zeros((0, architecture.sizes.feature_dim), dtype=np.float32)
        self.states = architecture.initial_states()
        self._architecture = architecture
        self._pieces = iter(pieces)
        self._stream = FbankStream(architecture.sizes.feature_dim)
        self._begun = self._ended = False

    def read_chunk(self) -> int:
        """Move on to the next chunk; its number of segments, 0 at the end.

        A recording too short for one segment is named on standard error.
        """
        architecture = self._architecture
        # A copy, which lets go of the chunk before.
        self.features = self.features[self.segments * architecture.hop :].copy()
        length = architecture.segment + (CHUNK - 1) * architecture.hop
        while len(self.features) < length and not self._ended:
            piece = next(self._pieces, None)
            if piece is None:
                self._stream.finish()
                self._ended = True
            elif np.isfinite(piece).all():
                self._stream.accept(piece)
            else:
                raise NotFiniteError(f"{self.name}: holds samples that are NaN or infinity.")
            self.features = np.concatenate([self.features, self._stream.take()])
        fitting = (len(self.features) - architecture.segment) // architecture.hop + 1
        self.segments = min(max(fitting, 0), CHUNK)
        if self.segments == 0 and not self._begun:
            print(
                f"{self.name}: too short to calibrate with: {len(self.features)} frames, and the "
                f"encoder takes {architecture.segment} at a time",
                file=sys.stderr,
            )
        self._begun = True
        return self.segments


def _going(segments: list[int]) -> Iterator[tuple[int, int]]:
    """Each segment of a chunk, and how many recordings have it; the longest come first."""
    for k in range(segments[0]):
        yield k, sum(n > k for n in segments)


def _forward(network: nn.Module, inputs: Sequence[Tensor], see: See) -> Any:
    """The network's outputs; ``see`` is given name, module and input of each layer on the way."""

    me = threading.get_ident()

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def see_mine(module: nn.Module, args: tuple[Any, ...]) -> None:
            # Another thread may run the same network, with hooks of its own.
            if threading.get_ident() == me:
                see(name, module, args[0])

        return see_mine

    handles = [
        module.register_forward_pre_hook(hook(name))
        for name, module in network.named_modules()
        if type(module).__name__ in TIME_AXIS
    ]
    try:
        return network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
