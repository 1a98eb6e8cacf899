"""Input scales: against the real tool's, and against slow and plain ways to the same numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN, LSTM

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families import model
from transducer2ncnn.families.lstm.graph import LstmTransducer
from transducer2ncnn.formats import param, scale_table
from transducer2ncnn.quantization import calibration
from transducer2ncnn.quantization.calibration import (
    COARSE_BINS,
    FINE_BINS,
    LEVELS,
    Histogram,
    Observed,
)
from transducer2ncnn.speech import audio
from transducer2ncnn.speech.features import fbank

INT8 = GOLDEN / "int8"
TABLES = {part: INT8 / f"{part}-scale-table.txt" for part in calibration.PARTS}
SMALL = LSTM.Sizes(80, 2, 12, 16, 20, 8, 10, 15, 2)


def small_model() -> LstmTransducer:
    torch.manual_seed(0)
    network = LstmTransducer(SMALL).eval().requires_grad_(False)
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
    return calibration.by_ncnn_name(param.read(file), observed[part], file)


def assert_same(a: Observed, b: Observed) -> None:
    for part in calibration.PARTS:
        for x, y in zip(a[part], b[part], strict=True):
            assert (x.kind, x.layer, x.absmax, x.seen) == (y.kind, y.layer, y.absmax, y.seen)
            np.testing.assert_array_equal(x.counts, y.counts)


# The real tool


@pytest.fixture(scope="module")
def golden() -> Observed:
    network, sizes = model.load(INT8 / "pretrained.pt", "lstm")
    names = (INT8 / "wave_filenames.txt").read_text().split()
    batch = [(name, audio.read(INT8 / name)) for name in names]
    return calibration.observe(network, LSTM, sizes, whole([batch]))


@pytest.fixture(scope="module")
def tool_log() -> dict[str, tuple[float, float, float]]:
    """What the tool printed: max, threshold and scale by layer."""
    line = re.compile(r"(\S+) *: max = (\S+) +threshold = (\S+) +scale = (\S+)")
    found = line.findall((INT8 / "generate-int8-scale-table.log").read_text())
    return {name: tuple(map(float, numbers)) for name, *numbers in found}


@pytest.mark.parametrize("part", calibration.PARTS)
def test_input_scales_are_the_tools(golden: Observed, tool_log: dict, part: str) -> None:
    table = scale_table.read(TABLES[part])
    histograms = by_name(golden, part)
    assert list(histograms) == list(table.inputs)
    for name, histogram in histograms.items():
        found = calibration.input_scale(histogram)
        absmax, threshold, _ = tool_log[name]
        # linear_2 takes the decoder's output, and the tool's decoder has fp16 weights.
        assert found.absmax == pytest.approx(absmax, rel=1e-3 if name == "linear_2" else 1e-4)
        assert found.scale == pytest.approx(table.inputs[name], rel=1e-3)
        # The very same bin, so that the scale is off by no more than absmax is.
        assert found.threshold / found.absmax == pytest.approx(threshold / absmax, rel=1e-5)


def test_layers_that_do_not_pair_up(golden: Observed) -> None:
    file = INT8 / "encoder.ncnn.param"
    graph = param.read(file)
    assert calibration.layer_names(graph)[:4] == ["conv_5", "conv_6", "conv_7", "linear_8"]
    with pytest.raises(UserError, match=r"number 1 is Convolution conv_5 in ncnn and Linear"):
        calibration.by_ncnn_name(graph, golden["encoder"][3:], file)
    with pytest.raises(UserError, match=r"number 8 is InnerProduct linear_12 .* nothing in Py"):
        calibration.by_ncnn_name(graph, golden["encoder"][:-1], file)
    with pytest.raises(UserError, match=r"number 9 is nothing in ncnn and Linear joiner\.enc"):
        calibration.by_ncnn_name(graph, golden["encoder"] + golden["joiner"], file)


# One pass, in batches, chunks and shards


def whole(batches: list[list[tuple[str, np.ndarray]]]) -> list[list[tuple[str, list[np.ndarray]]]]:
    """Recordings in one piece each."""
    return [[(name, [samples]) for name, samples in batch] for batch in batches]


def observe(batches: list[list[tuple[str, np.ndarray]]]) -> Observed:
    return calibration.observe(small_model(), LSTM, SMALL, whole(batches))


def segment_by_segment(samples: np.ndarray) -> dict[str, torch.Tensor]:
    """All that the tool would see of the encoder's and the joiner's inputs, by layer."""
    network = small_model()
    seen: dict[str, list[torch.Tensor]] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_pre_hook(
                lambda _, args, name=name: seen.setdefault(name, []).append(args[0].flatten())
            )
    features = fbank(samples)
    h = torch.zeros(SMALL.num_encoder_layers, 1, SMALL.encoder_dim)
    c = torch.zeros(SMALL.num_encoder_layers, 1, SMALL.rnn_hidden_size)
    tokens, processed = [0, 0], 0
    while len(features) - processed >= 9:
        x = torch.from_numpy(features[None, processed : processed + 9])
        encoder_out, _, h, c = network.encoder(x, torch.tensor([9.0]), h, c)
        decoder_out = network.decoder(torch.tensor([tokens[-2:]]))
        token = int(network.joiner(encoder_out[0], decoder_out[0]).argmax())
        tokens += [token] if token not in (0, 2) else []
        processed += 4
    return {name: torch.cat(values) for name, values in seen.items()}


def test_what_is_counted_is_what_segments_see() -> None:
    """Several recordings of several chunks each, against one segment of one at a time."""
    recordings = noises([4.03, 0.1, 3.02, 1.0])
    observed = observe([recordings])
    expected = [segment_by_segment(samples) for _, samples in recordings]
    assert expected[0]["joiner.encoder_proj"].numel() > 2 * calibration.CHUNK * SMALL.encoder_dim
    decoder_outs = expected[0]["joiner.decoder_proj"].reshape(-1, SMALL.decoder_dim)
    assert len(decoder_outs.unique(dim=0)) > 3  # tokens are emitted on the way
    for part in calibration.PARTS:
        for histogram in observed[part]:
            values = torch.cat([seen[histogram.layer] for seen in expected])
            plain = Histogram(histogram.kind, histogram.layer)
            plain.add(values)
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
    monkeypatch.setattr(calibration, "CHUNK", chunk)
    observed = observe([batch])
    for part in calibration.PARTS:
        for histogram, plain in zip(observed[part], expected[part], strict=True):
            assert histogram.seen == plain.seen
            assert histogram.absmax == pytest.approx(plain.absmax, rel=1e-5)
            moved = np.abs(np.cumsum(histogram.counts) - np.cumsum(plain.counts)).max()
            assert moved <= 5 + 1e-4 * plain.seen


def test_shards_add_up_to_the_same(tmp_path: Path) -> None:
    recordings = dict(noises([1.5, 0.7, 2.0, 0.4, 1.1, 0.9]))
    durations = {name: len(samples) / 16000 for name, samples in recordings.items()}
    batches = [[(n, recordings[n]) for n in group] for group in calibration.groups(durations)]
    assert len(batches) == 2
    together = observe(batches)
    for i, batch in enumerate(batches):
        calibration.save(tmp_path / f"{i}.npz", observe([batch]))
    calibration.save(tmp_path / "none.npz", observe([]))
    for names in (["0", "1"], ["1", "none", "0"]):
        merged = calibration.load(tmp_path / f"{name}.npz" for name in names)
        assert_same(merged, together)
    tables = []
    for i, observed in enumerate((together, merged)):
        found = {h.layer: calibration.input_scale(h).scale for h in observed["encoder"]}
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


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(0, []), (1, [1]), (5, [3, 2]), (40, [16, 16, 8]), (80, [20] * 4), (140, [32] * 4 + [12])],
)
def test_groups(count: int, sizes: list[int]) -> None:
    durations = {f"{i:03}": 1.0 + i % 7 for i in range(count)}
    batches = calibration.groups(durations)
    assert [len(batch) for batch in batches] == sizes
    flat = [name for batch in batches for name in batch]
    assert sorted(flat) == sorted(durations)
    assert [durations[name] for name in flat] == sorted(durations.values(), reverse=True)
    assert calibration.groups(dict(reversed(durations.items()))) == batches


def test_pieces_of_a_recording_do_not_matter() -> None:
    batch = noises([3.0, 1.0, 2.2])
    cut = [(name, np.array_split(samples, 1 + 5 * i)) for i, (name, samples) in enumerate(batch)]
    assert_same(calibration.observe(small_model(), LSTM, SMALL, [cut]), observe([batch]))


def test_progress_and_recordings_too_short(capsys: pytest.CaptureFixture) -> None:
    reports: list[float] = []
    batch = [*noises([2.05, 1.0]), ("blip", np.zeros(1300, dtype=np.float32))]
    calibration.observe(small_model(), LSTM, SMALL, whole([batch]), reports.append)
    assert reports == sorted(reports)
    assert len(reports) == 2
    assert reports[-1] == pytest.approx(3.05, abs=0.2)
    assert "blip: too short to calibrate with: 8 frames, and the encoder takes 9" in (
        capsys.readouterr().err
    )
    assert observe([batch[2:]])["encoder"][0].seen == 0


# Histograms


def histogram_of(*values: float) -> Histogram:
    histogram = Histogram("Linear", "x")
    histogram.add(torch.tensor(values))
    return histogram


def counted(histogram: Histogram) -> dict[float, int]:
    """Counts by the lower edge of their bin."""
    width = 2.0**histogram.exponent / FINE_BINS
    return {i * width: int(histogram.counts[i]) for i in np.flatnonzero(histogram.counts)}


def test_a_histogram_counts_magnitudes_and_no_zeros() -> None:
    histogram = histogram_of(0.0, -0.0, 0.75, -0.75, 0.5)
    assert (histogram.seen, histogram.absmax, histogram.exponent) == (5, 0.75, 0)
    assert counted(histogram) == {0.5: 1, 0.75: 2}


def test_doubling_merges_neighbouring_bins() -> None:
    width = 2.0**-18  # of a bin in [0, 1)
    histogram = histogram_of(0.5, 2 * width, 3 * width, 4 * width, width / 2)
    assert counted(histogram) == {0.5: 1, 0.0: 1, 2 * width: 1, 3 * width: 1, 4 * width: 1}
    histogram.add(torch.tensor([1.0]))  # the first that [0, 1) does not hold
    assert histogram.exponent == 1
    assert counted(histogram) == {1.0: 1, 0.5: 1, 0.0: 1, 2 * width: 2, 4 * width: 1}
    histogram.add(torch.tensor([3.0e6]))
    assert histogram.exponent == 22
    assert counted(histogram) == {2999984.0 + 16.0: 1, 0.0: 6}
    histogram.add(torch.tensor([1e30]))
    assert counted(histogram)[0.0] == 7


def test_order_and_parts_do_not_matter() -> None:
    values = torch.randn(1000) * torch.exp(4 * torch.randn(1000))
    whole = histogram_of(*values.tolist())
    for parts in (values.flip(0).split(10), values.split([1, 998, 1]), [values, values[:0]]):
        histogram = Histogram("Linear", "x")
        for part in parts:
            histogram.add(part)
        assert histogram.absmax == whole.absmax == values.abs().max().item()
        np.testing.assert_array_equal(histogram.counts, whole.counts)
        merged = histogram_of(*parts[-1].tolist())
        for part in parts[:-1]:
            merged.merge(histogram_of(*part.tolist()))
        assert (merged.absmax, merged.seen) == (whole.absmax, whole.seen)
        np.testing.assert_array_equal(merged.counts, whole.counts)


def test_coarse_bins() -> None:
    # Magnitudes in the middle of each 64th coarse bin over [0, 1.5], and the largest itself.
    values = [(i + 0.5) * 1.5 / COARSE_BINS for i in range(0, COARSE_BINS, 64)]
    coarse = histogram_of(*values, 1.5).coarse()
    expected = np.zeros(COARSE_BINS)
    expected[::64] = 1
    expected[-1] = 1
    np.testing.assert_allclose(coarse, expected, atol=1e-6)


def test_a_fine_bin_on_an_edge_is_shared_out() -> None:
    absmax = 1.5
    fine = 1.0 / 2**17  # wide, the range being [0, 2)
    edge = absmax / COARSE_BINS  # 96 fine bins
    assert edge / fine == 96
    absmax = 1.5 + 1.5 / 192  # the first edge is now in the middle of fine bin number 96
    coarse = histogram_of(96.25 * fine, 96.75 * fine, absmax).coarse()
    assert coarse[:3] == pytest.approx([1, 1, 0])
    assert coarse.sum() == pytest.approx(3)


def test_coarse_bins_are_nearly_those_of_the_values() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(200_000).astype(np.float32)
    coarse = histogram_of(*values.tolist()).coarse()
    magnitudes = np.abs(values)
    bins = (magnitudes / magnitudes.max() * COARSE_BINS).astype(np.int32)
    exact = np.bincount(np.minimum(bins, COARSE_BINS - 1), minlength=COARSE_BINS)
    assert np.abs(coarse - exact).sum() < 0.005 * len(values)


# The search


def slow_search(counts: np.ndarray) -> int:
    """Bin by bin and group by group, as the method is told."""
    normed = [float(c) / float(counts.sum()) for c in counts]
    best, smallest = 0, math.inf
    for t in range(LEVELS, len(normed)):
        p = [x + 1e-4 for x in normed[:t]]
        p[-1] += sum(normed[t:])
        q = [1e-4] * t
        width = t / LEVELS
        for group in range(LEVELS):
            begin, end = group * width, (group + 1) * width
            shares = {k: min(end, k + 1) - max(begin, k) for k in range(int(begin), math.ceil(end))}
            shares = {k: share for k, share in shares.items() if k < t and share > 1e-9}
            mean = sum(share * normed[k] for k, share in shares.items()) / width
            for k, share in shares.items():
                q[k] += share * mean
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        if divergence < smallest - 1e-12:
            best, smallest = t, divergence
    return best


@pytest.mark.parametrize("kind", ["normal", "long-tailed", "few"])
def test_the_search_against_a_slow_one(kind: str) -> None:
    rng = np.random.default_rng(0)
    # Fewer bins than calibration has: the slow search takes its time.
    bins = 500
    x = {
        "normal": np.abs(rng.standard_normal(20_000)),
        "long-tailed": rng.standard_exponential(20_000) ** 2,
        "few": np.abs(rng.standard_normal(40)),
    }[kind]
    counts = np.histogram(x, bins, (0, x.max()))[0]
    assert calibration.search_threshold(counts) == slow_search(counts)


def test_the_first_of_equal_thresholds_wins() -> None:
    # All the mass in the first bins, one group each: every multiple of 128 loses nothing there.
    counts = np.zeros(COARSE_BINS)
    counts[0] = 1
    assert calibration.search_threshold(counts) == LEVELS


def test_the_scale_of_a_threshold() -> None:
    found = calibration.input_scale(histogram_of(*[0.001] * 1000, 2.0))
    bins = found.threshold * COARSE_BINS / 2.0 - 0.5
    assert bins == pytest.approx(round(bins), abs=1e-6)
    assert (found.absmax, found.scale) == (2.0, 127 / found.threshold)


# Errors


def test_no_audio() -> None:
    with pytest.raises(UserError, match=r"nothing went into encoder\.encoder_embed\.conv\.0: "):
        calibration.input_scale(observe([])["encoder"][0])


def test_an_input_that_is_always_zero() -> None:
    network = small_model()
    network.decoder.embedding.weight.zero_()
    observed = calibration.observe(network, LSTM, SMALL, whole([noises([0.5])]))
    with pytest.raises(UserError, match=r"joiner\.decoder_proj is always zero"):
        calibration.input_scale(observed["joiner"][1])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_activations_that_are_not_finite(value: float) -> None:
    broken = noises([1.0, 2.0, 1.5])
    broken[1][1][20000] = value
    with pytest.raises(UserError, match=r"^noise 1: holds samples that are NaN or infinity"):
        observe([broken])
    network = small_model()
    network.encoder.encoder.layers[-1].feed_forward[4].bias[0] = value
    with pytest.raises(UserError, match=r"^noise 0: the input of joiner\.encoder_proj holds NaN"):
        calibration.observe(network, LSTM, SMALL, whole([noises([0.5])]))


def test_histograms_of_different_models(tmp_path: Path) -> None:
    observed = observe([])
    calibration.save(tmp_path / "a.npz", observed)
    calibration.save(tmp_path / "b.npz", observed | {"joiner": observed["joiner"][::-1]})
    calibration.save(tmp_path / "c.npz", observed | {"joiner": observed["joiner"][:-1]})
    with pytest.raises(UserError, match=r"b\.npz: counts of Linear joiner\.output_linear cannot"):
        calibration.load([tmp_path / "a.npz", tmp_path / "b.npz"])
    with pytest.raises(UserError, match=r"c\.npz: .* other layers"):
        calibration.load([tmp_path / "a.npz", tmp_path / "c.npz"])
    (tmp_path / "d.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:1000])
    for name in ("d.npz", "missing.npz"):
        with pytest.raises(UserError, match=f"{name}: cannot be read as saved histograms"):
            calibration.load([tmp_path / name])


# Scale tables


@pytest.mark.parametrize("part", calibration.PARTS)
def test_the_tools_tables_survive_reading_and_writing(part: str, tmp_path: Path) -> None:
    table = scale_table.read(TABLES[part])
    assert table.weights.keys() == {f"{name}_param_0" for name in table.inputs}
    scale_table.write(tmp_path / "table.txt", table)
    assert (tmp_path / "table.txt").read_bytes() == TABLES[part].read_bytes()


def test_a_table_as_it_is_written(tmp_path: Path) -> None:
    weights = {"lstm_1_param_0": np.array([1.5, 2.0], np.float32), "fc_param_0": np.ones(1)}
    scale_table.write(tmp_path / "t.txt", scale_table.ScaleTable(weights, {"fc": 127 / 3}))
    text = "lstm_1_param_0 1.500000 2.000000 \nfc_param_0 1.000000 \nfc 42.333333 \n"
    assert (tmp_path / "t.txt").read_text() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a_param_0 1.0 x \n", "line 1: expected a name and its scales, found 'a_param_0 1.0 x '"),
        ("a_param_0 1.0 \na \n", "line 2: a has no scale"),
        ("a 1.0 \nb 1.0 2.0 \n", "line 2: b has 2 input scales"),
        ("a_param_0 1.0 nan \n", "line 1: a_param_0: scale number 2 is nan"),
        ("a inf \n", "line 1: a: scale number 1 is inf"),
        ("a 0.0 \n", "line 1: a: scale number 1 is 0"),
        ("a_param_0 -1.0 \n", "line 1: a_param_0: scale number 1 is -1"),
        ("a 1.0 \na 1.0 \n", "line 2: a has a line already"),
    ],
)
def test_broken_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.txt").write_text(text)
    with pytest.raises(UserError, match=re.escape(f"table.txt, {message}")):
        scale_table.read(tmp_path / "table.txt")


def test_tables_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as a scale table"):
        scale_table.read(tmp_path / "missing.txt")
    for scale in (math.nan, 0.0, 1e-9):
        with pytest.raises(UserError, match=r"x\.txt: fc: scale number 1 is"):
            scale_table.write(tmp_path / "x.txt", scale_table.ScaleTable({}, {"fc": scale}))
    assert not (tmp_path / "x.txt").exists()
