"""The ConvEmformer: against the recipe's own modules, against attention over growing lists, and in
the real sherpa-ncnn."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import hearing
import ncnn
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import GOLDEN, last_of_speech_is_seen
from torch import Tensor
from wrong_weights import values_changed

from transducer2ncnn.base import isolated, layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines import search
from transducer2ncnn.engines.pytorch import TorchTransducer, run_encoder
from transducer2ncnn.engines.runtime import Network
from transducer2ncnn.engines.search import GREEDY, Decoding
from transducer2ncnn.export import convert, delivery, torchscript
from transducer2ncnn.families import contract
from transducer2ncnn.families.contract import Architecture
from transducer2ncnn.families.conv_emformer import (
    FAMILY,
    ConvEmformer,
    ConvEmformerSettings,
    ConvEmformerSizes,
)
from transducer2ncnn.families.conv_emformer.graph import build, read_sizes
from transducer2ncnn.families.modules import Transducer, check_tensors
from transducer2ncnn.formats import checkpoint, param, sherpa
from transducer2ncnn.quantization import observing
from transducer2ncnn.quantization.recipes import Table
from transducer2ncnn.quantization.thresholds import input_scales
from transducer2ncnn.speech import audio
from transducer2ncnn.speech.features import fbank
from transducer2ncnn.verification import proof, reference

FOLDER = GOLDEN / "conv-emformer"
STATED: dict[str, Any] = json.loads((FOLDER / "settings.json").read_text())
SETTINGS = ConvEmformerSettings(
    nhead=4, chunk_length=32, left_context_length=48, right_context_length=8, memory_size=4
)
MASKED = pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
BEAM = Decoding("modified_beam_search", 4)


@cache
def golden(masked: bool) -> Transducer:
    """The golden checkpoint, loaded."""
    stored = checkpoint.load_state_dict(FOLDER / "pretrained.pt")
    tensors = checkpoint.inference_tensors(stored)
    settings = dataclasses.replace(SETTINGS, masked=masked)
    with torch.device("meta"):
        model = build(ConvEmformer(read_sizes(tensors), settings))
    check_tensors(tensors, model, FAMILY.title, FAMILY.recipes)
    folded = {name: checkpoint.fold_scale(name, stored) for name in tensors}
    model.load_state_dict(folded, assign=True)
    return model.eval().requires_grad_(False)


@cache
def expected() -> dict[str, np.ndarray]:
    return dict(np.load(FOLDER / "expected-pretrained.npz"))


@cache
def recordings() -> dict[str, np.ndarray]:
    wavs = sorted((GOLDEN / "int8" / "wavs").glob("*.wav"))
    return {wav.name: audio.read(wav) for wav in wavs}


#: Other models: (chunk, left, right) in feature frames, memory, kernel, dim, heads, masked.
OTHERS = {
    "no memory": (32, 32, 8, 0, 15, 32, 4, True),
    "no memory, unmasked": (32, 32, 8, 0, 15, 32, 4, False),
    "memory of 1": (32, 32, 8, 1, 15, 32, 4, True),
    "higher latency": (64, 64, 16, 2, 31, 32, 4, True),
    "little is kept": (32, 4, 4, 3, 3, 32, 1, True),
    "much is kept": (8, 40, 12, 5, 31, 32, 4, True),
    "dim 144": (16, 16, 8, 2, 31, 144, 4, True),
}
EACH_OTHER = pytest.mark.parametrize("name", OTHERS)


@cache
def other(name: str) -> Transducer:
    """A made-up model of two layers with random weights."""
    chunk, left, right, memory, kernel, dim, heads, masked = OTHERS[name]
    sizes = ConvEmformerSizes(80, dim, 24, 28, 32, 2, 2, 48, kernel)
    settings = ConvEmformerSettings(heads, chunk, left, right, memory, masked)
    torch.manual_seed(0)
    model = build(ConvEmformer(sizes, settings)).eval().requires_grad_(False)
    encoder: Any = model.encoder
    for layer in encoder.encoder.emformer_layers:
        # Sharper attention, so that a mistake in it shows.
        layer.attention.emb_to_query.weight *= 4
        layer.attention.emb_to_key_value.weight *= 2
    return model


def of(model: Transducer) -> ConvEmformer:
    assert isinstance(model.architecture, ConvEmformer)
    return model.architecture


def chunks(model: Transducer) -> int:
    """A number of chunks after which nothing is left of the first."""
    a = of(model)
    return 3 + max(a.memory, a.left // a.chunk, a.sizes.cnn_module_kernel // a.chunk)


def noise(model: Transducer, segments: int) -> np.ndarray:
    """(T, 80) features that fill so many segments."""
    a = model.architecture
    samples = np.random.default_rng(0).standard_normal(160 * (a.hop * segments + 40))
    features = fbank((0.1 * samples).astype(np.float32), 80)
    return features[: a.segment + a.hop * (segments - 1)]


def stream(model: Transducer, features: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The encoder's outputs in PyTorch, segment by segment from zero states."""
    a = model.architecture
    states = a.initial_states()
    for start in range(0, len(features) - a.segment + 1, a.hop):
        outputs = run_encoder(model, a.encoder_inputs(features[start : start + a.segment], states))
        states = a.carried(outputs)
        yield outputs


