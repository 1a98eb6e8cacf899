"""Input scales for int8: what goes into every layer to be quantized, observed in PyTorch.

Observed are the inputs of the encoder's and the joiner's convolutions and linear layers while
recordings are decoded by greedy search; the decoder is not quantized. An input's scale maps the
magnitudes up to a threshold to int8, and clips those beyond. The threshold is the one that loses
least, as a Kullback-Leibler divergence between the histogram of magnitudes before and after.

Observing takes one pass over the audio, in memory that does not grow with it. The largest
magnitude, which the histogram's bins divide, is known only at the end: so a finer histogram is
kept, whose range is a power of two and doubles when a larger value comes, which merges its bins in
pairs and moves no value to a wrong one.

What is counted is what sherpa-ncnn's generate-int8-scale-table sees, which runs the encoder
on one segment at a time: a value inside the convolutions counts once for every segment that sees
it, and what follows the last full segment is not seen at all. Here the encoder runs on many
segments of many recordings at once, since none of its values depends on how they are cut.

Shapes: B recordings in a batch, K output frames in a chunk of time.
"""

from __future__ import annotations

import itertools
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transducer2ncnn.base import reading
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import replacing, write_text
from transducer2ncnn.base.shards import share_out
from transducer2ncnn.engines.pytorch import from_torch, to_torch
from transducer2ncnn.families import Family
from transducer2ncnn.formats import npz
from transducer2ncnn.formats.param import Param
from transducer2ncnn.formats.scale_table import INT8_MAX
from transducer2ncnn.formats.sherpa import BLANK, NEVER_EMITTED
from transducer2ncnn.speech.features import FbankStream

#: ncnn's layers whose inputs are quantized with a fixed scale, by PyTorch's name for them.
QUANTIZED = {"Conv2d": ("Convolution", "ConvolutionDepthWise"), "Linear": ("InnerProduct",)}
#: The axis that time runs along in their inputs, batch first.
TIME_AXIS = {"Conv2d": 2, "Linear": 1}

#: The networks of a transducer that are quantized.
PARTS = ("encoder", "joiner")

#: Recordings that are run at once, at most.
BATCH = 32
#: Output frames that the encoder computes at a time.
CHUNK = 32

#: Bins of the fine histogram, a power of two, and those that the threshold is searched among.
FINE_BINS = 2**18
COARSE_BINS = 2048
#: The smallest range of the fine histogram, for which float32 still has a factor to its bins.
MIN_EXPONENT = -100
#: Groups of bins that stand for int8's magnitudes in the search.
LEVELS = 128
#: Added to every bin, so that an empty one has a finite divergence.
EPSILON = 1e-4

#: Seconds from a frame of features to the next.
FRAME_SECONDS = 0.01

NOT_FINITE_ADVICE = (
    "Check that the checkpoint's weights are finite: int8 cannot be calibrated on such values."
)


class NotFiniteError(UserError):
    """A recording or a layer's input holds NaN or infinity."""


