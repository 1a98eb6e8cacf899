"""What each way to store a model costs in fidelity and size, streamed over connected real digits.

    python -m benchmarks.quantization results/digits --fsdd <Free Spoken Digit Dataset>
    python -m benchmarks.quantization --full-size

The first takes a model that was exported with fp32 and int8-table, and decodes utterances joined
from recordings that its training left out (models/digits/training/test_set.py). Every variant runs
a segment at a time with its own states, as sherpa-ncnn runs it, and meets the tokens that fp32
finds. Printed are the signal-to-noise ratio of the encoder's output, the mean divergence of the
joiner's posteriors, the frames with another best token (in brackets: of those in which fp32 emits
one), and the encoder's size. The second gives the sizes of an encoder as large as icefall's for
LibriSpeech.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.measuring import ROOT
from benchmarks.random_models import write_model
from transducer2ncnn.base.layout import PARTS, Files, ncnn_files
from transducer2ncnn.engines import search
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import scale_table
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.formats.param import Param
from transducer2ncnn.formats.scale_table import ScaleTable
from transducer2ncnn.formats.sherpa import BLANK, NEVER_EMITTED
from transducer2ncnn.quantization import agreement, quantize
from transducer2ncnn.quantization.apply import apply
from transducer2ncnn.quantization.layer_formats import Int8Table
from transducer2ncnn.quantization.noise import Noise
from transducer2ncnn.quantization.recipes import SHIPPED, Recipe
from transducer2ncnn.speech.features import SAMPLE_RATE
from transducer2ncnn.workflow.precisions import Quantized

#: Utterances, which is about 23,000 frames.
UTTERANCES = 187


def _changed(recipe: str, **changes: object) -> Recipe:
    return Quantized.model_validate({"recipe": recipe, **changes}).to_recipe()


#: What ships, but for the reference; and what shows why it is as it is.
VARIANTS = {name: recipe for name, recipe in SHIPPED.items() if name != "fp32"} | {
    "int8-table, first convolution at 127": _changed("int8-table", spare_headroom=True),
    "int8-table, convolutions in fp16": _changed("int8-table", encoder={"Convolution": "fp16"}),
    "int8, one scale for the embedding": _changed(
        "int8", encoder={"InnerProduct#1": "int8-dynamic"}
    ),
    "int8-accurate, LSTM apart": _changed("int8-accurate", encoder={"LSTM": "int8-apart"}),
}


def store(fp32: Files, recipe: Recipe, tables: dict[str, ScaleTable], folder: Path) -> Files:
    """Write a variant of a model.

    Args:
        tables: of the parts that calibration found the input scales of.
    """
    files = ncnn_files(folder)
    for part in PARTS:
        graph = param_file.read(fp32[part][0])
        blocks = weights_file.read(graph, fp32[part][1])
        how = recipe.quantized_parts.get(part)
        if how is None:
            stored, made = apply(graph, blocks, {}, recipe.plain[part])
        else:
            formats = how.assign((layer.name, layer.type) for layer in graph.layers)
            table = None
            if how.has_table:
                inputs = tables[part].inputs
                table = _table(graph, blocks, formats, inputs, how.table.spare_headroom)
            stored, made = apply(graph, blocks, formats, how.rest, table)
        param_file.write(files[part][0], stored)
        weights_file.write(files[part][1], made)
    return files


def _table(
    graph: Param,
    blocks: weights_file.Weights,
    formats: dict[str, str],
    inputs: dict[str, float],
    spare_headroom: bool,
) -> ScaleTable:
    """The scale table of the layers that are stored by one."""
    others = [x.name for x in graph.layers if formats.get(x.name) != Int8Table.NAME]
    types = set(quantize.QUANTIZED)
    scales = quantize.weight_scales(graph, blocks, types, others, spare_headroom)
    return ScaleTable(scales, {name: x for name, x in inputs.items() if name not in others})


@dataclass
class Fidelity:
    """How far a variant is from fp32, gathered frame by frame."""

    frames: int = 0
    differing: int = 0
    differing_emitting: int = 0
    divergence: float = 0.0
    encoder_out: Noise = field(default_factory=Noise)

    def add_logits(self, expected: np.ndarray, actual: np.ndarray) -> None:
        """Count what the joiner makes of a frame, (vocab_size,) each."""
        expected, actual = expected.astype(np.float64), actual.astype(np.float64)
        self.frames += 1
        self.divergence += agreement.divergence(expected, actual)
        if expected.argmax() != actual.argmax():
            self.differing += 1
            self.differing_emitting += int(expected.argmax()) not in NEVER_EMITTED

    def line(self) -> str:
        kl = 1e3 * self.divergence / self.frames
        differing = f"{self.differing} ({self.differing_emitting})"
        return f"{self.encoder_out.snr_db:8.1f} {kl:10.3f} {differing:>9}"


def compare(
    reference: NcnnTransducer, variants: dict[str, NcnnTransducer], utterances: list[np.ndarray]
) -> dict[str, Fidelity]:
    """How far each variant is from the reference."""
    found = {name: Fidelity() for name in variants}
    context_size = reference.architecture.sizes.context_size
    models = [reference, *variants.values()]
    for samples in utterances:
        tokens = [BLANK] * context_size
        decoded = [model.decode(tokens) for model in models]
        streams = [search.encoded(model, samples) for model in models]
        for frame, *others in zip(*streams, strict=True):
            expected = reference.join(frame, decoded[0])
            for (name, model), other, context in zip(
                variants.items(), others, decoded[1:], strict=True
            ):
                found[name].encoder_out.add(other, frame)
                found[name].add_logits(expected, model.join(other, context))
            token = int(expected.argmax())
            if token not in NEVER_EMITTED:
                tokens.append(token)
                decoded = [model.decode(tokens[-context_size:]) for model in models]
    return found


def connected_digits(fsdd: Path, count: int) -> list[np.ndarray]:
    # The training's modules import each other by their bare names.
    sys.path.insert(0, str(ROOT / "models/digits/training"))
    from test_set import connected_digits

    return [samples for _, samples, _ in connected_digits(fsdd, count)]


def measure_fidelity(results: Path, fsdd: Path, count: int, work: Path) -> None:
    architecture = described(json.loads((results / "model.json").read_text()))
    fp32 = ncnn_files(results / "ncnn/fp32")
    tables = {
        part: scale_table.read(results / f"ncnn/int8-table/{part}-scale-table.txt")
        for part in ("encoder", "joiner")
    }
    utterances = connected_digits(fsdd, count)
    files = {
        name: store(fp32, x, tables, work / str(i)) for i, (name, x) in enumerate(VARIANTS.items())
    }
    variants = {name: NcnnTransducer(x, architecture) for name, x in files.items()}
    found = compare(NcnnTransducer(fp32, architecture), variants, utterances)
    frames = next(iter(found.values())).frames
    seconds = sum(map(len, utterances)) / SAMPLE_RATE
    print(f"{len(utterances)} utterances, {seconds:.0f} s, {frames} frames")
    print(f"{'variant':<40} {'SNR (dB)':>8} {'KL (1e-3)':>10} {'differ':>9} {'encoder (KiB)':>14}")
    for name, fidelity in found.items():
        size = files[name]["encoder"][1].stat().st_size / 1024
        print(f"{name:<40} {fidelity.line()} {size:>12.0f}")


def measure_sizes(work: Path) -> None:
    from transducer2ncnn.export import convert, torchscript
    from transducer2ncnn.families import model

    write_model(work)
    network = model.load(work / "pretrained.pt", "lstm")
    fp32 = ncnn_files(work / "fp32")
    for part in PARTS:
        torchscript.trace(network, part, work / f"{part}.pt")
        convert.convert(work / f"{part}.pt", *fp32[part])
    for name, recipe in VARIANTS.items():
        if recipe.calibrated:
            continue  # no table without speech; benchmarks.int8 has one
        files = store(fp32, recipe, {}, work / "stored")
        size = {part: files[part][1].stat().st_size / 1e6 for part in PARTS}
        print(f"{name:<40} encoder {size['encoder']:.2f} MB, joiner {size['joiner']:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="?", type=Path, help="a model's folder of results")
    parser.add_argument("--fsdd", type=Path, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--utterances", type=int, default=UTTERANCES)
    parser.add_argument("--full-size", action="store_true", help="sizes of a random large model")
    args = parser.parse_args()
    if not args.full_size and not (args.results and args.fsdd):
        parser.error("a model's folder of results and --fsdd are needed, or --full-size")
    with tempfile.TemporaryDirectory() as folder:
        if args.full_size:
            measure_sizes(Path(folder))
        else:
            measure_fidelity(args.results, args.fsdd, args.utterances, Path(folder))


if __name__ == "__main__":
    main()