def assert_close(actual: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance)


# What a checkpoint and its settings tell


def test_sizes_are_read_off_the_tensors() -> None:
    for name, size in dataclasses.asdict(golden(True).architecture.sizes).items():
        assert size == STATED[name], name
    for part, number in STATED["parameters_after_folding"].items():
        assert sum(p.numel() for p in golden(True).part(part).parameters()) == number


def test_what_sherpa_ncnn_is_told() -> None:
    stated = {int(key): value for key, value in STATED["sherpa_meta_data"].items()}
    for masked, rows in ((False, 4), (True, 5)):
        architecture = golden(masked).architecture
        assert architecture.meta_data() == stated | {2: rows}
        assert (architecture.segment, architecture.hop) == (STATED["segment"], STATED["hop"])
        assert architecture.frames_per_segment == STATED["output_frames_per_chunk"]


def test_a_training_checkpoint_has_the_settings() -> None:
    stored = torch.load(FOLDER / "epoch-1.pt", weights_only=False)
    for field in dataclasses.fields(ConvEmformerSettings):
        if field.default is dataclasses.MISSING:
            names = field.metadata["keys"] or [field.name]
            assert [stored[name] for name in names] == [getattr(SETTINGS, field.name)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left_context_length": 0}, "left_context_length is 0, expected a multiple of 4"),
        ({"right_context_length": 0}, "right_context_length is 0, expected a multiple of 4"),
        ({"right_context_length": 6}, "right_context_length is 6, expected a multiple of 4"),
        ({"left_context_length": -8}, "left_context_length is -8, expected a multiple of 4"),
        ({"chunk_length": 30}, "chunk_length is 30, expected a multiple of 4"),
        ({"chunk_length": 24}, "chunk_length is 24, expected 4 times a power of 2"),
        ({"memory_size": -1}, "memory_size is -1, expected 0 to 2048"),
        ({"memory_size": 2049}, "memory_size is 2049, expected 0 to 2048"),
        ({"nhead": 5}, "nhead is 5, expected a divisor of the encoder's dim, 32"),
        ({"nhead": 0}, "nhead is 0, expected a divisor"),
        ({"cnn_module_kernel": 14}, "kernel of its depthwise convolutions is 14, expected an odd"),
        ({"cnn_module_kernel": 1}, "kernel of its depthwise convolutions is 1, expected an odd"),
        (
            {"recipe": "conv_emformer_transducer_stateless"},
            "conv_emformer_transducer_stateless with memory_size 4 cannot be exported",
        ),
        ({"recipe": "lstm"}, "recipe is 'lstm', expected 'conv_emformer_transducer_stateless2' or"),
    ],
)
def test_what_no_model_can_have(change: dict[str, Any], message: str) -> None:
    sizes = golden(True).architecture.sizes
    made = ConvEmformer(sizes, SETTINGS)
    of_sizes = {k: v for k, v in change.items() if hasattr(sizes, k)}
    of_settings = {k: v for k, v in change.items() if k not in of_sizes}
    with pytest.raises(UserError, match=message):
        ConvEmformer(
            dataclasses.replace(made.sizes, **of_sizes),
            dataclasses.replace(made.settings, **of_settings),
        )