class Histogram:
    """Magnitudes of one layer's input: bins of equal width over [0, 2**exponent), and the largest.

    The range is the smallest power of two above the largest magnitude, so histograms of the same
    values are the same, in whatever order and in however many parts the values came.

    Attributes:
        kind: the layer's type in PyTorch.
        layer: its name there, with the part's.
        absmax: the largest magnitude; a float32 value.
        seen: number of values, zeros included.
        counts: (FINE_BINS,) int64; zeros are not counted.
    """

    def __init__(self, kind: str, layer: str) -> None:
        self.kind, self.layer = kind, layer
        self.absmax = 0.0
        self.seen = 0
        self.counts = np.zeros(FINE_BINS, dtype=np.int64)

    @property
    def exponent(self) -> int:
        # frexp(0) is 0, which would be a range too large to begin with.
        return max(math.frexp(self.absmax)[1], MIN_EXPONENT) if self.absmax else MIN_EXPONENT

    def add(self, values: Tensor) -> None:
        """Count values of any shape.

        Raises:
            NotFiniteError: naming the layer. Nothing is counted then.
        """
        if values.numel() == 0:
            return
        magnitudes = values.abs().reshape(-1)
        absmax = magnitudes.max().item()
        if not math.isfinite(absmax):
            raise NotFiniteError(f"the input of {self.layer} holds NaN or infinity.")
        self._include(absmax)
        self.seen += magnitudes.numel()
        zeros = magnitudes.numel() - int(torch.count_nonzero(magnitudes))
        # Times a power of two, and cut to an integer: both exact.
        bins = magnitudes.mul_(FINE_BINS * 2.0**-self.exponent).to(torch.int32)
        counts = torch.bincount(bins).numpy()
        self.counts[: len(counts)] += counts
        self.counts[0] -= zeros

    def merge(self, other: Histogram) -> None:
        """Add what another histogram of the same layer counted.

        Raises:
            UserError: it is another layer's.
        """
        if (self.kind, self.layer) != (other.kind, other.layer):
            raise UserError(
                f"counts of {other.kind} {other.layer} cannot be added to those of {self.kind} "
                f"{self.layer}: they are of different models."
            )
        self._include(other.absmax)
        counts = _merge_bins(other.counts, self.exponent - other.exponent)
        self.counts[: len(counts)] += counts
        self.seen += other.seen

    def coarse(self) -> np.ndarray:
        """(COARSE_BINS,) float64 counts in bins of equal width over [0, absmax].

        A fine bin that an edge runs through is shared out as if its values were spread evenly.
        """
        width = 2.0**self.exponent / FINE_BINS
        edges = np.linspace(0, self.absmax, COARSE_BINS + 1) / width
        edges[-1] = FINE_BINS  # nothing lies beyond absmax, though its fine bin does
        up_to = np.concatenate([[0], np.cumsum(self.counts)])
        return np.diff(np.interp(edges, np.arange(FINE_BINS + 1), up_to))

    def _include(self, absmax: float) -> None:
        """Widen the range to hold magnitudes up to ``absmax``."""
        before = self.exponent
        self.absmax = max(self.absmax, absmax)
        counts = _merge_bins(self.counts, self.exponent - before)
        if len(counts) < FINE_BINS:
            self.counts = np.pad(counts, (0, FINE_BINS - len(counts)))


def _merge_bins(counts: np.ndarray, doublings: int) -> np.ndarray:
    """Counts in bins 2**doublings as wide; at least one bin is left."""
    if doublings == 0:
        return counts
    return counts.reshape(-1, 1 << min(doublings, FINE_BINS.bit_length() - 1)).sum(axis=1)


#: Histograms of each part's layers, in order of execution.
Observed = dict[str, list[Histogram]]


def save(path: str | Path, observed: Observed) -> None:
    arrays = {}
    for part, histograms in observed.items():
        for i, h in enumerate(histograms):
            key = f"{part}/{i}/{h.kind}/{h.layer}"
            arrays[f"{key}/counts"] = h.counts
            arrays[f"{key}/absmax"] = np.float32(h.absmax)
            arrays[f"{key}/seen"] = np.int64(h.seen)
    with replacing(path) as partial, open(partial, "wb") as f:
        np.savez(f, **arrays)


def load(paths: Iterable[str | Path]) -> Observed:
    """What was saved to several files, added up.

    Raises:
        UserError: a file is missing or damaged, or the files are not of the same model.
    """
    total: Observed = {}
    for path in paths:
        observed = _load(path)
        if not total:
            total = observed
            continue
        try:
            merge(total, observed)
        except UserError as e:
            raise UserError(f"{path}: {e}") from None
    return total


def _load(path: str | Path) -> Observed:
    observed: Observed = {}
    with npz.opened(path, "saved histograms") as arrays:
        for key in arrays:
            if key.endswith("/counts"):
                prefix = key.removesuffix("/counts")
                try:
                    part, _, kind, layer = prefix.split("/")
                    histogram = Histogram(kind, layer)
                    histogram.counts = arrays[key]
                    histogram.absmax = float(arrays[f"{prefix}/absmax"])
                    histogram.seen = int(arrays[f"{prefix}/seen"])
                    _check_counts(histogram)
                except (ValueError, TypeError, OverflowError) as e:
                    raise UserError(f"{path}: cannot be read as saved histograms ({e}).") from None
                observed.setdefault(part, []).append(histogram)
    return observed


