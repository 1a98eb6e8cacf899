"""Layers in other formats: a rewritten graph equals the plain one, and int8 a hand computation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, Export, stored

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import ncnn_files
from transducer2ncnn.engines import search
from transducer2ncnn.engines.runtime import NcnnTransducer, Network
from transducer2ncnn.evaluation import transcription
from transducer2ncnn.export import delivery
from transducer2ncnn.families import model
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param, scale_table, tokens, weights
from transducer2ncnn.formats.param import Param, parse_layer
from transducer2ncnn.formats.scale_table import ScaleTable
from transducer2ncnn.formats.weights import Block, Weights
from transducer2ncnn.quantization import quantize
from transducer2ncnn.quantization.apply import apply, check_frames, rewritten
from transducer2ncnn.quantization.recipes import SHIPPED
from transducer2ncnn.speech import audio

INT8 = GOLDEN / "int8"

#: Recipes that need no calibration.
DYNAMIC = ("int8", "int8-accurate", "int8-small")


def formats_of(graph: Param, recipe: str, part: str = "encoder") -> dict[str, str]:
    how = SHIPPED[recipe].quantized[part]
    return how.assign((layer.name, layer.type) for layer in graph.layers)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def network(folder: Path, graph: Param, blocks: object) -> Network:
    folder.mkdir(exist_ok=True)
    param.write(folder / "x.param", graph)
    weights.write(folder / "x.bin", blocks)
    # What was written is what a reader expects, to the last byte and blob.
    weights.read(param.read(folder / "x.param"), folder / "x.bin")
    blobs = [blob for layer in graph.layers for blob in layer.outputs]
    assert len(blobs) == len(set(blobs))
    return Network(folder / "x.param", folder / "x.bin")


def one_layer(line: str, blocks: list[Block]) -> tuple[Param, Weights]:
    layer = parse_layer(line)
    inputs = [parse_layer(f"Input {blob} 0 1 {blob}") for blob in layer.inputs]
    count = len(layer.inputs) + len(layer.outputs)
    return Param((*inputs, layer), count), [*([] for _ in inputs), blocks]


LINEAR = "InnerProduct l 1 1 in0 out0 0=6 1=1 2=60"


def linear() -> tuple[Param, Weights]:
    return one_layer(LINEAR, [Block.tagged("weight", normal(60)), Block.bare("bias", normal(6))])


def dynamic(x: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """What ncnn makes of an input: int8 values, as fp32, and their one scale."""
    scale = np.float32(127) / np.abs(x).max()
    return np.clip(np.rint(x * scale), -127, 127), scale


def gemm_by_hand(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """weight (M, N) with a scale for each output, x (T, N) with one for all → (T, M)."""
    scales = np.float32(127) / np.abs(weight).max(axis=1)
    values, scale = dynamic(x)
    product: np.ndarray = values @ np.rint(weight * scales[:, None]).T / (scales * scale)
    return product


def stream(encoder: Network, export: Export, features: np.ndarray) -> list[np.ndarray]:
    """What the encoder gives of every segment, its states included."""
    lstm = export.architecture
    states, found = lstm.initial_states(), []
    for start in range(0, len(features) - lstm.segment + 1, lstm.hop):
        inputs = lstm.encoder_inputs(features[start : start + lstm.segment], states)
        blobs = {f"in{i}": array for i, array in enumerate(inputs)}
        out, *states = encoder.run(blobs, ["out0", "out2", "out3"])
        found += [out, *states]
    return found


def test_the_rewritten_encoder_is_the_plain_one(exported: Export, tmp_path: Path) -> None:
    files = exported.files("fp32")["encoder"]
    graph = param.read(files[0])
    blocks = weights.read(graph, files[1])
    new, own = rewritten(graph, blocks, formats_of(graph, "int8-small"))
    assert not {"InnerProduct", "LSTM"} & {layer.type for layer in new.layers}
    before, after = ({blob for x in g.layers for blob in x.outputs} for g in (graph, new))
    assert before < after  # whoever looks at a layer's output finds it
    encoder = network(tmp_path, new, own)
    features = normal(9 + 4 * 24, exported.sizes.feature_dim)
    streamed = stream(encoder, exported, features)
    for actual, plain in zip(streamed, stream(Network(*files), exported, features), strict=True):
        assert actual.shape == plain.shape
        np.testing.assert_allclose(actual, plain, rtol=0, atol=1e-5)
    # And what the recipe's own modules computed, from states that are not zero.
    golden = {key: value.squeeze() for key, value in exported.expected().items()}
    x, h, c = (golden[f"encoder_T9_{name}"] for name in ("x", "h0", "c0"))
    inputs = {f"in{i}": a for i, a in enumerate(exported.architecture.encoder_inputs(x, [h, c]))}
    outputs = encoder.run(inputs, ["out0", "out2", "out3"])
    for actual, name in zip(outputs, ("encoder_out", "h1", "c1"), strict=True):
        np.testing.assert_allclose(
            actual.squeeze(), golden[f"encoder_T9_{name}"], rtol=0, atol=1e-5
        )


def test_an_lstm_is_taken_apart_for_single_frames_only() -> None:
    formats = {"linear_1": "int8-dynamic", "lstm_1": "int8-apart"}
    check_frames(formats, frames_per_segment=1)
    with pytest.raises(UserError, match="lstm_1.*one frame a call.*puts out 8"):
        check_frames(formats, frames_per_segment=8)


#: Which of the joiner's three layers become Gemms: with the first two left, the third gets a
#: vector as well.
@pytest.mark.parametrize("chosen", [(0, 1, 2), (0,), (1,), (2,)])
def test_the_rewritten_joiner_takes_vectors_and_rows(
    exported: Export, tmp_path: Path, chosen: tuple[int, ...]
) -> None:
    files = exported.files("fp32")["joiner"]
    graph = param.read(files[0])
    names = [layer.name for layer in graph.layers if layer.type == "InnerProduct"]
    formats = dict.fromkeys([names[i] for i in chosen], "int8-dynamic")
    new, own = rewritten(graph, weights.read(graph, files[1]), formats)
    joiner = network(tmp_path, new, own)
    golden = exported.expected()
    encoder_out, decoder_out = golden["joiner_encoder_out"], golden["joiner_decoder_out"]
    (rows,) = joiner.run({"in0": encoder_out, "in1": decoder_out}, ["out0"])
    np.testing.assert_allclose(rows, golden["joiner_logit"], rtol=0, atol=1e-5)
    for frame, context, logit in zip(encoder_out, decoder_out, golden["joiner_logit"], strict=True):
        (out,) = joiner.run({"in0": frame, "in1": context}, ["out0"])
        np.testing.assert_allclose(out.reshape(-1), logit, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["InnerProduct", "Gemm"])
@pytest.mark.parametrize("format_", ["int8-dynamic", "int8-grouped"])
def test_a_linear_layer_by_hand(kind: str, bias: bool, format_: str, tmp_path: Path) -> None:
    weight, c, x = normal(6, 10), normal(6, seed=1), normal(5, 10, seed=2)
    if kind == "InnerProduct":
        line = f"InnerProduct l 1 1 in0 out0 0=6 1={int(bias)} 2=60"
        blocks = [Block.tagged("weight", weight.reshape(-1)), Block.bare("bias", c)]
    else:
        line = f"Gemm l 1 1 in0 out0 3=1 5=1 6=1 8=6 9=10 10={4 if bias else -1}"
        blocks = [Block.tagged("b", weight.reshape(-1)), Block.tagged("c", c)]
    graph, own = one_layer(line, blocks if bias else blocks[:1])
    added = c if bias else np.zeros(6, np.float32)
    (plain,) = network(tmp_path / "plain", *rewritten(graph, own, {"l": format_})).run(
        {"in0": x}, ["out0"]
    )
    np.testing.assert_allclose(plain, x @ weight.T + added, rtol=0, atol=1e-5)

    int8 = network(tmp_path / "int8", *apply(graph, own, {"l": format_}, "fp16"))
    # 10 inputs in 6 groups: four of two, then single ones.
    cuts = [2, 4, 6, 8, 9] if format_ == "int8-grouped" else []
    shares = list(zip(np.split(weight, cuts, axis=1), np.split(x, cuts, axis=1), strict=True))
    expected = sum(gemm_by_hand(w, part) for w, part in shares) + added
    (actual,) = int8.run({"in0": x}, ["out0"])
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    assert np.abs(actual - plain).max() > 1e-4
    # Alone, a row has a scale of its own.
    expected = sum(gemm_by_hand(w, part[:1]) for w, part in shares) + added
    (alone,) = int8.run({"in0": x[0]}, ["out0"])
    np.testing.assert_allclose(alone.reshape(1, -1), expected, rtol=0, atol=1e-5)


def test_weights_of_nothing_and_next_to_nothing(tmp_path: Path) -> None:
    weight = np.zeros((6, 10), np.float32)
    weight[1:] = 1e-39  # 127 over that is more than fp32 holds
    graph, own = one_layer(
        LINEAR, [Block.tagged("weight", weight.reshape(-1)), Block.bare("bias", normal(6))]
    )
    made = network(tmp_path, *apply(graph, own, {"l": "int8-dynamic"}, "fp16"))
    (out,) = made.run({"in0": np.zeros((2, 10), np.float32)}, ["out0"])
    np.testing.assert_array_equal(out, np.tile(normal(6), (2, 1)))
    *_, (_, _, scales) = weights.read(param.read(tmp_path / "x.param"), tmp_path / "x.bin")
    assert np.isfinite(scales.values).all()


def test_only_what_may_be_a_vector_is_made_a_row(tmp_path: Path) -> None:
    """Reshapes cost little, but an encoder's linear layers get rows anyway."""
    for part, expected in (("encoder", []), ("joiner", ["linear_1_rows", "linear_2_rows"])):
        graph = param.read(INT8 / f"{part}.ncnn.param")
        blocks = weights.read(graph, INT8 / f"{part}.ncnn.bin")
        new, _ = rewritten(graph, blocks, formats_of(graph, "int8-small", part))
        added = {x.name for x in new.layers if x.type == "Reshape"} - {x.name for x in graph.layers}
        assert sorted(added) == expected
    # Out of the middle of a graph too.
    (*inputs, layer), own = linear()[0].layers, linear()[1]
    flat = parse_layer("Reshape flat 1 1 in0 1 0=10")
    layer = parse_layer(layer.line.replace("in0", "1"))
    graph = Param((*inputs, flat, layer), 3)
    x = normal(2, 5)
    plain = network(tmp_path / "plain", graph, [[], *own]).run({"in0": x}, ["out0"])[0]
    made = network(tmp_path / "made", *rewritten(graph, [[], *own], {"l": "int8-dynamic"}))
    np.testing.assert_allclose(made.run({"in0": x}, ["out0"])[0][0], plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("projection", [True, False])
def test_a_step_of_an_lstm_by_hand(projection: bool, tmp_path: Path) -> None:
    inputs, hidden = 10, 6
    outputs = 4 if projection else hidden
    w_x, w_h, w_r = normal(24, inputs), normal(24, outputs, seed=1), normal(outputs, hidden, seed=2)
    bias = normal(24, seed=3)
    blocks = [
        Block.tagged("weight_xc", w_x.reshape(-1)),
        Block.tagged("bias", bias),
        Block.tagged("weight_hc", w_h.reshape(-1)),
    ]
    if projection:
        blocks.append(Block.tagged("weight_hr", w_r.reshape(-1)))
    line = f"LSTM l 3 3 in0 in1 in2 out0 out1 out2 0={outputs} 1={w_x.size} 2=0 3={hidden}"
    graph, own = one_layer(line, blocks)
    lstm = network(tmp_path, *apply(graph, own, {"l": "int8-apart"}, "fp16"))
    x, h, c = (normal(1, n, seed=n) for n in (inputs, outputs, hidden))

    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    gates = gemm_by_hand(w_x, x) + bias + gemm_by_hand(w_h, h)
    i, f, o, g = np.split(gates, 4, axis=1)
    cell = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    out = sigmoid(o) * np.tanh(cell)
    if projection:
        out = gemm_by_hand(w_r, out)
    found = lstm.run({"in0": x, "in1": h, "in2": c}, ["out0", "out1", "out2"])
    for actual, expected in zip(found, (out, out, cell), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    # A state of zeros, as at the start, has no largest value to take a scale from.
    start = {"in0": x, "in1": np.zeros_like(h), "in2": np.zeros_like(c)}
    i, _, _, g = np.split(gemm_by_hand(w_x, x) + bias, 4, axis=1)
    (found_cell,) = lstm.run(start, ["out2"])
    np.testing.assert_allclose(found_cell, sigmoid(i) * np.tanh(g), rtol=0, atol=1e-5)


@pytest.mark.parametrize("recipe", DYNAMIC)
def test_sherpa_ncnn_hears_what_plain_ncnn_hears(recipe: str, tmp_path: Path) -> None:
    plain = ncnn_files(tmp_path / "plain")
    for folder in ("plain", "ncnn"):
        (tmp_path / folder).mkdir()
    for part, pair in plain.items():
        for file in pair:  # as a folder for sherpa-ncnn has them
            shutil.copy(INT8 / f"{part}.ncnn{file.suffix}", file)
    files = stored(plain, SHIPPED[recipe], tmp_path / "ncnn")
    description = model.inspect(INT8 / "pretrained.pt", "lstm")[1]
    delivery.deliver(files, description, INT8 / "tokens.txt", tmp_path / "sherpa")
    wavs = sorted((INT8 / "wavs").glob("*.wav"))
    recordings = {wav.name: audio.read(wav) for wav in wavs}
    by_sherpa = transcription.sherpa_texts(
        tmp_path / "sherpa", recordings, threads=1, tail_seconds=0.5
    )
    architecture = described(description)
    symbols = tokens.read(INT8 / "tokens.txt", architecture.sizes.vocab_size)
    transducer = NcnnTransducer(files, architecture)
    by_ncnn = [tokens.to_text(search.decode(transducer, x), symbols) for x in recordings.values()]
    assert by_sherpa == by_ncnn
    assert all(len(text) > 10 for text in by_sherpa)
    # Both searches: a beam is made of the joiner's rows.
    beam = search.Decoding("modified_beam_search", 4)
    assert search.decode(transducer, recordings[wavs[0].name], beam)


def test_sizes_of_the_formats(tmp_path: Path) -> None:
    graph = param.read(INT8 / "encoder.ncnn.param")
    blocks = weights.read(graph, INT8 / "encoder.ncnn.bin")
    sizes = {}
    for name in DYNAMIC:
        path = tmp_path / name
        weights.write(path, apply(graph, blocks, formats_of(graph, name), "fp16")[1])
        sizes[name] = path.stat().st_size
    # int8-accurate holds one linear layer in two bytes a value; int8-small its projections in one.
    linear = next(x.integer(2) for x in graph.layers if x.type == "InnerProduct")
    assert 0.95 * linear < sizes["int8-accurate"] - sizes["int8"] < linear
    projections = sum(x.integer(0) * x.integer(3) for x in graph.layers if x.type == "LSTM")
    assert 0.7 * projections < sizes["int8"] - sizes["int8-small"] < projections


def test_the_first_convolution_may_use_the_whole_of_int8() -> None:
    graph = param.read(INT8 / "encoder.ncnn.param")
    blocks = weights.read(graph, INT8 / "encoder.ncnn.bin")
    as_the_tool = quantize.weight_scales(graph, blocks, {"Convolution", "LSTM"})
    spared = quantize.weight_scales(graph, blocks, {"Convolution", "LSTM"}, spare_headroom=True)
    first = "conv_5_param_0"  # 3×3, stride 1, 1 → 8 channels
    np.testing.assert_allclose(spared[first], as_the_tool[first] * (127 / 31), rtol=1e-6)
    for key in as_the_tool.keys() - {first}:
        np.testing.assert_array_equal(spared[key], as_the_tool[key])
    # ncnn runs these as Winograd, on x86 or on ARM: the headroom stays.
    for inputs, outputs in ((1, 9), (9, 1), (8, 8)):
        line = f"Convolution l 1 1 in0 out0 0={outputs} 1=3 5=0 6={9 * inputs * outputs}"
        wide = one_layer(line, [Block.tagged("weight", normal(9 * inputs * outputs))])
        found = [
            quantize.weight_scales(*wide, {"Convolution"}, spare_headroom=spare)["l_param_0"]
            for spare in (True, False)
        ]
        np.testing.assert_array_equal(*found)


def lstm_line(params: str, inputs: str = "in0 in1 in2", outputs: str = "out0 out1 out2") -> str:
    counts = f"{len(inputs.split())} {len(outputs.split())}"
    return f"LSTM l {counts} {inputs} {outputs} {params}"


@pytest.mark.parametrize(
    ("line", "formats", "rest", "message"),
    [
        (LINEAR, {"l": "int8-magic"}, "fp16", "no format 'int8-magic'.*int8-dynamic"),
        (LINEAR, {"m": "int8-dynamic"}, "fp16", "no layer m"),
        (LINEAR, {"l": "int8-apart"}, "fp16", "layer l is of type InnerProduct.*int8-dynamic"),
        (LINEAR, {"l": "int8"}, "fp16", "layer l is of type InnerProduct"),
        (LINEAR, {"l": "int8-table"}, "fp16", "layer l.*needs a scale table"),
        (LINEAR, {}, "int8-dynamic", "only as fp32 or fp16"),
        (LINEAR + " 9=1", {"l": "int8-dynamic"}, "fp16", r"layer l .* activation in it \(9=1\)"),
        (
            "Gemm l 1 1 in0 out0 3=0 5=1 6=1 8=6 9=10 10=4",
            {"l": "int8-dynamic"},
            "fp16",
            "layer l cannot be rewritten",
        ),
        (lstm_line("0=4 1=240 2=1 3=6"), {"l": "int8-apart"}, "fp16", "cannot be taken apart"),
        (
            lstm_line("0=4 1=240 3=6", "in0", "out0"),
            {"l": "int8-apart"},
            "fp16",
            "cannot be taken apart.*state as inputs",
        ),
    ],
)
def test_what_is_refused(line: str, formats: dict[str, str], rest: str, message: str) -> None:
    blocks = [Block.tagged("weight", normal(60)), Block.bare("bias", normal(6))]
    with pytest.raises(UserError, match=message):
        apply(*one_layer(line, blocks), formats, rest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.weights.clear(), "no scales linear_1_param_0"),
        (lambda t: t.inputs.pop("linear_1"), "no input scale of linear_1"),
        (lambda t: t.inputs.update(nowhere=1.0), "no layer nowhere"),
    ],
)
def test_a_table_that_does_not_fit(change: Callable[[ScaleTable], object], message: str) -> None:
    graph = param.read(INT8 / "joiner.ncnn.param")
    blocks = weights.read(graph, INT8 / "joiner.ncnn.bin")
    table = scale_table.read(INT8 / "joiner-scale-table.txt")
    apply(graph, blocks, {"linear_1": "int8-table"}, "fp16", table)  # others it may have
    change(table)
    with pytest.raises(UserError, match=f"table does not fit.*{message}"):
        apply(graph, blocks, {"linear_1": "int8-table"}, "fp16", table)


def test_weights_that_are_rounded_already() -> None:
    graph, _ = linear()
    halved = [Block.tagged("weight", normal(60).astype("<f2")), Block.bare("bias", normal(6))]
    with pytest.raises(UserError, match="layer l is fp16 already; expected a network in fp32"):
        apply(graph, [[], halved], {"l": "int8-dynamic"}, "fp16")