def test_without_memory_both_recipes_are_the_same() -> None:
    first = dataclasses.replace(
        SETTINGS, recipe="conv_emformer_transducer_stateless", memory_size=0
    )
    assert ConvEmformer(golden(True).architecture.sizes, first).memory == 0


def test_a_checkpoint_of_another_model() -> None:
    tensors = dict(golden(True).state_dict())
    gap = {name.replace("layers.1.", "layers.7."): tensor for name, tensor in tensors.items()}
    with pytest.raises(UserError, match=r"numbered 0, 2, 7\. Expected"):
        read_sizes(gap)
    plain = {name: tensor for name, tensor in tensors.items() if "conv_module" not in name}
    with pytest.raises(UserError, match="not a ConvEmformer transducer: tensor 'encoder.encoder.e"):
        read_sizes(plain)
    flat = {name: tensor.squeeze() for name, tensor in tensors.items()}
    with pytest.raises(UserError, match=r"depthwise_conv.weight' has shape \(32, 15\), expected 3"):
        read_sizes(flat)


# The network


@MASKED
def test_it_computes_what_the_recipe_does(masked: bool) -> None:
    model, wanted = golden(masked), expected()
    kind = "masked_encoder_out" if masked else "encoder_out"
    frames = []
    for i, (out, *states) in enumerate(stream(model, wanted["features"])):
        assert_close(out, wanted[f"chunk{i}_{kind}"], 1e-5)
        frames.append(out)
        for k, state in enumerate(states) if not masked else ():
            if f"chunk{i}_state_out_{k}" in wanted:
                assert_close(state, wanted[f"chunk{i}_state_out_{k}"], 1e-5)
    assert i + 1 == STATED["chunks"]
    if masked:  # then it is the training's forward over the whole utterance
        assert_close(np.concatenate(frames), wanted["whole_encoder_out"], 1e-5)
    for i in (0, STATED["chunks"] - 1):
        x = torch.from_numpy(wanted[f"chunk{i}_x"])[None]
        embed = model.encoder.get_submodule("encoder_embed")(x)[0].numpy()
        assert_close(embed, wanted[f"chunk{i}_encoder_embed"], 1e-5)
    golden_torch = {k: torch.from_numpy(v) for k, v in wanted.items()}
    decoder_out = model.decoder(golden_torch["decoder_y"].long())
    assert_close(decoder_out.numpy(), wanted["decoder_out"], 1e-5)
    logit = model.joiner(golden_torch["joiner_encoder_out"], golden_torch["joiner_decoder_out"])
    assert_close(logit.numpy(), wanted["joiner_logit"], 1e-5)


def with_counter(states: Sequence[np.ndarray], passed: int) -> list[np.ndarray]:
    """States of the unmasked model as the masked one has them, so many chunks on."""
    return [
        np.concatenate([state, np.full((1, state.shape[1]), passed, state.dtype)])
        if k % 4 == 0
        else state
        for k, state in enumerate(states)
    ]