def _check_counts(histogram: Histogram) -> None:
    """ValueError unless the counts are some that ``Histogram`` can come to."""
    counts, seen = histogram.counts, histogram.seen
    if counts.shape != (FINE_BINS,) or counts.dtype != np.int64 or counts.min() < 0:
        raise ValueError(f"the counts of {histogram.layer} are no counts in {FINE_BINS} bins")
    if not 0 <= histogram.absmax < math.inf or not counts.max() <= seen >= counts.sum() >= 0:
        raise ValueError(f"the counts of {histogram.layer} are not of what was seen")


def merge(total: Observed, other: Observed) -> None:
    """Add the histograms of one run to those of another.

    Raises:
        UserError: they are of different models.
    """
    if {k: len(v) for k, v in total.items()} != {k: len(v) for k, v in other.items()}:
        raise UserError("these histograms are of a model with other layers than those before.")
    for part, histograms in total.items():
        for histogram, more in zip(histograms, other[part], strict=True):
            histogram.merge(more)


def groups(durations: Mapping[str, float]) -> list[list[str]]:
    """Batches of recordings, which every run that is to count the same must use.

    A layer's sums round differently with the number of recordings in a batch. So batches are
    formed of all the recordings there are, and a shard of the work is a number of whole batches.

    Args:
        durations: seconds of each recording, by name.

    Returns:
        Names, batch by batch, the longest first, so that a batch's are of about the same length.
    """
    # An LSTM's step costs much the same for one recording as for many, so batches are large. But
    # there should be one for each core: two at least, and four where they can be of sixteen each.
    quarter, half = math.ceil(len(durations) / 4), math.ceil(len(durations) / 2)
    size = max(1, min(BATCH, max(quarter, min(half, 16))))
    names = sorted(durations, key=lambda name: (-durations[name], name))
    return [names[i : i + size] for i in range(0, len(names), size)]


def share(durations: Mapping[str, float], shard: int, shards: int) -> list[list[str]]:
    """One shard's batches of recordings, the longest first; all shards last about as long.

    Args:
        durations: seconds of each recording there is, by name.
        shard: from 1 on.
    """
    batches = groups(durations)
    seconds = {i: sum(durations[name] for name in batch) for i, batch in enumerate(batches)}
    return [batches[i] for i in share_out(seconds, shards)[shard - 1]]


def write_recordings(
    path: str | Path, durations: Mapping[str, float], hashes: Mapping[str, str]
) -> None:
    """A table of recordings: seconds, hash and path of each."""
    lines = (f"{seconds!r}\t{hashes[wav]}\t{wav}\n" for wav, seconds in durations.items())
    write_text(path, "".join(lines))


def read_recordings(path: str | Path) -> dict[str, float]:
    """Seconds of each recording of such a table, by path.

    Raises:
        UserError: the file is missing, or a line is none of such a table; naming it.
    """
    found: dict[str, float] = {}
    lines = reading.read_text(path, "a table of recordings").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            seconds, _, wav = line.split("\t", 2)
            found[wav] = float(seconds)
            if not 0 < found[wav] < math.inf:
                raise ValueError
        except ValueError:
            raise UserError(
                f"{path}, line {number}: expected seconds, hash and path, found {line[:80]!r}. "
                f"{reading.REMAKE}"
            ) from None
    return found


