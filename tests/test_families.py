"""What every family must hold, whatever its network: a row of ``FAMILIES`` each.

The models are small, and none of their weights is 0 or like another by chance.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN, check_computes, export, random_lstm, random_toy, stored
from torch import nn

from transducer2ncnn.base import layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines import search
from transducer2ncnn.engines.pytorch import TorchTransducer, run_encoder
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.evaluation import transcription
from transducer2ncnn.export import assembly
from transducer2ncnn.families import model, registry
from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.formats import param, tokens
from transducer2ncnn.formats.sherpa import BLANK
from transducer2ncnn.quantization import agreement, groups, observing, sensitivity
from transducer2ncnn.quantization.recipes import SHIPPED, Part, Recipe
from transducer2ncnn.quantization.statistics import Histogram, Observed
from transducer2ncnn.speech.features import fbank
from transducer2ncnn.verification import parity, proof, reference

TOLERANCE = 1e-4


def lstm_golden() -> None:
    network = model.load(GOLDEN / "checkpoint-projection" / "pretrained.pt", "lstm")
    check_computes(network, np.load(GOLDEN / "checkpoint-projection" / "expected-pretrained.npz"))


def golden(folder: str, family: str, **settings: int) -> Callable[[], Transducer]:
    return lambda: model.load(GOLDEN / folder / "pretrained.pt", family, settings=settings)


@dataclass(frozen=True)
class Row:
    """A family under test.

    Attributes:
        small: makes a small model of it.
        memory: segments that an output frame sees at most; more are streamed. None if what it
            sees has no end.
        golden: checks a model of it against what the recipe's own code computed; None where a
            test of the family's own does so, or there is no recipe.
    """

    small: Callable[[], Transducer]
    memory: int | None
    golden: Callable[[], None] | None = None


FAMILIES = {
    "conv_emformer": Row(
        golden(
            "conv-emformer",
            "conv_emformer",
            nhead=4,
            chunk_length=32,
            left_context_length=48,
            right_context_length=8,
            memory_size=4,
        ),
        memory=5,
    ),
    "lstm": Row(random_lstm, memory=None, golden=lstm_golden),
    "toy": Row(random_toy, memory=None),
    "zipformer": Row(
        golden("zipformer", "zipformer", decode_chunk_len=32, num_left_chunks=4), memory=None
    ),
}


@dataclass(frozen=True)
class Made:
    """A model of a family, exported to a folder with fp32/ and fp16/ in it."""

    name: str
    row: Row
    network: Transducer
    folder: Path

    @property
    def segments(self) -> int:
        return 3 * (self.row.memory or 10)


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    row, folder = FAMILIES[request.param], tmp_path_factory.mktemp(request.param)
    network = row.small()
    # So that tokens come one after the other, and what was said before matters.
    joiner: Any = network.joiner
    joiner.decoder_proj.weight *= 3
    export(network, folder)
    return Made(request.param, row, network, folder)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    samples = (
        rng.standard_normal(int(seconds * 16000)) * np.repeat(rng.uniform(0, 0.3, 100), 160)[0]
    )
    return samples.astype(np.float32)


def description(made: Made) -> dict[str, Any]:
    architecture = made.network.architecture
    return {
        "family": made.name,
        "sizes": dataclasses.asdict(architecture.sizes),
        "settings": dataclasses.asdict(architecture.settings),
    }


# What it says of itself


def test_every_family_has_a_row() -> None:
    assert set(FAMILIES) == set(registry.names())


def test_its_network_does_what_it_states(made: Made) -> None:
    architecture = made.network.architecture
    features = np.zeros((architecture.segment, architecture.sizes.feature_dim), dtype=np.float32)
    states = architecture.initial_states()
    assert all(not state.any() for state in states)
    inputs = architecture.encoder_inputs(features, states)
    outputs = run_encoder(made.network, inputs)
    assert len(inputs) == len(outputs) == len(architecture.batch_axes())
    frames = (architecture.frames_per_segment, architecture.sizes.encoder_dim)
    assert outputs[0].shape == frames
    stated = architecture.states()
    assert len({state.name for state in stated}) == len(stated)
    for state, array in zip(stated, outputs[architecture.first_state :], strict=True):
        assert array.shape == state.returned_shape, state.name
        assert array.size == np.prod(state.shape), state.name
    # A frame of 40 ms, as every search here counts them.
    assert architecture.hop == 4 * architecture.frames_per_segment
    assert architecture.tail_seconds > architecture.segment * 0.01


def test_every_state_matters_and_moves(made: Made) -> None:
    architecture, rng = made.network.architecture, np.random.default_rng(0)
    features = rng.standard_normal((architecture.segment, architecture.sizes.feature_dim))
    features = features.astype(np.float32)
    states = architecture.random_states(rng)
    before = run_encoder(made.network, architecture.encoder_inputs(features, states))
    for i, state in enumerate(architecture.states()):
        changed = [x * 1.5 + 1 if i == j else x for j, x in enumerate(states)]
        after = run_encoder(made.network, architecture.encoder_inputs(features, changed))
        assert any(not np.allclose(a, b) for a, b in zip(before, after, strict=True)), state.name
        carried = architecture.carried(before)[i]
        assert not np.array_equal(carried, states[i]), state.name


def test_a_model_survives_the_way_through_its_files(made: Made, tmp_path: Path) -> None:
    architecture = made.network.architecture
    path = tmp_path / "x.pt"
    torch.save({"model": made.network.state_dict()}, path)
    settings = dataclasses.asdict(architecture.settings)
    described = json.loads(json.dumps(model.inspect(path, made.name, settings)[1]))
    assert described["settings_from"] == dict.fromkeys(settings, "the configuration")
    loaded = model.load_described(path, described)
    assert loaded.architecture.sizes == architecture.sizes
    assert loaded.architecture.settings == architecture.settings
    for name, tensor in made.network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    if any(
        field.default is dataclasses.MISSING for field in dataclasses.fields(architecture.settings)
    ):
        with pytest.raises(UserError, match="settings that no tensor tells"):
            model.inspect(path, made.name)


# What it computes


@pytest.mark.parametrize("name", [name for name, row in FAMILIES.items() if row.golden])
def test_it_computes_what_the_recipes_own_code_did(name: str) -> None:
    check = FAMILIES[name].golden
    assert check is not None
    check()


def test_ncnn_computes_it_segment_after_segment(made: Made) -> None:
    """From zero states over more segments than it remembers, and single runs from random ones."""
    arrays = reference.make(copy.deepcopy(made.network), [9, 39], made.segments)
    reference.save(made.folder / "reference.npz", arrays)
    cases = {key.split("/")[1] for key in arrays if key.startswith("encoder/")}
    if made.network.architecture.any_length:
        assert cases == {"9 frames", "39 frames", "streaming"}
    else:
        segment = f"{made.network.architecture.segment} frames"
        assert cases == {segment, "streaming", *(f"random states {i}" for i in range(3))}
    found = parity.compare(
        made.folder / "reference.npz",
        made.network.architecture,
        layout.ncnn_files(made.folder / "fp32"),
        "fp32",
        TOLERANCE,
    )
    assert found["encoder"]["max_error"] < TOLERANCE / 5


def test_a_state_of_another_shape_is_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """sherpa-ncnn would go on with something else, or crash."""
    architecture = made.network.architecture
    stated = architecture.states()
    last = stated[-1]
    wrong = dataclasses.replace(last, returned=(int(np.prod(last.shape)),))
    monkeypatch.setattr(type(architecture), "states", lambda self: [*stated[:-1], wrong])
    arrays = reference.make(copy.deepcopy(made.network), [9], 2)
    reference.save(made.folder / "short.npz", arrays)
    message = rf"state {last.name} comes back as blob 'out\d+' in the shape .* takes \(\d+,\) alone"
    with pytest.raises(proof.Mismatch, match=message):
        parity.compare(
            made.folder / "short.npz",
            architecture,
            layout.ncnn_files(made.folder / "fp32"),
            "fp32",
            TOLERANCE,
        )


# What runs it


def test_sherpa_ncnn_finds_the_tokens_that_plain_ncnn_finds(made: Made) -> None:
    architecture = made.network.architecture
    symbols = ["<blk>", *(f"▁{i}" for i in range(1, architecture.sizes.vocab_size))]
    (made.folder / "tokens.txt").write_text("".join(f"{s} {i}\n" for i, s in enumerate(symbols)))
    files = layout.ncnn_files(made.folder / "fp32")
    folder = made.folder / "sherpa-ncnn"
    assembly.assemble(files, description(made), made.folder / "tokens.txt", folder)
    recordings = {f"{i}": noise(1.0 + i, i) for i in range(3)}
    by_sherpa = transcription.sherpa_texts(folder, recordings, 1, architecture.tail_seconds)
    plain, trained = NcnnTransducer(files, architecture), TorchTransducer(made.network)
    by_ncnn, by_torch = (
        [tokens.to_text(search.decode(x, samples), symbols) for samples in recordings.values()]
        for x in (plain, trained)
    )
    assert by_sherpa == by_ncnn == by_torch
    assert all(len(set(text.split())) > 1 for text in by_sherpa)


def test_int8_needs_no_calibration(made: Made, tmp_path: Path) -> None:
    """The default recipe, as sherpa-ncnn runs it."""
    fp32 = layout.ncnn_files(made.folder / "fp32")
    files = stored(fp32, SHIPPED["int8"], tmp_path)
    types = {layer.type for layer in param.read(files["encoder"][0]).layers}
    assert "Gemm" in types and "InnerProduct" not in types
    recordings = {"noise": noise(3.0)}
    found = agreement.compare(fp32, files, description(made), recordings)
    assert 25 < found["encoder_snr_db"] < 80
    assert found["parts"]["joiner"]["mean_difference"] > 0
    assert found["all"]["same_best_token"] > 0.9

    architecture = made.network.architecture
    symbols = ["<blk>", *(f"▁{i}" for i in range(1, architecture.sizes.vocab_size))]
    (tmp_path / "tokens.txt").write_text("".join(f"{s} {i}\n" for i, s in enumerate(symbols)))
    assembly.assemble(files, description(made), tmp_path / "tokens.txt", tmp_path / "sherpa-ncnn")
    tail = architecture.tail_seconds
    (by_sherpa,) = transcription.sherpa_texts(tmp_path / "sherpa-ncnn", recordings, 1, tail)
    transducer = NcnnTransducer(files, architecture)
    assert by_sherpa == tokens.to_text(search.decode(transducer, recordings["noise"]), symbols)


def test_its_layers_can_be_searched(made: Made, tmp_path: Path) -> None:
    """All linear layers, LSTMs and embeddings, in few groups; and a format of several is measured
    against the error of a network that is stored so."""
    fp32, stated = layout.ncnn_files(made.folder / "fp32"), description(made)
    frames = made.network.architecture.frames_per_segment
    found = groups.find(fp32, stated, most=8)
    searched = {"InnerProduct", "Gemm", "LSTM", "Embed"}
    for part, (graph, _) in fp32.items():
        names = [x.name for x in param.read(graph).layers if x.type in searched]
        assert names == [x for group in found if group.part == part for x in group.layers]
    assert not any("int8-apart" in group.sizes for group in found) or frames == 1
    largest = max((x for x in found if x.part == "encoder"), key=lambda x: len(x.layers))
    recordings = {"noise": noise(2.0)}
    pairs = [(largest, "int8-dynamic" if "int8-dynamic" in largest.sizes else "int8")]
    (measured,) = sensitivity.measure(fp32, stated, recordings, pairs, tmp_path / "cache")
    recipe = Recipe(
        {"encoder": Part({}, dict.fromkeys(largest.layers, pairs[0][1]), rest="fp32")},
        {"decoder": "fp32", "joiner": "fp32"},
    )
    by_recipe = agreement.compare(fp32, stored(fp32, recipe, tmp_path), stated, recordings)
    assert 0 < measured.error == by_recipe["all"]["mean_square"]


# What is observed of it


def streamed(network: Transducer, samples: np.ndarray) -> dict[str, torch.Tensor]:
    """All that goes into its layers in the real tool: one recording, segment after segment.

    The tool runs the joiner on all frames of a segment in one extractor, which computes nothing
    twice: what the first frame led to inside stands for all of them, and so does its token. It
    skips the blank alone.
    """
    architecture = network.architecture
    seen: dict[str, list[torch.Tensor]] = {}
    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, name=name: seen.setdefault(name, []).append(args[0].flatten())
        )
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and name != "joiner.output_linear"
    ]
    joiner = network.joiner
    features, states = fbank(samples, architecture.sizes.feature_dim), architecture.initial_states()
    context = [0] * architecture.sizes.context_size
    start = 0
    while start + architecture.segment <= len(features):
        segment = features[start : start + architecture.segment]
        outputs = run_encoder(network, architecture.encoder_inputs(segment, states))
        states = architecture.carried(outputs)
        first, token = None, 0
        for frame in torch.from_numpy(outputs[0]):
            decoder_out = network.decoder(torch.tensor([context]))[0, 0]
            x = torch.tanh(joiner.encoder_proj(frame) + joiner.decoder_proj(decoder_out))
            if first is None:
                first, token = x, int(joiner.output_linear(x).argmax())
            seen.setdefault("joiner.output_linear", []).append(first)
            context = context if token == BLANK else [*context[1:], token]
        start += architecture.hop
    for handle in handles:
        handle.remove()
    return {name: torch.cat(values) for name, values in seen.items()}


def assert_counts(observed: Observed, expected: list[dict[str, torch.Tensor]]) -> None:
    """Check histograms against all values of all recordings, but for rounding."""
    layers = {histogram.layer for part in observed.values() for histogram in part}
    assert layers == {x for x in expected[0] if not x.startswith("decoder.")}
    for histogram in (h for part in observed.values() for h in part):
        plain = Histogram(histogram.kind, histogram.layer)
        plain.add(torch.cat([seen[histogram.layer] for seen in expected if seen]).numpy())
        assert histogram.seen == plain.seen, histogram.layer
        assert histogram.absmax == pytest.approx(plain.absmax, rel=1e-4)
        # Rounding moves a value to the next fine bin now and then, and not further.
        moved = np.abs(np.cumsum(histogram.counts) - np.cumsum(plain.counts)).max()
        assert moved <= 5 + 1e-3 * plain.seen, histogram.layer


@pytest.fixture
def cut(made: Made, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """The model, run segment by segment even if it can be cut anywhere."""
    monkeypatch.setattr(type(made.network.architecture), "any_length", False)
    yield made


def recordings() -> list[tuple[str, list[np.ndarray]]]:
    """Of different lengths, some of several chunks of time and one too short for a segment."""
    return [(f"{i}", [noise(s, i)]) for i, s in enumerate((2.3, 0.05, 1.7, 3.1))]


def test_what_is_observed_is_what_the_tool_sees(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "CHUNK", 7)
    observed = observing.observe(made.network, [recordings()])
    assert_counts(observed, [streamed(made.network, pieces[0]) for _, pieces in recordings()])


def test_segment_by_segment_is_the_same(cut: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family that can be cut anywhere is observed in a faster way, which this is held against."""
    monkeypatch.setattr(observing, "CHUNK", 7)
    observed = observing.observe(cut.network, [recordings()])
    assert_counts(observed, [streamed(cut.network, pieces[0]) for _, pieces in recordings()])


def test_whose_activations_are_not_finite_is_named(cut: Made) -> None:
    """Side by side or not, the recording is found."""
    batch = [("quiet", [noise(1.0) * 0]), ("loud", [noise(1.5)]), ("other", [noise(1.0) * 0])]
    embed = next(m for m in cut.network.encoder.modules() if isinstance(m, nn.Conv2d))

    def rows(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        loud = inputs[0].flatten(1).amax(dim=1) > -5
        return torch.where(loud[:, None, None, None], torch.full_like(output, torch.nan), output)

    handle = embed.register_forward_hook(rows)
    try:
        with pytest.raises(UserError, match=r"^loud: the input of encoder\..* holds NaN"):
            observing.observe(cut.network, [batch])
    finally:
        handle.remove()