@MASKED
def test_random_states(masked: bool) -> None:
    """Masked, of a stream that has filled them; and of one that has not, where they are nothing."""
    model, wanted = golden(masked), expected()
    x = wanted["random_x"]
    states = [wanted[f"random_state_in_{k}"] for k in range(12)]

    def run(states: Sequence[np.ndarray]) -> list[np.ndarray]:
        return run_encoder(model, [x, *states])

    for passed in (4, 5000) if masked else (0,):
        given = with_counter(states, passed) if masked else states
        out, *next_states = run(given)
        assert_close(out, wanted["random_encoder_out"], 1e-5)
        next_wanted = [wanted[f"random_state_out_{k}"] for k in range(12)]
        if masked:
            next_wanted = with_counter(next_wanted, passed + 1)
        for state, next_state in zip(next_states, next_wanted, strict=True):
            assert_close(state, next_state, 1e-5)
    if masked:
        empty = [state if k % 4 == 3 else 0 * state for k, state in enumerate(states)]
        assert_close(run(with_counter(states, 0))[0], run(with_counter(empty, 0))[0], 1e-6)


def by_growing_lists(model: Transducer, features: np.ndarray) -> Iterator[np.ndarray]:
    """Training's streaming in another way: what is kept is in lists, which begin empty.

    There is nothing to mask and no state of a fixed size. Chunk and right context are in the
    recipe's order, and the convolution is the recipe's.
    """
    a = of(model)
    encoder: Any = model.encoder
    layers = encoder.encoder.emformer_layers
    dim, kernel, heads = a.sizes.encoder_dim, a.sizes.cnn_module_kernel, a.settings.nhead
    means: list[list[Tensor]] = [[] for _ in layers]
    keys: list[list[Tensor]] = [[] for _ in layers]
    values: list[list[Tensor]] = [[] for _ in layers]
    gated: list[list[Tensor]] = [[torch.zeros(dim)] * (kernel - 1) for _ in layers]
    for start in range(0, len(features) - a.segment + 1, a.hop):
        x = encoder.encoder_embed(torch.from_numpy(features[start : start + a.segment])[None])[
            0, 1:-1
        ]
        x = torch.cat([x[a.chunk :], x[: a.chunk]])  # the right context first
        for i, layer in enumerate(layers):
            x = x + layer.feed_forward_macaron(x)
            memory = means[i][-a.memory :] if a.memory else []
            kv = layer.attention.emb_to_key_value(torch.stack([*memory, *x]))
            kv_memory, kv_right, kv_chunk = kv.split([len(memory), a.right, a.chunk])
            left_key, left_value = keys[i][-a.left :], values[i][-a.left :]
            key = torch.stack([*kv_memory[:, :dim], *kv_right[:, :dim], *left_key])
            key = torch.cat([key, kv_chunk[:, :dim]])
            value = torch.stack([*kv_memory[:, dim:], *kv_right[:, dim:], *left_value])
            value = torch.cat([value, kv_chunk[:, dim:]])
            attended = []
            for query in layer.attention.emb_to_query(x):
                for q, k, v in zip(
                    query.chunk(heads), key.chunk(heads, 1), value.chunk(heads, 1), strict=True
                ):
                    attended.append(torch.softmax(k @ q / len(q) ** 0.5, 0) @ v)
            means[i].append(x[a.right :].mean(0))
            keys[i] += kv_chunk[:, :dim]
            values[i] += kv_chunk[:, dim:]
            x = x + layer.attention.out_proj(torch.cat(attended).reshape(-1, dim))

            conv = layer.conv_module
            in_time = torch.cat([x[a.right :], x[: a.right]])
            in_time = F.glu(conv.pointwise_conv1(in_time), dim=-1)
            padded = torch.stack([*gated[i][1 - kernel :], *in_time])
            gated[i] += in_time[: a.chunk]
            out = torch.stack(
                [
                    (padded[t : t + kernel].T * conv.depthwise_conv.weight[:, 0]).sum(1)
                    for t in range(len(in_time))
                ]
            )
            out = out + conv.depthwise_conv.bias
            out = conv.pointwise_conv2(out * torch.sigmoid(out - 1))
            x = x + torch.cat([out[a.chunk :], out[: a.chunk]])
            x = x + layer.feed_forward(x)
            x = x / (x.square().mean(1, keepdim=True) + layer.norm_final.eps.exp()).sqrt()
        yield x[a.right :].numpy()