def observe(
    model: nn.Module,
    family: Family,
    sizes: Any,
    batches: Iterable[Iterable[tuple[str, Iterable[np.ndarray]]]],
    progress: Callable[[float], None] = lambda seconds: None,
) -> Observed:
    """Histograms of what goes into every layer to be quantized, over all recordings.

    Recordings too short for a segment are named on standard error.

    The same batches give the same histograms, however they are shared out among calls whose
    results are merged: how many threads share a matrix product changes how its sums round, so a
    call computes with one thread, whatever PyTorch is set to. To use several cores, make several
    calls, each in a process of its own. Other batches of the same recordings, and other
    processors, differ by float32's rounding.

    Args:
        batches: groups of (name, recording), a recording being its samples piece by piece: (n,)
            float32 in [−1, 1] at 16 kHz. Of each recording in a batch, no more than a piece and
            a chunk of time is in memory.
        progress: called with the seconds of audio done so far, after every chunk of a batch.

    Raises:
        NotFiniteError: a recording or a layer's input is not finite; the message names recording
            and layer.
    """
    with _one_thread(), torch.inference_mode(), warnings.catch_warnings():
        # oneDNN has no LSTM with projections; PyTorch's own is what is wanted.
        warnings.filterwarnings("ignore", message="LSTM with projections")
        run = _Run(model, family, sizes)
        seconds = 0.0
        for batch in batches:
            for more in run.observe(batch):
                seconds += more
                progress(seconds)
        return run.observed()


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Run:
    """Observes one model: batch after batch is decoded, chunk after chunk of time."""

    def __init__(self, model: nn.Module, family: Family, sizes: Any) -> None:
        self._model, self._family, self._sizes = model, family, sizes
        #: Inputs along time: how many values an output frame sees, and by how many that moves on.
        self._windows: dict[str, tuple[int, int]] = {}
        self._histograms: dict[str, dict[str, Histogram]] = {part: {} for part in PARTS}
        self._learn_layers()

    def observed(self) -> Observed:
        return {part: list(by_name.values()) for part, by_name in self._histograms.items()}

    def observe(self, batch: Iterable[tuple[str, Iterable[np.ndarray]]]) -> Iterator[float]:
        """Count one batch; yields the seconds of audio done, chunk by chunk."""
        family, sizes = self._family, self._sizes
        going = [
            _Recording(name, pieces, i, family, sizes) for i, (name, pieces) in enumerate(batch)
        ]
        search = _Search(self._model, len(going), sizes.context_size)
        while going := [recording for recording in going if recording.read_chunk() > 0]:
            # The longest first: those that go on within the chunk are then always the first ones.
            going.sort(key=lambda recording: -recording.segments)
            left = [recording.segments for recording in going]
            encoder_out = self._encode(going)
            rows = torch.tensor([recording.row for recording in going])
            joined = [
                (encoder_out[:n, t], search.step(encoder_out[:n, t], rows[:n]))
                for t, n in _going(left)
            ]
            # Once more, on all frames together: counting frame by frame would take longer.
            names = [recording.name for _, n in _going(left) for recording in going[:n]]
            inputs = [torch.cat(tensors) for tensors in zip(*joined, strict=True)]
            _forward(
                self._model.joiner,
                inputs,
                lambda layer, _, x, names=names: self._count("joiner", layer, x, names),
            )
            yield sum(left) * family.HOP * FRAME_SECONDS

    def _learn_layers(self) -> None:
        """Find the layers, in order of execution, by running one segment, then two."""
        family, sizes = self._family, self._sizes

        def see(part: str, layer: str, module: nn.Module) -> None:
            kind = type(module).__name__
            self._histograms[part][layer] = Histogram(kind, f"{part}.{layer}")

        def see_one(layer: str, module: nn.Module, x: Tensor) -> None:
            see("encoder", layer, module)
            self._windows[layer] = (x.size(TIME_AXIS[type(module).__name__]), 0)

        def see_two(layer: str, module: nn.Module, x: Tensor) -> None:
            window, _ = self._windows[layer]
            self._windows[layer] = (window, x.size(TIME_AXIS[type(module).__name__]) - window)

        states = family.initial_states(sizes)
        for frames, hook in ((family.SEGMENT, see_one), (family.SEGMENT + family.HOP, see_two)):
            features = np.zeros((frames, sizes.feature_dim), dtype=np.float32)
            inputs = to_torch(family, family.encoder_inputs(features, states))
            encoder_out, *_ = _forward(self._model.encoder, inputs, hook)
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
            (B, K, encoder_dim)
        """
        family = self._family
        segments = [recording.segments for recording in recordings]
        length = family.SEGMENT + (segments[0] - 1) * family.HOP
        singles = []
        for recording in recordings:
            features = recording.features[:length]
            features = np.pad(features, ((0, length - len(features)), (0, 0)))
            singles.append(to_torch(family, family.encoder_inputs(features, recording.states)))
        # An input without a batch axis is one number for a recording.
        axes = [axis or 0 for axis in family.BATCH_AXES]
        inputs = [
            torch.cat(x, axis) for x, axis in zip(zip(*singles, strict=True), axes, strict=True)
        ]

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

        outputs = _forward(self._model.encoder, inputs, see)
        for i, recording in enumerate(recordings):
            single = (x.narrow(axis, i, 1) for x, axis in zip(outputs, axes, strict=True))
            recording.states = from_torch(family, tuple(single))[family.FIRST_STATE :]
        return outputs[0]

    def _count(self, part: str, layer: str, x: Tensor, rows: Sequence[str]) -> None:
        """Count x (rows, …); each row is of the recording named in ``rows``."""
        try:
            self._histograms[part][layer].add(x)
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
        self, name: str, pieces: Iterable[np.ndarray], row: int, family: Family, sizes: Any
    ) -> None:
        self.name, self.row = name, row
        self.segments = 0
        self.features = np.zeros((0, sizes.feature_dim), dtype=np.float32)
        self.states = family.initial_states(sizes)
        self._family = family
        self._pieces = iter(pieces)
        self._stream = FbankStream(sizes.feature_dim)
        self._begun = self._ended = False

    def read_chunk(self) -> int:
        """Move on to the next chunk; its number of segments, 0 at the end.

        A recording too short for one segment is named on standard error.
        """
        family = self._family
        # A copy, which lets go of the chunk before.
        self.features = self.features[self.segments * family.HOP :].copy()
        while len(self.features) < family.SEGMENT + (CHUNK - 1) * family.HOP and not self._ended:
            piece = next(self._pieces, None)
            if piece is None:
                self._stream.finish()
                self._ended = True
            elif np.isfinite(piece).all():
                self._stream.accept(piece)
            else:
                raise NotFiniteError(f"{self.name}: holds samples that are NaN or infinity.")
            self.features = np.concatenate([self.features, self._stream.take()])
        fitting = (len(self.features) - family.SEGMENT) // family.HOP + 1
        self.segments = min(max(fitting, 0), CHUNK)
        if self.segments == 0 and not self._begun:
            print(
                f"{self.name}: too short to calibrate with: {len(self.features)} frames, and the "
                f"encoder takes {family.SEGMENT} at a time",
                file=sys.stderr,
            )
        self._begun = True
        return self.segments


class _Search:
    """Greedy search in several recordings at once, frame by frame."""

    def __init__(self, model: nn.Module, recordings: int, context_size: int) -> None:
        self._model = model
        self._contexts = torch.full((recordings, context_size), BLANK)
        self._decoder_out = model.decoder(self._contexts)[:, 0]
        self._never = torch.tensor(NEVER_EMITTED)

    def step(self, encoder_out: Tensor, rows: Tensor) -> Tensor:
        """The decoder's outputs that the joiner meets a frame with, (n, decoder_dim).

        Args:
            encoder_out: (n, encoder_dim), a frame of each of n recordings.
            rows: (n,) which recordings these are.
        """
        met = self._decoder_out[rows]
        tokens = self._model.joiner(encoder_out, met).argmax(dim=1)
        emitting = (~torch.isin(tokens, self._never)).nonzero()[:, 0]
        if len(emitting):
            new = tokens[emitting, None]
            of = rows[emitting]
            self._contexts[of] = torch.cat([self._contexts[of, 1:], new], dim=1)
            self._decoder_out[of] = self._model.decoder(self._contexts[of])[:, 0]
        return met


def _going(segments: list[int]) -> Iterator[tuple[int, int]]:
    """Each frame of a chunk, and how many recordings have it; the longest come first."""
    for t in range(segments[0]):
        yield t, sum(n > t for n in segments)


def _forward(
    network: nn.Module,
    inputs: Sequence[Tensor],
    see: Callable[[str, nn.Module, Tensor], None],
) -> Any:
    """The network's outputs; ``see`` is given name, module and input of each layer on the way."""

    def hook(name: str):
        return lambda module, args: see(name, module, args[0])

    handles = [
        module.register_forward_pre_hook(hook(name))
        for name, module in network.named_modules()
        if type(module).__name__ in QUANTIZED
    ]
    try:
        return network(*inputs)
    finally:
        for handle in handles:
            handle.remove()


