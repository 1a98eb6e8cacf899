"""Input scales: against the real tool's, and against slow and plain ways to the same numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN, random_lstm

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families import model
from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.formats import param, scale_table
from transducer2ncnn.quantization import observing, pairing, sharing, statistics, thresholds
from transducer2ncnn.quantization.recipes import Table
from transducer2ncnn.quantization.statistics import Histogram, Observed
from transducer2ncnn.speech import audio
from transducer2ncnn.speech.features import fbank

INT8 = GOLDEN / "int8"
TABLES = {part: INT8 / f"{part}-scale-table.txt" for part in observing.PARTS}


def small_model() -> Transducer:
    network = random_lstm()
    network.joiner.decoder_proj.weight *= 3  # so that tokens come one after the other
    return network


def noises(seconds: list[float]) -> list[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (f"noise {i}", (rng.standard_normal(int(s * 16000)) * 0.1 * (i + 1)).astype(np.float32))
        for i, s in enumerate(seconds)
    ]


def by_name(observed: Observed, part: str) -> dict[str, Histogram]:
    file = INT8 / f"{part}.ncnn.param"
    return pairing.by_ncnn_name(param.read(file), observed[part], file)


def assert_same(a: Observed, b: Observed) -> None:
    for part in observing.PARTS:
        for x, y in zip(a[part], b[part], strict=True):
            assert (x.kind, x.layer, x.absmax, x.seen) == (y.kind, y.layer, y.absmax, y.seen)
            np.testing.assert_array_equal(x.counts, y.counts)


# The real tool


@pytest.fixture(scope="module")
def golden() -> Observed:
    network = model.load(INT8 / "pretrained.pt", "lstm")
    names = (INT8 / "wave_filenames.txt").read_text().split()
    batch = [(name, audio.read(INT8 / name)) for name in names]
    return observing.observe(network, whole([batch]))


@pytest.fixture(scope="module")
def tool_log() -> dict[str, tuple[float, float, float]]:
    """What the tool printed: max, threshold and scale by layer."""
    line = re.compile(r"(\S+) *: max = (\S+) +threshold = (\S+) +scale = (\S+)")
    found = line.findall((INT8 / "generate-int8-scale-table.log").read_text())
    return {name: tuple(map(float, numbers)) for name, *numbers in found}


@pytest.mark.parametrize("part", observing.PARTS)
def test_input_scales_are_the_tools(golden: Observed, tool_log: dict, part: str) -> None:
    table = scale_table.read(TABLES[part])
    histograms = by_name(golden, part)
    assert list(histograms) == list(table.inputs)
    for name, histogram in histograms.items():
        found = thresholds.input_scales([histogram], Table())[0]
        absmax, threshold, _ = tool_log[name]
        # linear_2 takes the decoder's output, and the tool's decoder has fp16 weights.
        assert found.absmax == pytest.approx(absmax, rel=1e-3 if name == "linear_2" else 1e-4)
        assert found.scale == pytest.approx(table.inputs[name], rel=1e-3)
        # The very same bin, so that the scale is off by no more than absmax is.
        assert found.threshold / found.absmax == pytest.approx(threshold / absmax, rel=1e-5)


def test_layers_that_do_not_pair_up(golden: Observed) -> None:
    file = INT8 / "encoder.ncnn.param"
    graph = param.read(file)
    assert pairing.layer_names(graph)[:4] == ["conv_5", "conv_6", "conv_7", "linear_8"]
    with pytest.raises(UserError, match=r"number 1 is Convolution conv_5 in ncnn and Linear"):
        pairing.by_ncnn_name(graph, golden["encoder"][3:], file)
    with pytest.raises(UserError, match=r"number 8 is InnerProduct linear_12 .* nothing in Py"):
        pairing.by_ncnn_name(graph, golden["encoder"][:-1], file)
    with pytest.raises(UserError, match=r"number 9 is nothing in ncnn and Linear joiner\.enc"):
        pairing.by_ncnn_name(graph, golden["encoder"] + golden["joiner"], file)


# One pass, in batches, chunks and shards


def whole(batches: list[list[tuple[str, np.ndarray]]]) -> list[list[tuple[str, list[np.ndarray]]]]:
    """Recordings in one piece each."""
    return [[(name, [samples]) for name, samples in batch] for batch in batches]


def observe(batches: list[list[tuple[str, np.ndarray]]]) -> Observed:
    return observing.observe(small_model(), whole(batches))


def segment_by_segment(samples: np.ndarray) -> dict[str, torch.Tensor]:
    """All that the tool would see of the encoder's and the joiner's inputs, by layer."""
    network = small_model()
    states = network.architecture.initial_states()
    seen: dict[str, list[torch.Tensor]] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_pre_hook(
                lambda _, args, name=name: seen.setdefault(name, []).append(args[0].flatten())
            )
    features = fbank(samples)
    h, c = (torch.from_numpy(state)[:, None] for state in states)
    tokens, processed = [0, 0], 0
    while len(features) - processed >= 9:
        x = torch.from_numpy(features[None, processed : processed + 9])
        encoder_out, _, h, c = network.encoder(x, torch.tensor([9.0]), h, c)
        decoder_out = network.decoder(torch.tensor([tokens[-2:]]))
        token = int(network.joiner(encoder_out[0], decoder_out[0]).argmax())
        tokens += [token] if token != 0 else []
        processed += 4
    return {name: torch.cat(values) for name, values in seen.items()}


def test_what_is_counted_is_what_segments_see() -> None:
    """Several recordings of several chunks each, against one segment of one at a time."""
    recordings = noises([4.03, 0.1, 3.02, 1.0])
    observed = observe([recordings])
    expected = [segment_by_segment(samples) for _, samples in recordings]
    sizes = small_model().architecture.sizes
    assert expected[0]["joiner.encoder_proj"].numel() > 2 * observing.CHUNK * sizes.encoder_dim
    decoder_outs = expected[0]["joiner.decoder_proj"].reshape(-1, sizes.decoder_dim)
    assert len(decoder_outs.unique(dim=0)) > 3  # tokens are emitted on the way
    for part in observing.PARTS:
        for histogram in observed[part]:
            values = torch.cat([seen[histogram.layer] for seen in expected])
            plain = Histogram(histogram.kind, histogram.layer)
            plain.add(values.numpy())
            assert histogram.seen == plain.seen
            assert histogram.absmax == pytest.approx(plain.absmax, rel=1e-5)
            # Rounding moves a value to the next fine bin now and then, and not further.
            moved = np.abs(np.cumsum(histogram.counts) - np.cumsum(plain.counts)).max()
            assert moved <= 5 + 1e-4 * plain.seen
            assert abs(int(histogram.counts.sum() - plain.counts.sum())) <= 1


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_of_time_do_not_matter(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    batch = noises([2.0, 1.5])
    expected = observe([batch])
    monkeypatch.setattr(observing, "CHUNK", chunk)
    observed = observe([batch])
    for part in observing.PARTS:
        for histogram, plain in zip(observed[part], expected[part], strict=True):
            assert histogram.seen == plain.seen
            assert histogram.absmax == pytest.approx(plain.absmax, rel=1e-5)
            moved = np.abs(np.cumsum(histogram.counts) - np.cumsum(plain.counts)).max()
            assert moved <= 5 + 1e-4 * plain.seen


def test_shards_add_up_to_the_same(tmp_path: Path) -> None:
    recordings = dict(noises([1.5, 0.7, 2.0, 0.4, 1.1, 0.9]))
    durations = {name: len(samples) / 16000 for name, samples in recordings.items()}
    batches = [
        [(n, recordings[n]) for n in group] for group in sharing.groups(durations, any_length=False)
    ]
    assert len(batches) == 2
    together = observe(batches)
    for i, batch in enumerate(batches):
        statistics.save(tmp_path / f"{i}.npz", observe([batch]))
    statistics.save(tmp_path / "none.npz", observe([]))
    for names in (["0", "1"], ["1", "none", "0"]):
        merged = statistics.load(tmp_path / f"{name}.npz" for name in names)
        assert_same(merged, together)
    tables = []
    for i, observed in enumerate((together, merged)):
        found = {
            h.layer: thresholds.input_scales([h], Table())[0].scale for h in observed["encoder"]
        }
        scale_table.write(tmp_path / f"{i}.txt", scale_table.ScaleTable({}, found))
        tables.append((tmp_path / f"{i}.txt").read_bytes())
    assert tables[0] == tables[1]


def test_the_number_of_threads_does_not_matter() -> None:
    batch = noises([0.5, 0.6, 0.7, 0.8, 0.9])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = observe([batch])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert_same(observe([batch]), two)


@pytest.mark.parametrize("threads", [2, 3])
def test_chunks_that_are_worked_on_at_once_are_counted_as_one_after_the_other(
    threads: int,
) -> None:
    """Of a long recording by itself, and of several that end at different times."""
    for seconds in ([9.3], [4.0, 1.0, 6.1, 2.7]):
        batch = noises(seconds)
        together = observing.observe(small_model(), whole([batch]), threads=threads)
        assert_same(together, observe([batch]))


@pytest.mark.parametrize(
    ("count", "any_length", "sizes"),
    [
        (0, True, []),
        (1, True, [1]),
        (5, True, [5]),
        (5, False, [3, 2]),
        (16, True, [16]),
        (17, True, [9, 8]),
        (40, True, [16, 16, 8]),
        (40, False, [16, 16, 8]),
        (80, True, [20] * 4),
        (140, True, [32] * 4 + [12]),
    ],
)
def test_groups(count: int, any_length: bool, sizes: list[int]) -> None:
    durations = {f"{i:03}": 1.0 + i % 7 for i in range(count)}
    batches = sharing.groups(durations, any_length)
    assert sharing.number_of_batches(count, any_length) == len(sizes)
    assert [len(batch) for batch in batches] == sizes
    flat = [name for batch in batches for name in batch]
    assert sorted(flat) == sorted(durations)
    assert [durations[name] for name in flat] == sorted(durations.values(), reverse=True)
    assert sharing.groups(dict(reversed(durations.items())), any_length) == batches


def test_pieces_of_a_recording_do_not_matter() -> None:
    batch = noises([3.0, 1.0, 2.2])
    cut = [(name, np.array_split(samples, 1 + 5 * i)) for i, (name, samples) in enumerate(batch)]
    assert_same(observing.observe(small_model(), [cut]), observe([batch]))


def test_progress_and_recordings_too_short(capsys: pytest.CaptureFixture) -> None:
    reports: list[float] = []
    batch = [*noises([2.05, 1.0]), ("blip", np.zeros(1300, dtype=np.float32))]
    observing.observe(small_model(), whole([batch]), reports.append)
    assert reports == sorted(reports)
    assert len(reports) == 2
    assert reports[-1] == pytest.approx(3.05, abs=0.2)
    assert "blip: too short to calibrate with: 8 frames, and the encoder takes 9" in (
        capsys.readouterr().err
    )
    assert observe([batch[2:]])["encoder"][0].seen == 0


# Errors


def test_no_audio() -> None:
    with pytest.raises(UserError, match=r"nothing went into encoder\.encoder_embed\.conv\.0: "):
        thresholds.input_scales([observe([])["encoder"][0]], Table())[0]


def test_an_input_that_is_always_zero() -> None:
    network = small_model()
    network.decoder.embedding.weight.zero_()
    observed = observing.observe(network, whole([noises([0.5])]))
    with pytest.raises(UserError, match=r"joiner\.decoder_proj is always zero"):
        thresholds.input_scales([observed["joiner"][1]], Table())[0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_activations_that_are_not_finite(value: float) -> None:
    broken = noises([1.0, 2.0, 1.5])
    broken[1][1][20000] = value
    with pytest.raises(UserError, match=r"^noise 1: holds samples that are NaN or infinity"):
        observe([broken])
    network = small_model()
    network.encoder.encoder.layers[-1].feed_forward[4].bias[0] = value
    with pytest.raises(UserError, match=r"^noise 0: the input of joiner\.encoder_proj holds NaN"):
        observing.observe(network, whole([noises([0.5])]))