@pytest.mark.parametrize("name", ["golden", *(n for n in OTHERS if OTHERS[n][-1])])
def test_masks_are_as_if_nothing_were_there(name: str) -> None:
    model = golden(True) if name == "golden" else other(name)
    features = noise(model, chunks(model))
    for (out, *_), wanted in zip(
        stream(model, features), by_growing_lists(model, features), strict=True
    ):
        assert_close(out, wanted, 1e-5)


def test_recordings_side_by_side() -> None:
    """A batch gives what one after the other gives."""
    model = golden(True)
    a = model.architecture
    single = list(stream(model, expected()["features"]))
    states = [torch.zeros(3, *state.shape) for state in a.states()]
    for i in range(3):
        x = torch.from_numpy(expected()["features"][i * a.hop :][: a.segment]).expand(3, -1, -1)
        if i == 1:  # the third begins anew, a chunk later than the others: its masks are its own
            states = [torch.cat([state[:2], torch.zeros_like(state[2:])]) for state in states]
        out, *states = model.encoder(x, *states)
        for row in (0, 1):
            assert_close(out[row].numpy(), single[i][0], 1e-5)
    restarted = list(stream(model, expected()["features"][a.hop :]))
    assert_close(out[2].numpy(), restarted[1][0], 1e-5)


# ncnn


def export(model: Transducer, folder: Path) -> layout.Files:
    """Trace and convert all parts to fp32, as the rules do."""
    files = layout.ncnn_files(folder)
    for part, pair in files.items():
        torchscript.trace(model, part, folder / f"{part}.pt")
        convert.convert(folder / f"{part}.pt", *pair)
    return files


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, layout.Files]:
    return {m: export(golden(m), tmp_path_factory.mktemp("golden")) for m in (False, True)}


Others = Callable[[str], layout.Files]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Others:
    return cache(lambda name: export(other(name), tmp_path_factory.mktemp("other")))


def ncnn_stream(
    files: layout.Files, a: ConvEmformer, features: np.ndarray
) -> Iterator[list[np.ndarray]]:
    """The encoder's outputs in ncnn, states handed back as they are, as sherpa-ncnn does."""
    network = Network(*files["encoder"])
    names = [f"out{i}" for i in range(1 + len(a.states()))]
    states = a.initial_states()
    for start in range(0, len(features) - a.segment + 1, a.hop):
        inputs = a.encoder_inputs(features[start : start + a.segment], states)
        outputs = network.run({f"in{i}": array for i, array in enumerate(inputs)}, names)
        states = outputs[1:]
        assert [state.shape for state in states] == [state.shape for state in a.states()]
        yield outputs


@MASKED
def test_ncnn_computes_what_the_recipe_does(
    exported: dict[bool, layout.Files], masked: bool
) -> None:
    wanted, kind = expected(), "masked_encoder_out" if masked else "encoder_out"
    a = of(golden(masked))
    for i, (out, *states) in enumerate(ncnn_stream(exported[masked], a, wanted["features"])):
        assert_close(out, wanted[f"chunk{i}_{kind}"], 1e-4)
        for k, state in enumerate(states) if not masked else ():
            if f"chunk{i}_state_out_{k}" in wanted:
                assert_close(state, wanted[f"chunk{i}_state_out_{k}"], 1e-4)
    assert i + 1 == STATED["chunks"]


def test_linear_layers_are_inner_products(exported: dict[bool, layout.Files]) -> None:
    """Pointwise convolutions too: int8 has no other form for them."""
    for files in exported.values():
        types = [layer.type for layer in param.read(files["encoder"][0]).layers]
        assert types.count("InnerProduct") == 1 + 9 * 3
        assert types.count("ConvolutionDepthWise1D") == 3
        assert not {"Convolution1D", "Gemm"} & set(types)