def layer_names(param: Param) -> list[str]:
    """Names of the layers that are quantized with a fixed input scale, in ncnn's order."""
    types = {type_ for names in QUANTIZED.values() for type_ in names}
    return [layer.name for layer in param.layers if layer.type in types]


def by_ncnn_name(
    param: Param, histograms: Sequence[Histogram], file: str | Path
) -> dict[str, Histogram]:
    """Histograms by the names of ncnn's layers, which occur in the same order.

    Args:
        file: what the param was read from, for the message.

    Raises:
        UserError: the layers do not pair up.
    """
    types = {layer.name: layer.type for layer in param.layers}
    names = layer_names(param)
    for i, (name, h) in enumerate(itertools.zip_longest(names, histograms), start=1):
        if name is None or h is None or types[name] not in QUANTIZED[h.kind]:
            ncnn = "nothing" if name is None else f"{types[name]} {name}"
            torch_ = "nothing" if h is None else f"{h.kind} {h.layer}"
            raise UserError(
                f"{file}: the layers to quantize are not those that were observed: number {i} is "
                f"{ncnn} in ncnn and {torch_} in PyTorch. Are both of the same model?"
            )
    return dict(zip(names, histograms, strict=True))


@dataclass(frozen=True)
class Found:
    """An input's largest magnitude, the magnitude that int8's largest value stands for, and the
    scale that maps it there."""

    absmax: float
    threshold: float
    scale: float


