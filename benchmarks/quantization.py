"""What each way to store a model costs in fidelity and size, streamed over connected real digits.

    python -m benchmarks.quantization results/digits --fsdd <Free Spoken Digit Dataset>
    python -m benchmarks.quantization --full-size

The first takes a model that was exported with fp32 and int8, and decodes utterances joined from
recordings that its training left out (models/digits/training/test_set.py). Every variant runs a
segment at a time with its own states, as sherpa-ncnn runs it, and meets the tokens that fp32 finds.
Printed are the signal-to-noise ratio of the encoder's output, the mean divergence of the joiner's
posteriors, the frames with another best token (in brackets: of those in which fp32 emits one), and
the encoder's size. The second gives the sizes of an encoder as large as icefall's for LibriSpeech.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.full_size import FULL_SIZE, ROOT, write_random_checkpoint
from transducer2ncnn.base.layout import PARTS, Files, ncnn_files
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import scale_table
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.formats.param import Param
from transducer2ncnn.formats.scale_table import ScaleTable
from transducer2ncnn.formats.sherpa import BLANK, NEVER_EMITTED
from transducer2ncnn.quantization import quantize
from transducer2ncnn.quantization.apply import apply, layers_of
from transducer2ncnn.speech.features import SAMPLE_RATE, fbank, silence

#: Utterances, which is about 23,000 frames.
UTTERANCES = 187


@dataclass(frozen=True)
class Variant:
    """A format by type of layer; where the type has none, fp16."""

    by_type: dict[str, str]
    #: In place of that for the linear layer behind the convolutions.
    embedding: str | None = None
    #: Whether the first convolution uses the whole of int8.
    spare_headroom: bool = False

    def formats(self, part: str, graph: Param) -> dict[str, str]:
        formats = {x.name: self.by_type[x.type] for x in graph.layers if x.type in self.by_type}
        if self.embedding and part == "encoder":
            first = next(x.name for x in graph.layers if x.type == "InnerProduct")
            formats[first] = self.embedding
        return formats


TABLE = dict.fromkeys(("Convolution", "InnerProduct", "LSTM"), "int8-table")
DYNAMIC = {"InnerProduct": "int8-dynamic", "LSTM": "int8"}
APART = DYNAMIC | {"LSTM": "int8-apart"}
VARIANTS = {
    "fp16": Variant({}),
    "int8-table": Variant(TABLE),
    "int8-table, first convolution at 127": Variant(TABLE, spare_headroom=True),
    "int8, one scale for the embedding": Variant(DYNAMIC),
    "int8": Variant(DYNAMIC, embedding="int8-grouped"),
    "int8-small": Variant(APART, embedding="int8-grouped"),
    "int8-accurate": Variant(DYNAMIC, embedding="fp16"),
    "int8-accurate, LSTM apart": Variant(APART, embedding="fp16"),
}


def store(fp32: Files, variant: Variant, tables: dict[str, ScaleTable], folder: Path) -> Files:
    """Write a variant of a model."""
    files = ncnn_files(folder)
    for part in PARTS:
        graph = param_file.read(fp32[part][0])
        blocks = weights_file.read(graph, fp32[part][1])
        formats = variant.formats(part, graph)
        table = tables.get(part)
        if table and variant.spare_headroom:
            scales = quantize.weight_scales(
                graph, blocks, set(TABLE), set(formats) - layers_of(table), spare_headroom=True
            )
            table = ScaleTable(scales, table.inputs)
        stored, made = apply(graph, blocks, formats, "fp16", table)
        param_file.write(files[part][0], stored)
        weights_file.write(files[part][1], made)
    return files


@dataclass
class Fidelity:
    """How far a variant is from fp32, gathered frame by frame."""

    frames: int = 0
    differing: int = 0
    differing_emitting: int = 0
    signal: float = 0.0
    noise: float = 0.0
    divergences: list[float] = field(default_factory=list)

    def add_encoder(self, expected: np.ndarray, actual: np.ndarray) -> None:
        self.signal += float(np.sum(expected.astype(np.float64) ** 2))
        self.noise += float(np.sum((actual.astype(np.float64) - expected) ** 2))

    def add_joiner(self, expected: np.ndarray, actual: np.ndarray) -> None:
        self.frames += 1
        if expected.argmax() != actual.argmax():
            self.differing += 1
            self.differing_emitting += int(expected.argmax()) not in NEVER_EMITTED
        p, q = (_log_softmax(x.astype(np.float64)) for x in (expected, actual))
        self.divergences.append(float(np.sum(np.exp(p) * (p - q))))

    def line(self) -> str:
        snr = 10 * np.log10(self.signal / self.noise)
        kl = 1e3 * np.mean(self.divergences)
        return f"{snr:8.1f} {kl:10.3f} {self.differing:6} ({self.differing_emitting})"


def _log_softmax(x: np.ndarray) -> np.ndarray:
    shifted: np.ndarray = x - x.max()
    shifted -= np.log(np.sum(np.exp(shifted)))
    return shifted


def encode(model: NcnnTransducer, features: np.ndarray) -> Iterator[np.ndarray]:
    """The frames that come out of a recording, a segment at a time."""
    architecture = model.architecture
    states = architecture.initial_states()
    for start in range(0, len(features) - architecture.segment, architecture.hop):
        segment = features[start : start + architecture.segment]
        frames, states = model.encode(architecture.encoder_inputs(segment, states))
        yield from frames


def compare(
    reference: NcnnTransducer, variants: dict[str, NcnnTransducer], utterances: list[np.ndarray]
) -> dict[str, Fidelity]:
    """How far each variant is from the reference."""
    found = {name: Fidelity() for name in variants}
    sizes = reference.architecture.sizes
    context_size = sizes.context_size
    tail = silence(reference.architecture.tail_seconds)
    for samples in utterances:
        features = fbank(np.concatenate([samples, tail]), sizes.feature_dim)
        streams = [encode(model, features) for model in variants.values()]
        tokens = [BLANK] * context_size
        models = [reference, *variants.values()]
        decoded = [model.decode(tokens) for model in models]
        for frame, *others in zip(encode(reference, features), *streams, strict=True):
            expected = reference.join(frame, decoded[0])
            for (name, model), other, context in zip(
                variants.items(), others, decoded[1:], strict=True
            ):
                found[name].add_encoder(frame, other)
                found[name].add_joiner(expected, model.join(other, context).reshape(-1))
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
        part: scale_table.read(results / f"ncnn/int8/{part}-scale-table.txt")
        for part in ("encoder", "joiner")
    }
    utterances = connected_digits(fsdd, count)
    files = {
        name: store(fp32, v, tables, work / str(i)) for i, (name, v) in enumerate(VARIANTS.items())
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

    checkpoint = work / "pretrained.pt"
    write_random_checkpoint(checkpoint, FULL_SIZE)
    network = model.load(checkpoint, "lstm")
    fp32 = ncnn_files(work / "fp32")
    for part in PARTS:
        torchscript.trace(network, part, work / f"{part}.pt")
        convert.convert(work / f"{part}.pt", *fp32[part], fp16=False)
    for name, variant in VARIANTS.items():
        if TABLE.items() <= variant.by_type.items():
            continue  # no table without speech; benchmarks.int8 has one
        files = store(fp32, variant, {}, work / "stored")
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