@EACH_OTHER
def test_ncnn_computes_what_pytorch_does(others: Others, name: str) -> None:
    model = other(name)
    features = noise(model, chunks(model))
    for wanted, found in zip(
        stream(model, features),
        ncnn_stream(others(name), of(model), features),
        strict=True,
    ):
        for a, b in zip(found, wanted, strict=True):
            assert_close(a, b, 1e-4)


@dataclasses.dataclass
class NcnnAsSherpa:
    """Plain ncnn with the options that sherpa-ncnn runs it with, which are its defaults."""

    files: layout.Files
    architecture: Architecture[Any, Any]

    def __post_init__(self) -> None:
        self._nets = {}
        for part, (graph, weights) in self.files.items():
            net = ncnn.Net()
            net.opt.num_threads = 1
            assert net.load_param(str(graph)) == 0
            assert net.load_model(str(weights)) == 0
            self._nets[part] = net

    def _run(self, part: str, *inputs: np.ndarray, outputs: int = 1) -> list[np.ndarray]:
        extractor = self._nets[part].create_extractor()
        # ncnn writes over inputs in this mode, and Python's are not its own.
        extractor.set_light_mode(False)
        mats = [ncnn.Mat(np.ascontiguousarray(array)) for array in inputs]
        for i, mat in enumerate(mats):
            assert extractor.input(f"in{i}", mat) == 0
        found = [extractor.extract(f"out{i}") for i in range(outputs)]
        assert all(status == 0 for status, _ in found)
        return [np.array(mat) for _, mat in found]

    def encode(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        frames, *states = self._run("encoder", *inputs, outputs=len(inputs))
        return frames, states

    def decode(self, context: Sequence[int]) -> np.ndarray:
        return self._run("decoder", np.array(context, dtype=np.int32))[0].reshape(-1)

    def join(self, frame: np.ndarray, decoder_out: np.ndarray) -> np.ndarray:
        return self._run("joiner", frame, decoder_out)[0]


def described(model: Transducer) -> dict[str, Any]:
    a = model.architecture
    return {
        "family": FAMILY.name,
        "sizes": dataclasses.asdict(a.sizes),
        "settings": dataclasses.asdict(a.settings),
    }


def assert_begins(tokens: list[int], wanted: list[int]) -> None:
    """The golden tokens were found with half a second of silence behind, which is less."""
    assert tokens[: len(wanted)] == wanted
    more = golden(True).architecture.tail_seconds - 0.5
    assert len(tokens) - len(wanted) <= more / 0.04 + of(golden(True)).chunk


def check_sherpa(
    exports: Mapping[str, layout.Files],
    models: Mapping[str, Transducer],
    recordings: dict[str, np.ndarray],
    folder: Path,
    decoding: Decoding,
) -> dict[str, list[list[int]]]:
    """Check that sherpa-ncnn's tokens are plain ncnn's; return them, by model."""
    for name, model in models.items():
        sherpa.check_layers(param.read(exports[name]["encoder"][0]), name)
        a = model.architecture
        described = {
            "sizes": dataclasses.asdict(a.sizes),
            "settings": dataclasses.asdict(a.settings),
        }
        delivery.deliver(
            exports[name], described | {"family": FAMILY.name}, FOLDER / "tokens.txt", folder / name
        )
    folders = [(str(folder / name), of(model).tail_seconds) for name, model in models.items()]
    by_sherpa = isolated.call(hearing.tokens, folders, recordings, decoding)
    for name, found in zip(models, by_sherpa, strict=True):
        plain = NcnnAsSherpa(exports[name], models[name].architecture)
        assert found == [search.decode(plain, samples, decoding) for samples in recordings.values()]
    return dict(zip(models, by_sherpa, strict=True))


@pytest.mark.parametrize("decoding", [GREEDY, BEAM], ids=["greedy", "beam"])
def test_sherpa_ncnn_runs_it(
    exported: dict[bool, layout.Files], tmp_path: Path, decoding: Decoding
) -> None:
    names = {"unmasked": False, "masked": True}
    found = check_sherpa(
        {name: exported[masked] for name, masked in names.items()},
        {name: golden(masked) for name, masked in names.items()},
        recordings(),
        tmp_path,
        decoding,
    )
    assert all(len(tokens) > 20 for by_model in found.values() for tokens in by_model)
    if decoding == GREEDY:
        # sherpa-ncnn computes with fp16 weights, so a few tokens are its own.
        greedy = json.loads((FOLDER / "expected-greedy.json").read_text())
        for name in names:
            wanted = [greedy[wav][name] for wav in recordings()]
            own = [recording["sherpa_ncnn_2_1_15"] for recording in wanted]
            for tokens, recording, other in zip(found[name], wanted, own, strict=True):
                assert_begins(tokens, recording["tokens"] if other == "same" else other)


def test_sherpa_ncnn_runs_others(others: Others, tmp_path: Path) -> None:
    some = dict(list(recordings().items())[:1])
    found = check_sherpa(
        {name: others(name) for name in OTHERS},
        {name: other(name) for name in OTHERS},
        some,
        tmp_path,
        GREEDY,
    )
    assert all(len(tokens) > 5 for by_model in found.values() for tokens in by_model)


@MASKED
def test_pytorch_hears_what_the_recipe_does(masked: bool) -> None:
    greedy = json.loads((FOLDER / "expected-greedy.json").read_text())
    for name, samples in recordings().items():
        wanted = greedy[name]["masked" if masked else "unmasked"]["tokens"]
        assert_begins(search.decode(TorchTransducer(golden(masked)), samples), wanted)


def test_the_tail_is_long_enough() -> None:
    """With chunk 64 and right context 16, half a second would leave 0.41 s of speech out."""
    model = other("higher latency")
    a = model.architecture
    lost = {}
    for tail in (0.5, a.tail_seconds):
        silent = int(tail / contract.FRAME_SECONDS)
        # sherpa-ncnn waits for a frame beyond a segment.
        segments = {
            frames: len(range(0, frames + silent - a.segment, a.hop))
            for frames in range(200, 200 + a.hop)
        }
        lost[tail] = max(frames - n * a.hop for frames, n in segments.items())
    assert lost[0.5] == 41
    assert lost[a.tail_seconds] <= -contract.EMISSION_DELAY_SECONDS / contract.FRAME_SECONDS

    assert last_of_speech_is_seen(lambda x: (out for out, *_ in stream(model, x)), a.tail_seconds)


# int8


@MASKED
def test_thresholds_are_the_real_tools(masked: bool) -> None:
    wanted = json.loads((FOLDER / "expected-int8-thresholds.json").read_text())
    wanted = wanted["masked" if masked else "unmasked"]
    batch = [(name, [samples]) for name, samples in recordings().items()]
    observed = observing.observe(golden(masked), [batch])
    histograms = {layer.layer: layer for part in observed.values() for layer in part}
    assert histograms.keys() == wanted.keys()
    for name, layer in wanted.items():
        found = input_scales([histograms[name]], Table())[0]
        assert found.absmax == pytest.approx(layer["max"], rel=1e-3), name
        assert found.threshold == pytest.approx(layer["threshold"], rel=1e-3), name
        assert found.scale == pytest.approx(layer["scale"], rel=1e-3), name


def test_any_weight_off_by_a_percent_is_refused(
    exported: dict[bool, layout.Files], tmp_path: Path
) -> None:
    arrays = reference.digest_weights(golden(True))
    for part, (graph, bin_) in exported[True].items():
        sound = proof.from_arrays(arrays, part)
        assert proof.check(graph, bin_, sound, "fp32") > 0
        for layer in values_changed(graph, bin_, tmp_path / "x.bin", (1.01,)):
            with pytest.raises(proof.Mismatch, match=re.escape(layer)):
                proof.check(graph, tmp_path / "x.bin", sound, "fp32")