def input_scale(histogram: Histogram) -> Found:
    """The scale of one layer's input.

    Raises:
        UserError: nothing was observed, or nothing but zeros.
    """
    if histogram.seen == 0:
        raise UserError(
            f"nothing went into {histogram.layer}: there was no audio to calibrate with. Name "
            "recordings that are long enough to be decoded."
        )
    if histogram.absmax == 0:
        raise UserError(
            f"the input of {histogram.layer} is always zero, so it has no scale. Calibrate with "
            "recordings of speech, and check that the checkpoint is a trained model."
        )
    bins = search_threshold(histogram.coarse())
    threshold = (bins + 0.5) * histogram.absmax / COARSE_BINS
    return Found(histogram.absmax, threshold, INT8_MAX / threshold)


def search_threshold(counts: np.ndarray) -> int:
    """The number of bins, from LEVELS on, below which int8's range loses least.

    For each number t of bins, what comes of the distribution by clipping it to t bins is compared
    with what int8 would make of these: LEVELS groups of equal width, each flattened. Bins at the
    edge of a group are shared out in proportion. The first t with the smallest Kullback-Leibler
    divergence wins.

    Args:
        counts: (COARSE_BINS,) counts of magnitudes, not all zero.
    """
    normed = counts / counts.sum()
    up_to = np.concatenate([[0], np.cumsum(normed)])
    bins = np.arange(len(counts) + 1)
    best, smallest = LEVELS, math.inf
    for t in range(LEVELS, len(counts)):
        clipped = normed[:t] + EPSILON
        clipped[-1] += 1 - up_to[t]
        # Mass below each group's edge; going back along straight lines between the edges is what
        # flattens the groups.
        edges = np.arange(LEVELS + 1) * (t / LEVELS)
        flattened = np.diff(np.interp(bins[: t + 1], edges, np.interp(edges, bins, up_to)))
        divergence = np.sum(clipped * np.log(clipped / (flattened + EPSILON)))
        if divergence < smallest:
            best, smallest = t, divergence
    return best
