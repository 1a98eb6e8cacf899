"""The Zipformer: against the recipe's own modules, in ncnn, and in the real sherpa-ncnn."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ncnn
import numpy as np
import pytest
import torch
from conftest import GOLDEN, ROOT, last_of_speech_is_seen
from torch import Tensor, nn
from wrong_weights import values_changed

from transducer2ncnn.base import isolated, layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines import recognizer, search
from transducer2ncnn.engines.pytorch import TorchTransducer
from transducer2ncnn.engines.runtime import NcnnTransducer, Network
from transducer2ncnn.engines.search import GREEDY, Decoding
from transducer2ncnn.export import convert, torchscript
from transducer2ncnn.families.contract import EMISSION_DELAY_SECONDS, FRAME_SECONDS
from transducer2ncnn.families.modules import Transducer, check_tensors
from transducer2ncnn.families.zipformer import (
    FAMILY,
    Stack,
    ZipformerArchitecture,
    ZipformerSettings,
)
from transducer2ncnn.families.zipformer import layer as zipformer_layer
from transducer2ncnn.families.zipformer import stack as zipformer_stack
from transducer2ncnn.families.zipformer.graph import build, read_sizes
from transducer2ncnn.formats import checkpoint, param, sherpa
from transducer2ncnn.speech import audio
from transducer2ncnn.verification import proof, reference

BEAM = Decoding("modified_beam_search", 4)


@dataclasses.dataclass(frozen=True)
class Case:
    """A golden model at one chunk length."""

    folder: str
    chunk: int
    left: int
    expected_file: str = "expected-pretrained.npz"

    def expected(self) -> dict[str, np.ndarray]:
        return dict(np.load(GOLDEN / self.folder / self.expected_file))

    def stated(self) -> dict[str, Any]:
        stated: dict[str, Any] = json.loads((GOLDEN / self.folder / "settings.json").read_text())
        return stated


CASES = {
    "golden": Case("zipformer", 32, 4),
    # A frame a chunk in the slowest stack.
    "chunk 16": Case("zipformer", 16, 4, "expected-pretrained-chunk16-left4.npz"),
    # As many frames in a chunk as the dim: an axis that ncnn mistakes shows.
    "chunk 64": Case("zipformer", 64, 2, "expected-pretrained-chunk64-left2.npz"),
    # Dims that grow from stack to stack, and another skip.
    "unequal dims": Case("zipformer-unequal", 64, 2),
}
EACH = pytest.mark.parametrize("name", CASES)


@cache
def tensors(folder: str) -> dict[str, Tensor]:
    """A golden checkpoint's, those that inference needs."""
    return checkpoint.load_state_dict(GOLDEN / folder / "pretrained.pt")


@cache
def golden(name: str) -> Transducer:
    case = CASES[name]
    found = tensors(case.folder)
    settings = ZipformerSettings(decode_chunk_len=case.chunk, num_left_chunks=case.left)
    with torch.device("meta"):
        model = build(ZipformerArchitecture(read_sizes(found), settings))
    check_tensors(found, model, FAMILY.title, FAMILY.recipes)
    model.load_state_dict(found, assign=True)
    return model.eval().requires_grad_(False)


def stream(
    model: Transducer, features: np.ndarray, states: Sequence[np.ndarray] | None = None
) -> Iterator[list[np.ndarray]]:
    """The encoder's outputs in PyTorch, chunk by chunk."""
    a = model.architecture
    states = a.initial_states() if states is None else states
    for start in range(0, len(features) - a.segment + 1, a.hop):
        inputs = a.encoder_inputs(features[start : start + a.segment], states)
        outputs = [out.numpy() for out in model.encoder(*map(torch.from_numpy, inputs))]
        for state, out in zip(a.states(), outputs[1:], strict=True):
            assert out.shape == state.returned_shape, state.name
        states = a.carried(outputs)
        yield outputs


