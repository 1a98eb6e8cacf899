"""What int8's gate refuses: faults planted in a sound model, one at a time.

    python -m benchmarks.planted_int8 [--manifest <table of recordings and transcripts>]

Needs the export of models/digits in int8-table, and its folder for sherpa-ncnn
(snakemake --cores 2 results/digits/sherpa-ncnn/int8-table), and leaves them as they are. In every
quantized layer, the scale of its input and those of its weights are multiplied by some factors and
swapped with another layer's, and its weights are made NaN and zero; the joiner is made to give NaN
and zero logits; and the model is calibrated on silence and on audio that is 60 dB too quiet. Prints
each fault, what refuses it, and the word error rates of what passes, streamed as sherpa-ncnn does:
on the test wavs, and on the manifest's recordings if there is one, such as the transcripts.tsv that
models/digits/training/test_set.py writes.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base import isolated, layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines import search
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.evaluation import scoring
from transducer2ncnn.families import model
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param, tokens, weights
from transducer2ncnn.formats.param import Layer
from transducer2ncnn.formats.weights import Block
from transducer2ncnn.quantization import (
    agreement,
    calibrated,
    gate,
    layerwise,
    observing,
    pairing,
    ranges,
    rounding,
    statistics,
    thresholds,
)
from transducer2ncnn.quantization.recipes import SHIPPED, Table
from transducer2ncnn.speech import audio, recordings
from transducer2ncnn.workflow.precisions import Gate as GateConfig

FACTORS = (0.01, 0.1, 1.5, 10.0)
#: By how much the calibration's audio is made quieter, in dB.
QUIETER = {"silence": np.inf, "audio 60 dB too quiet": 60.0}

#: Where a fault is that is in every layer.
EVERYWHERE = "all"

#: A layer's blocks → the faulty ones.
Change = Callable[[list[Block]], list[Block]]


@dataclass(frozen=True)
class Plant:
    """A fault: where, what, and what it makes of the blocks of which layers, by part and layer."""

    where: str
    what: str
    changes: Mapping[tuple[str, str], Change]


@dataclass(frozen=True)
class Result:
    """What became of a fault.

    Attributes:
        refused_by: the gates that refuse it.
        figures: what was compared; None where it was refused before.
    """

    plant: Plant
    refused_by: list[str]
    figures: dict[str, Any] | None


# Faults


def plants(files: layout.Files) -> Iterator[Plant]:
    """All faults of single layers, of the layers' scales swapped, and of the logits.

    Args:
        files: param and bin of each part, sound.
    """
    for part, (graph_file, bin_) in files.items():
        graph = param.read(graph_file)
        layers = dict(
            _scales_of(
                layerwise.holding_int8(zip(graph.layers, weights.read(graph, bin_), strict=True))
            )
        )
        for layer, scales in layers.items():
            where = f"{part} {layer}"
            for block, factor in itertools.product(scales, FACTORS):
                change = _on(block, _times(factor))
                yield Plant(where, f"{block} × {factor:g}", {(part, layer): change})
            nan = _on(next(iter(scales)), _times(np.nan))
            yield Plant(where, "scales NaN", {(part, layer): nan})
            yield Plant(
                where, "weights zero", {(part, layer): _on("weight", _times(0), exactly=False)}
            )
        for (one, of_one), (other, of_other) in itertools.combinations(layers.items(), 2):
            for block in sorted(of_one.keys() & of_other.keys()):
                if of_one[block].size == of_other[block].size:
                    changes = {
                        (part, one): _put(block, of_other[block]),
                        (part, other): _put(block, of_one[block]),
                    }
                    yield Plant(f"{part} {one}, {other}", f"{block} swapped", changes)
        for layer, scales in layers.items():
            if {"weight_xc_scales", "weight_hc_scales"} <= scales.keys():
                yield Plant(f"{part} {layer}", "lines swapped", {(part, layer): _swap_lstm})
    last = param.read(files["joiner"][0]).layers[-1].name
    nan = _on("bias", _times(np.nan))
    yield Plant(f"joiner {last}", "logits NaN", {("joiner", last): nan})
    zero = _on("", _times(0), exactly=False)
    yield Plant(f"joiner {last}", "logits zero", {("joiner", last): zero})


def recalibrated(
    checkpoint: str | Path, files: layout.Files, what: str, wavs: Iterable[np.ndarray]
) -> Plant:
    """int8 calibrated on audio.

    Raises:
        UserError: it cannot be.
    """
    network = model.load(checkpoint, "lstm")
    batch = [(f"recording {i}", [samples]) for i, samples in enumerate(wavs)]
    observed = observing.observe(network, [batch])
    changes = {}
    for part in observing.PARTS:
        graph_file = files[part][0]
        by_name = pairing.by_ncnn_name(param.read(graph_file), observed[part], graph_file)
        for layer, histogram in by_name.items():
            found = thresholds.input_scales([histogram], Table())[0]
            scale = np.array([found.scale], np.float32)
            changes[part, layer] = _put("input_scale", scale)
    return Plant(EVERYWHERE, f"calibrated on {what}", changes)


def quieter(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Samples as a 16-bit recording would hold them."""
    return (np.round(samples * 10 ** (-decibels / 20) * 2**15) / 2**15).astype(np.float32)