def assert_close(actual: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    """Shapes may differ by axes of one; the recipe has a batch axis."""
    np.testing.assert_allclose(actual.squeeze(), wanted.squeeze(), rtol=0, atol=tolerance)


def check_states(
    states: Sequence[np.ndarray], wanted: dict[str, np.ndarray], chunk: int, tolerance: float
) -> int:
    """Compare what the recipe's states hold with these; the number of those that are known."""
    known = [k for k in range(len(states)) if f"chunk{chunk}_state_out{k:02}" in wanted]
    for k in known:
        assert_close(states[k], wanted[f"chunk{chunk}_state_out{k:02}"], tolerance)
    return len(known)


# What a checkpoint and its settings tell


@pytest.mark.parametrize("name", ["golden", "unequal dims"])
def test_sizes_and_what_sherpa_ncnn_is_told(name: str) -> None:
    stated, a = CASES[name].stated(), golden(name).architecture
    for field in dataclasses.fields(a.sizes):
        renamed = {
            "feature_dim": "num_features",
            "downsampling_factors": "zipformer_downsampling_factors",
        }
        wanted = (
            stated["encoder_dims"][-1]
            if field.name == "encoder_dim"
            else stated[renamed.get(field.name, field.name)]
        )
        value = getattr(a.sizes, field.name)
        assert (list(value) if isinstance(value, tuple) else value) == wanted, field.name
    for part, number in stated["parameters"].items():
        # The recipe counts the norms' epsilons.
        epsilons = sum(key.endswith(".eps") for key in golden(name).part(part).state_dict())
        counted = sum(p.numel() for p in golden(name).part(part).parameters())
        assert counted + epsilons == number
    patched = sherpa.with_meta_data(param.Param((), 0), a.meta_data())
    assert patched.layers[0].line.split() == stated["sherpa_meta_data"].split()
    assert (a.segment, a.hop) == (stated["decode_chunk_len"] + 7, stated["decode_chunk_len"])


@pytest.mark.parametrize(
    ("chunk", "left", "message"),
    [
        (32, 0, "num_left_chunks is 0, expected 1 or more"),
        (0, 4, "decode_chunk_len is 0, expected a multiple of 2"),
        (-16, 4, "decode_chunk_len is -16, expected a multiple of 2"),
        (24, 4, "decode_chunk_len is 24, expected a multiple of 16"),
        (33, 4, "decode_chunk_len is 33, expected a multiple of 2"),
    ],
)
def test_settings_that_the_model_cannot_have(chunk: int, left: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ZipformerArchitecture(golden("golden").architecture.sizes, ZipformerSettings(chunk, left))


ATTENTION = "encoder.encoders.0.layers.0.self_attn."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {k: v for k, v in t.items() if ".pooling." not in k},
            "not a Zipformer transducer: tensor 'encoder.encoders.0.layers.0.pooling.proj.weight'",
        ),
        (
            lambda t: {k: v for k, v in t.items() if "encoders." not in k},
            "not a Zipformer transducer: no tensor is named 'encoder.encoders.0",
        ),
        (
            lambda t: {k.replace("encoders.1.", "encoders.7."): v for k, v in t.items()},
            "numbered 0, 2, 3, 4 and 1 more",
        ),
        (
            lambda t: {k.replace("layers.1.", "layers.2."): v for k, v in t.items()},
            "encoder.encoders.1.encoder.layers.N are numbered 0, 2",
        ),
        (
            lambda t: {k: v.squeeze() for k, v in t.items()},
            r"depthwise_conv.weight' has shape \(32, 15\), expected 3 axes",
        ),
        (
            lambda t: t | {ATTENTION + "linear_pos.weight": torch.zeros(18, 32)},
            "linear_pos.weight' has 18 rows, expected 4 for each head",
        ),
        (
            lambda t: t | {ATTENTION + "linear_pos.weight": torch.zeros(24, 32)},
            "6 heads by its linear_pos and the attention dim 32 .* a multiple of 12",
        ),
        (
            # As many heads of half the width: only in_proj tells.
            lambda t: t | {ATTENTION + "linear_pos.weight": torch.zeros(8, 32)},
            "in_proj.weight' has 96 rows, expected 88: its out_proj tells the attention dim 32",
        ),
        (
            lambda t: t | {"encoder.encoders.1.upsample.bias": torch.zeros(1, 32)},
            "encoders.1.upsample.bias' has 1 rows, expected 2 or more",
        ),
        (
            lambda t: t | {"encoder.encoders.4.upsample.bias": torch.zeros(16, 32)},
            "skip_modules.4.weight1' is there. With the downsampling factors 1, 2, 4, 8, 16",
        ),
        (
            lambda t: {k: v for k, v in t.items() if "skip_modules" not in k},
            "skip_modules.4.weight1' is missing. With the downsampling factors 1, 2, 4, 8, 2",
        ),
        (
            lambda t: t | {"encoder.encoder_embed.out.weight": torch.zeros(24, 2432)},
            "stack 0 has the dim 32, and what comes before it 24",
        ),
        (
            lambda t: {
                k: torch.zeros(24, 24)
                if k.startswith("encoder.encoders.3") and "pooling" in k
                else v
                for k, v in t.items()
            },
            "stack 3 has the dim 24, and what comes before it 32",
        ),
        (
            lambda t: t | {"decoder.embedding.weight": torch.zeros(32, 26)},
            "the decoder's dim is 26, expected a multiple of 4",
        ),
        (
            lambda t: {
                k: torch.zeros(32, 1, 8) if "encoders.2" in k and "1.depthwise_conv.w" in k else v
                for k, v in t.items()
            },
            "stack 2 has depthwise convolutions 8 frames wide, expected an odd number",
        ),
    ],
)
def test_tensors_that_contradict_each_other(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_sizes(change(dict(tensors("zipformer"))))


def test_a_layer_unlike_the_first() -> None:
    """Sizes are read off the first layer; the others have to be as the model is built."""
    name = "encoder.encoders.1.encoder.layers.1.feed_forward2.in_proj.weight"
    other = tensors("zipformer") | {name: torch.zeros(41, 32)}
    with torch.device("meta"):
        model = build(ZipformerArchitecture(read_sizes(other), ZipformerSettings(32, 4)))
    with pytest.raises(UserError, match=r"has shape \(41, 32\).* ask for \(40, 32\)"):
        check_tensors(other, model, FAMILY.title, FAMILY.recipes)


# The network


@EACH
def test_it_computes_what_the_recipe_does(name: str) -> None:
    model, wanted = golden(name), CASES[name].expected()
    known = 0
    for i, (out, *states) in enumerate(stream(model, wanted["features"])):
        assert_close(out, wanted[f"chunk{i}_encoder_out"], 1e-5)
        known += check_states(states, wanted, i, 1e-5)
    assert f"chunk{i + 1}_encoder_out" not in wanted
    assert known >= 35


@pytest.mark.parametrize("name", ["golden", "unequal dims"])
def test_it_computes_the_same_inside(name: str) -> None:
    """From the recipe's states in the middle of an utterance, and what is inside a chunk."""
    model, wanted = golden(name), CASES[name].expected()
    a = model.architecture
    for i in (0, 7):
        given = [
            wanted[f"chunk{i}_state_in{k:02}"].astype(np.float32).reshape(state.shape)
            for k, state in enumerate(a.states())
        ]
        ((out, *states),) = stream(model, wanted[f"chunk{i}_x"][0], given)
        assert_close(out, wanted[f"chunk{i}_encoder_out"], 1e-5)
        assert check_states(states, wanted, i, 1e-5) == 35

    taken: dict[str, np.ndarray] = {}

    def take(module: nn.Module, tap: str, of: int | None = None) -> Any:
        def hook(_module: nn.Module, inputs: Any, outputs: Any) -> None:
            values = inputs if tap.endswith("_in") else outputs
            first = values if isinstance(values, Tensor) else values[of or 0]
            taken[tap] = first.numpy()

        return module.register_forward_hook(hook)

    handles = [
        take(model.encoder.encoder_embed, "encoder_embed"),
        take(model.encoder.downsample_output, "downsample_output"),
    ]
    for s, stack in enumerate(model.encoder.encoders):
        handles += [take(stack, f"stack{s}_in"), take(stack, f"stack{s}_out")]
        if hasattr(stack, "downsample"):
            handles.append(take(stack.downsample, f"stack{s}_downsampled"))
        layers = stack.encoder.layers if hasattr(stack, "encoder") else stack.layers
        for n, layer in enumerate(layers):
            handles += [
                take(layer, f"stack{s}_layer{n}_out"),
                take(layer.pooling, f"stack{s}_layer{n}_pooling_out"),
                take(layer.self_attn, f"stack{s}_layer{n}_attn_out"),
                take(layer.self_attn, f"stack{s}_layer{n}_attn_weights", of=1),
            ]
    list(stream(model, wanted["features"][: a.segment + a.hop]))
    for handle in handles:
        handle.remove()
    taps = {key.removeprefix("chunk1_tap_") for key in wanted if key.startswith("chunk1_tap_")}
    assert taps == taken.keys()
    for tap in taps:
        assert_close(taken[tap], wanted[f"chunk1_tap_{tap}"], 1e-5)

    inputs = {k: torch.from_numpy(v) for k, v in wanted.items()}
    decoder_out = model.decoder(inputs["decoder_y"].long())
    assert_close(decoder_out.numpy(), wanted["decoder_out"], 1e-5)
    logit = model.joiner(inputs["joiner_encoder_out"], inputs["joiner_decoder_out"])
    assert_close(logit.numpy(), wanted["joiner_logit"], 1e-5)


@EACH
def test_whole_utterances_are_what_streaming_gives(name: str) -> None:
    """What the shipped model is trained through is what is exported of it."""
    spec = importlib.util.spec_from_file_location(
        "whole_utterance",
        ROOT / "models" / "zipformer-digits" / "training" / "whole_utterance.py",
    )
    assert spec and spec.loader
    training = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(training)
    model, wanted = golden(name), CASES[name].expected()
    a, features = model.architecture, torch.from_numpy(wanted["features"])
    whole = training.WholeUtterance(model.encoder)
    # The second utterance is another, so that one cannot stand for the other.
    (first, second) = whole(torch.stack([features, features.flip(0)]))
    chunks = [wanted[f"chunk{i}_encoder_out"][0] for i in range(len(first) // a.frames_per_segment)]
    assert_close(first.numpy(), np.concatenate(chunks), 1e-5)
    streamed = [out for out, *_ in stream(model, features.flip(0).numpy())]
    assert_close(second.numpy(), np.concatenate(streamed), 1e-5)


@pytest.mark.parametrize("factor", [1, 8])
def test_the_mean_of_an_hour_in_half_precision(
    monkeypatch: pytest.MonkeyPatch, factor: int
) -> None:
    """ARM computes in it. From 2,048 chunks on it cannot count frames any further."""
    for module in (zipformer_layer, zipformer_stack):
        monkeypatch.setattr(module, "constant", lambda array: torch.from_numpy(array).half())
    stack = Stack(1, 16, 16, 16, 32, 4, 7, factor, 16 // factor, 64 // factor)
    layers = zipformer_stack.LayerStack(stack).half()
    pooling: Any = layers.layers[0].pooling
    pooling.proj.weight.data = torch.eye(16, dtype=torch.half)
    rng = np.random.default_rng(0)
    level = rng.standard_normal(16)
    avg, length = torch.zeros(1, 16).half(), torch.zeros(1).half()
    total, frames = np.zeros(16), 0
    errors = {}
    with torch.inference_mode():
        for chunk in range(1, 3600 * 100 // 32 + 1):
            x = torch.from_numpy(level + rng.standard_normal((stack.frames, 16))).half()
            share, length = layers.shares(length)
            _, avg = pooling(x, share, avg)
            length = length.reshape(1)
            total += x.double().numpy().sum(axis=0)
            frames += stack.frames
            errors[chunk] = np.abs(avg[0].numpy() - total / frames).max()
    assert float(length) == 2048 * stack.frames < frames
    # Of values with a standard deviation of 1.
    assert max(error for chunk, error in errors.items() if chunk > 100) < 0.05


def test_the_tail_is_long_enough() -> None:
    """sherpa-ncnn computes full chunks only, of which the last begins before a frame more."""
    for name in CASES:
        a = golden(name).architecture
        silent = int(a.tail_seconds / FRAME_SECONDS)
        for speech in range(200, 200 + a.hop):
            chunks = len(range(0, speech + silent - a.segment, a.hop))
            # The frame of output that stands for the last of speech, and the delay of emission.
            assert chunks * a.hop >= speech + EMISSION_DELAY_SECONDS / FRAME_SECONDS
    a = golden("chunk 64").architecture
    lost = max(s - len(range(0, s + 50 - a.segment, a.hop)) * a.hop for s in range(200, 264))
    assert lost == 21  # with half a second

    model = golden("chunk 64")
    assert last_of_speech_is_seen(lambda x: (out for out, *_ in stream(model, x)), a.tail_seconds)


@cache
def recordings() -> dict[str, np.ndarray]:
    wavs = sorted((GOLDEN / "int8" / "wavs").glob("*.wav"))
    return {wav.name: audio.read(wav) for wav in wavs}


def test_pytorch_recognises_what_the_recipe_does() -> None:
    wanted = json.loads((GOLDEN / "zipformer" / "expected-greedy.json").read_text())
    transducer = TorchTransducer(golden("golden"))
    for name, samples in recordings().items():
        # The recipe ran without silence behind, so it has no tokens of that.
        tokens = wanted[name]["tokens"]
        assert search.decode(transducer, samples)[: len(tokens)] == tokens


# ncnn


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], layout.Files]:
    """The files of a case, fp32."""

    @cache
    def export(name: str) -> layout.Files:
        folder = tmp_path_factory.mktemp("zipformer")
        files = layout.ncnn_files(folder)
        for part, (graph, weights) in files.items():
            torchscript.trace(golden(name), part, folder / f"{part}.pt")
            convert.convert(folder / f"{part}.pt", graph, weights)
        return files

    return export


Exported = Callable[[str], layout.Files]


def ncnn_stream(
    files: layout.Files, a: ZipformerArchitecture, features: np.ndarray
) -> Iterator[list[np.ndarray]]:
    """The encoder's outputs in ncnn, in the shapes that sherpa-ncnn needs."""
    network = Network(*files["encoder"])
    names = [f"out{i}" for i in range(1 + len(a.states()))]
    states = a.initial_states()
    for start in range(0, len(features) - a.segment + 1, a.hop):
        inputs = a.encoder_inputs(features[start : start + a.segment], states)
        outputs = network.run({f"in{i}": array for i, array in enumerate(inputs)}, names)
        for state, out in zip(a.states(), outputs[1:], strict=True):
            assert out.shape == state.returned_shape, state.name
        states = a.carried(outputs)
        yield outputs


@EACH
def test_ncnn_computes_what_the_recipe_does(exported: Exported, name: str) -> None:
    a, wanted = golden(name).architecture, CASES[name].expected()
    for i, (out, *states) in enumerate(ncnn_stream(exported(name), a, wanted["features"])):
        assert_close(out, wanted[f"chunk{i}_encoder_out"], 1e-4)
        check_states(states, wanted, i, 1e-4)
    assert f"chunk{i + 1}_encoder_out" not in wanted


def test_it_does_not_drift(exported: Exported) -> None:
    """Two minutes: far beyond the caches, and the average of all frames is a state for good."""
    model = golden("golden")
    a = model.architecture
    chunks = 400
    rng = np.random.default_rng(0)
    features = rng.normal(-9, 4, (a.hop * (chunks - 1) + a.segment, 80)).astype(np.float32)
    pairs = zip(stream(model, features), ncnn_stream(exported("golden"), a, features), strict=True)
    compared = 0
    for wanted, found in pairs:
        assert_close(found[0], wanted[0], 1e-4)
        compared += 1
    assert compared == chunks
    for found_state, wanted_state in zip(found[1:], wanted[1:], strict=True):
        largest = max(1.0, float(np.abs(wanted_state).max()))
        assert_close(found_state, wanted_state, 1e-4 * largest)


@EACH
def test_linear_layers_are_inner_products(exported: Exported, name: str) -> None:
    """Pointwise convolutions too: in this form, and in the order of the model's modules, the
    weights are found for int8. The projection of the positions is part of a constant."""
    model = golden(name)
    graph = param.read(exported(name)["encoder"][0])
    linear = [
        module
        for key, module in model.encoder.named_modules()
        if isinstance(module, nn.Linear) and not key.endswith("linear_pos")
    ]
    sizes = [x.integer(2) for x in graph.layers if x.type == "InnerProduct"]
    assert len(sizes) == len(linear)
    assert sorted(sizes) == sorted(module.weight.numel() for module in linear)
    assert not {"Convolution1D", "Gemm"} & {layer.type for layer in graph.layers}


@EACH
def test_convolutions_are_given_three_axes(exported: Exported, name: str) -> None:
    """The ncnn inside sherpa-ncnn does not quantize an input of four, and says nothing."""
    layers = param.read(exported(name)["encoder"][0]).layers
    first = next(layer for layer in layers if layer.type == "Convolution")
    (before,) = [layer for layer in layers if first.inputs[0] in layer.outputs]
    assert before.line.split()[0] == "Reshape"
    assert [before.integer(key, 1) for key in (0, 2, 11)] == [80, 1, 1]
    assert before.integer(1) == CASES[name].chunk + 7


class NcnnAsSherpa(NcnnTransducer):
    """Plain ncnn with the options that sherpa-ncnn runs it with, which are its defaults."""

    def __init__(self, files: layout.Files, architecture: ZipformerArchitecture) -> None:
        super().__init__(files, architecture)
        self._encoder, self._decoder, self._joiner = (
            DefaultNetwork(*files[part]) for part in layout.PARTS
        )


class DefaultNetwork(Network):
    def __init__(self, graph: Path, weights: Path) -> None:
        super().__init__(graph, weights)
        self._net = ncnn.Net()
        self._net.opt.num_threads = 1
        assert self._net.load_param(str(graph)) == 0
        assert self._net.load_model(str(weights)) == 0


def deliver(files: layout.Files, a: ZipformerArchitecture, tokens: Path, folder: Path) -> None:
    folder.mkdir()
    for part, (graph, weights) in files.items():
        found = param.read(graph)
        sherpa.check_layers(found, part)
        if part == "encoder":
            found = sherpa.with_meta_data(found, a.meta_data())
        param.write(folder / graph.name, found)
        (folder / weights.name).symlink_to(weights)
    (folder / "tokens.txt").symlink_to(tokens)


def by_sherpa(
    folder: str, samples: Sequence[np.ndarray], tail_seconds: float, decoding: Decoding
) -> list[tuple[list[int], str]]:
    loaded = recognizer.load(folder, threads=1, decoding=decoding)
    return [recognizer.decode(loaded, x, tail_seconds) for x in samples]


@pytest.mark.parametrize("decoding", [GREEDY, BEAM], ids=["greedy", "beam"])
@EACH
def test_sherpa_ncnn_runs_it(
    exported: Exported, tmp_path: Path, name: str, decoding: Decoding
) -> None:
    files, a = exported(name), golden(name).architecture
    samples = list(recordings().values())
    deliver(files, a, GOLDEN / CASES[name].folder / "tokens.txt", tmp_path / "sherpa")
    found = isolated.call(by_sherpa, str(tmp_path / "sherpa"), samples, a.tail_seconds, decoding)
    plain = NcnnAsSherpa(files, a)
    assert [tokens for tokens, _ in found] == [search.decode(plain, x, decoding) for x in samples]
    assert sum(len(tokens) for tokens, _ in found) > 10
    if name == "golden" and decoding == GREEDY:
        greedy = json.loads((GOLDEN / "zipformer" / "expected-greedy.json").read_text())
        for (_, text), wanted in zip(found, greedy.values(), strict=True):
            # Without silence behind; what comes of that stands at the end.
            assert text.startswith(wanted["text_of_sherpa_ncnn_2_1_15"])


def test_any_weight_off_by_a_percent_is_refused(exported: Exported, tmp_path: Path) -> None:
    arrays = reference.digest_weights(golden("golden"))
    for part, (graph, bin_) in exported("golden").items():
        sound = proof.from_arrays(arrays, part)
        assert proof.check(graph, bin_, sound, "fp32") > 0
        for layer in values_changed(graph, bin_, tmp_path / "x.bin", (1.01,)):
            with pytest.raises(proof.Mismatch, match=re.escape(layer)):
                proof.check(graph, tmp_path / "x.bin", sound, "fp32")