def planted(files: layout.Files, plant: Plant, folder: Path) -> layout.Files:
    """The files of a model with a fault, written to a folder where they differ."""
    result = dict(files)
    for part in {part for part, _ in plant.changes}:
        graph_file, bin_ = files[part]
        graph = param.read(graph_file)
        result[part] = (graph_file, folder / f"{part}.bin")
        sound = zip(graph.layers, weights.read(graph, bin_), strict=True)
        weights.write(
            result[part][1],
            [
                change(blocks) if (change := plant.changes.get((part, layer.name))) else blocks
                for layer, blocks in sound
            ],
        )
    return result


def _scales_of(
    layers: Iterable[tuple[Layer, list[Block]]],
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    for layer, blocks in layers:
        yield layer.name, {b.name: b.values for b in blocks if "scale" in b.name}


def _on(name: str, change: Callable[[np.ndarray], np.ndarray], exactly: bool = True) -> Change:
    """Change the values of the blocks of this name, or whose names begin so; scales aside."""

    def changed(blocks: list[Block]) -> list[Block]:
        return [
            dataclasses.replace(b, values=change(b.values).astype(b.values.dtype))
            if (b.name == name if exactly else b.name.startswith(name) and "scale" not in b.name)
            else b
            for b in blocks
        ]

    return changed


def _put(name: str, values: np.ndarray) -> Change:
    return _on(name, lambda _: values)


def _times(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: values * factor


def _swap_lstm(blocks: list[Block]) -> list[Block]:
    by_name = {b.name: b.values for b in blocks}
    pair = ("weight_xc_scales", "weight_hc_scales")
    other = dict(zip(pair, reversed(pair), strict=True))
    return [
        dataclasses.replace(b, values=by_name[other[b.name]]) if b.name in other else b
        for b in blocks
    ]


# The campaign, in a process of its own


class Gate:
    """The gate as the workflow has it, on recordings."""

    def __init__(
        self,
        fp32: layout.Files,
        description: dict[str, Any],
        heard: Mapping[str, np.ndarray],
        limits: gate.Limits,
        scales: Mapping[str, Mapping[str, float]],
    ) -> None:
        self._fp32, self._description, self._limits = fp32, description, limits
        self._heard, self._scales = heard, scales
        self._reference = agreement.Reference(fp32, description, heard)

    def judge(self, plant: Plant, files: layout.Files) -> Result:
        """What became of a fault. If it is another calibration, its scales are the right ones."""
        try:
            found = self._reference.compare(files).figures
        except agreement.NotFiniteError:
            return Result(plant, ["not finite"], None)
        examined = gate.Examined(
            found,
            ranges.measure(self._fp32, files, self._description, self._heard.values()),
            list(rounding.wrong_arrays(self._fp32, files)),
            {} if plant.where == EVERYWHERE else self._scales,
        )
        reasons = gate.refusals(examined, self._limits, "int8")
        return Result(plant, [name for name, _ in reasons], found)


def right_scales(results: Path, fp32: layout.Files) -> dict[str, dict[str, float]]:
    """The input scales that an export's calibration gives, by part and layer."""
    observed = statistics.load(sorted(results.glob("calibration/*.npz")))
    scales = {}
    for part, histograms in observed.items():
        graph, how = param.read(fp32[part][0]), SHIPPED["int8"].quantized[part]
        found = calibrated.inputs(graph, how, histograms, fp32[part][0])
        scales[part] = {name: x.scale for name, x in found.items()}
    return scales


def word_error_rate(
    files: layout.Files,
    description: dict[str, Any],
    symbols: list[str],
    said: Mapping[str, str],
    heard: Mapping[str, np.ndarray],
) -> float:
    """Of a free-running, streamed greedy search."""
    transducer = NcnnTransducer(files, described(description))
    texts = [tokens.to_text(search.decode(transducer, heard[name]), symbols) for name in said]
    errors = scoring.word_errors(list(said.values()), texts)
    return float(errors.errors.sum() / errors.words.sum())


def campaign(
    results: Path, digits: Path, manifests: Mapping[str, Path], limits: gate.Limits
) -> list[dict[str, Any]]:
    """Plant every fault in an export of models/digits.

    Args:
        results: the export, with fp32 and int8-table.
        digits: the model's folder.
        manifests: what is decoded with the models that pass, by a name for it.

    Returns:
        A row a fault: "where", "what", "refused_by" and, where it passes, its "wer" by manifest.
        The first one is the sound model.
    """
    fp32 = layout.ncnn_files(results / "ncnn" / "fp32")
    sound = layout.delivered_files(results / "sherpa-ncnn" / "int8-table")
    # Plain ncnn does not know the layer in front of the delivered encoder.
    sound["encoder"] = layout.ncnn_files(results / "ncnn" / "int8-table", "int8-table")["encoder"]
    description = json.loads((results / "model.json").read_text())
    symbols = tokens.read(results / "tokens.txt", description["sizes"]["vocab_size"])
    utterances = {name: recordings.check(path) for name, path in manifests.items()}
    heard = {u.wav: recordings.read(u) for u in utterances["test wavs"]}
    judge = Gate(fp32, description, heard, limits, right_scales(results, fp32))

    def wer(files: layout.Files) -> dict[str, float]:
        return {
            name: word_error_rate(
                files,
                description,
                symbols,
                {u.id: u.text for u in of_manifest},
                {u.id: recordings.read(u) for u in of_manifest},
            )
            for name, of_manifest in utterances.items()
        }

    def row(plant: Plant) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
            files = planted(sound, plant, Path(folder))
            result = judge.judge(plant, files)
            found = {"where": plant.where, "what": plant.what, "refused_by": result.refused_by}
            print(*found.values(), file=sys.stderr, flush=True)
            return found | ({} if result.refused_by else {"wer": wer(files)})

    rows = [row(Plant("nowhere", "nothing", {}))]
    rows += [row(plant) for plant in plants(sound)]
    wavs = [audio.read(wav) for wav in sorted(digits.glob("calibration_wavs/*.wav"))]
    for what, decibels in QUIETER.items():
        quiet = [quieter(samples, decibels) for samples in wavs]
        try:
            rows.append(row(recalibrated(digits / "pretrained.pt", sound, what, quiet)))
        except UserError as e:
            print(e, file=sys.stderr, flush=True)
            reason = {"where": EVERYWHERE, "what": f"calibrated on {what}"}
            rows.append(reason | {"refused_by": ["calibration"]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("results/digits"))
    parser.add_argument("--digits", type=Path, default=Path("models/digits"))
    parser.add_argument("--manifest", type=Path, help="more recordings to decode")
    args = parser.parse_args()

    manifests = {"test wavs": args.digits / "test_wavs" / "transcripts.tsv"}
    if args.manifest:
        manifests["manifest"] = args.manifest
    limits = gate.Limits(**GateConfig.model_validate({}).limits())
    # Not this file's own function: as a script, it is of no module that another process finds.
    from benchmarks import planted_int8

    rows = isolated.call(planted_int8.campaign, args.results, args.digits, manifests, limits)
    for x in rows:
        by = ", ".join(x["refused_by"]) or "passes"
        rates = "  ".join(f"{name} {rate:.2%}" for name, rate in x.get("wer", {}).items())
        print(f"{x['where']:<32} {x['what']:<28} {by:<32} {rates}".rstrip())
    refused = sum(bool(x["refused_by"]) for x in rows[1:])
    print(f"{refused} of {len(rows) - 1} faults are refused")


if __name__ == "__main__":
    main()
