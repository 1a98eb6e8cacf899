"""A model's artifacts with made-up figures, in the formats that the report reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("encoder", "decoder", "joiner")
PRECISIONS = ("fp32", "fp16", "int8")
#: Bytes of each part's bin, by precision.
SIZES = {
    "fp32": (4495872, 11912, 130688),
    "fp16": (2250608, 5960, 65920),
    "int8": (1217256, 5960, 34688),
}
CHECKPOINT_SIZE = 4662343
ERRORS = {"fp32": 3, "fp16": 4, "int8": 6}


def description() -> dict[str, Any]:
    return {
        "family": "lstm",
        "sizes": {"feature_dim": 80, "num_encoder_layers": 2, "vocab_size": 29},
        "settings": {},
        "settings_from": {},
        "remarks": [],
        "parameters": {"encoder": 1126000, "decoder": 2976, "joiner": 32669, "total": 1161645},
    }


def rules() -> dict[str, Any]:
    edges = [
        ("inspect_checkpoint", "trace"),
        ("inspect_checkpoint", "convert"),
        ("trace", "convert"),
        ("convert", "verify"),
        ("verify", "deliver"),
    ]
    return {"rules": sorted({rule for edge in edges for rule in edge}), "edges": edges}


def sha256(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def manifest() -> dict[str, Any]:
    delivered = {}
    for precision in PRECISIONS:
        folder, int8 = f"sherpa-ncnn/{precision}", ".int8" if precision == "int8" else ""
        for part, size in zip(PARTS, SIZES[precision], strict=True):
            stem = f"{folder}/{part}_jit_trace-pnnx.ncnn{int8 if part != 'decoder' else ''}"
            delivered[f"{stem}.param"] = {"size": 5671, "sha256": sha256(stem)}
            delivered[f"{stem}.bin"] = {"size": size, "sha256": sha256(stem + "b")}
        delivered[f"{folder}/tokens.txt"] = {"size": 213, "sha256": sha256(folder)}
    return {
        "model": "digits",
        "source": {
            "kind": "huggingface",
            "repo_id": "someone/icefall-asr-digits-lstm-transducer",
            "revision": "main",
            "commit": "8c7d91b1b3d7a4bd0e0d7c5c2d54d1c7a4c0be2f",
            "chosen": {"use_averaged_model": True, "epoch": 40, "avg": 9},
            "files": {
                "exp/pretrained-epoch-40-avg-9.pt": {
                    "size": CHECKPOINT_SIZE,
                    "sha256": sha256("checkpoint"),
                },
                "data/lang_bpe_500/tokens.txt": {"size": 213, "sha256": sha256("tokens")},
            },
        },
        **description(),
        "versions": {
            "transducer2ncnn": "0.1",
            "torch": "2.13.0",
            "pnnx": "20260526",
            "ncnn": "1.0.20261020",
            "sherpa-ncnn": "2.1.15",
        },
        "config": {
            "family": "lstm",
            "precisions": {
                "fp32": {"tolerance": 1e-4},
                "fp16": {"tolerance": 2e-2},
                "int8": {"encoder": "int8", "decoder": "fp16", "joiner": "int8", "keep": {}},
            },
            "verification": {"lengths": [9, 10, 39, 403], "segments": 50},
        },
        "gates": {
            precision: {
                "verification": {},
                "evaluation": {
                    "limits": {"max_rise": 2.0 if precision == "int8" else None},
                    "outcome": "passed" if precision == "int8" else "not limited",
                },
            }
            for precision in PRECISIONS
        },
        "warnings": [],
        "delivered": delivered,
    }


def verification(precision: str) -> dict[str, Any]:
    if precision == "int8":
        loss = {
            "emitting_frames": 60,
            "differing_frames": 1,
            "agreement": 0.98333,
            "divergence": 0.0034,
            "same_best_token": 0.9989,
            "max_difference": 2.78,
            "mean_difference": 0.0660614,
        }
        none = {
            "emitting_frames": 59,
            "differing_frames": 0,
            "agreement": 1.0,
            "divergence": 2e-9,
            "same_best_token": 1.0,
            "max_difference": 0.005,
            "mean_difference": 0.0016348,
        }
        limits = {"min_agreement": 0.9, "max_token_edits": 0.05}
        limits |= {"min_input_snr": 3.0, "require_speech": True}
        return {
            "limits": limits,
            "proves_nothing": False,
            "warnings": [],
            "recordings": 12,
            "seconds": 31.1,
            "frames": 905,
            "fp32_tokens": 59,
            "token_edits": 1,
            "token_edit_rate": 0.01695,
            "encoder_snr_db": 24.3,
            "parts": {"encoder": loss, "decoder": none, "joiner": none},
            "all": loss,
            "as_run": {"seconds": 10.0, "tokens": 20, "token_edits": 0},
        }
    factor = 1 if precision == "fp32" else 1400
    own = {"encoder": 1.0e-3, "decoder": 1.9e-4, "joiner": 3.9e-4}
    return {
        "tolerance": 1e-4 if precision == "fp32" else 2e-2,
        "as_run": {
            "tolerance": 2e-2,
            "segments": 10,
            "errors": own,
            "allowed": dict.fromkeys(PARTS, 2e-2),
        },
        "parts": {
            part: {
                "max_error": error * factor,
                "allowed": 1e-4 if precision == "fp32" else 2e-2,
                "worst_blob": {
                    "run": "403 frames",
                    "blob": "85",
                    "place": "input of InnerProduct linear_12, Linear "
                    "encoder.layers.1.feed_forward.4 in PyTorch",
                },
                "max_output_error": 0.97 * error * factor,
                "blobs_compared": 296,
                "max_error_by_run": {"403 frames": error * factor},
                "weights_proven": 1000,
                "beyond_tolerance": [],
            }
            for part, error in zip(PARTS, (1.755e-6, 1.16e-7, 4.41e-7), strict=True)
        },
    }


def headroom(warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    def entry(kind: str, blob: str, layer: str, module: str, largest: float) -> dict[str, Any]:
        return {
            "part": "encoder",
            "blob": blob,
            "kind": kind,
            "layer": layer,
            "module": module,
            "normed": kind == "input of a norm",
            "largest": largest,
            "recording": "models/digits/test_wavs/2.wav",
        } | ({"square": largest**2} if kind == "input of a norm" else {})

    kinds = [
        entry(
            "input of a norm", "35", "InnerProduct linear_8", "Linear encoder_embed.out", 51.676544
        ),
        entry("cell state of an LSTM", "78", "LSTM lstm_14", "LSTM encoder.layers.1.lstm", 17.25),
    ]
    return {
        "limit": 65504.0,
        "warn_below": 4.0,
        "speech": True,
        "seconds": 30.7,
        "kinds": kinds,
        "near": [],
        "warnings": list(warnings),
        "blobs": kinds,
    }


def on_target(warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    errors = {"encoder": 1.01e-2, "decoder": 3.8e-4, "joiner": 2.2e-3}
    texts = [{"wav": "0.wav", "target": "SIX", "x86": "SIX"}]
    of_one = {
        "errors": errors,
        "errors_on_x86": {part: error / 10 for part, error in errors.items()},
        "allowed": dict.fromkeys(errors, 2e-2),
        "texts": texts,
        "same_texts": 1,
        "failures": [],
        "passed": True,
    }
    return {
        "warnings": list(warnings),
        "passed": True,
        "cpu": "cortex-a76",
        "tolerance": 2e-2,
        "features": {"neon": True, "asimdhp": True, "sve": False},
        "ncnn": "1.0.20261020",
        "seconds": 2.3,
        "recordings": 1,
        "segments": 50,
        "precisions": {"fp32": of_one},
    }


def rate(errors: int, of: int, **counts: int) -> dict[str, Any]:
    return {
        "rate": errors / of,
        "low": max(0, errors - 3) / of,
        "high": (errors + 4) / of,
        **counts,
    }


def evaluation(precision: str) -> dict[str, Any]:
    def errors(n: int) -> dict[str, Any]:
        counts = {"substitutions": n - 1, "deletions": 1, "insertions": 0}
        rates = {"wer": rate(n, 240, **counts), "cer": rate(n, 1100, **counts)}
        return rates | {"ser": rate(n, 48, wrong=n)}

    rise = (ERRORS[precision] - ERRORS["fp32"]) / 240
    differences = [
        {
            "id": f"utterance-{i}",
            "wav": f"models/digits/test_wavs/{i}.wav",
            "reference": "seven oh three nine one",
            "pytorch": "seven oh three nine one",
            "sherpa_ncnn": heard,
            "errors": errors,
            "pytorch_errors": 0,
            "token_edits": edits,
        }
        for i, (heard, errors, edits) in enumerate(
            [("seven three nine nine one", 2, 6), ("seven oh free nine one", 1, 3), ("", 5, 17)]
        )
    ]
    return {
        "precision": precision,
        "decoding": "greedy_search",
        "utterances": 48,
        "words": 240,
        "seconds": 133.1,
        "unit": "word",
        "normalised": {"case": True, "punctuation": False, "full_width": True},
        "decoded_bytes": None,
        "lost": None,
        "warnings": [],
        **errors(ERRORS[precision]),
        "pytorch": errors(ERRORS["fp32"]),
        "rise": {
            "rate": rise,
            "low": rise - 0.004,
            "high": rise + 0.0115,
            "significant": precision == "int8",
        },
        "agreement": {
            "tokens": 960,
            "same": 955,
            "rate": 955 / 960,
            "utterances": 48,
            "identical": 45,
        },
        "differences": [] if precision == "fp32" else differences,
    }


def comparison() -> dict[str, Any]:
    pairs = [("fp32", "fp16"), ("fp32", "int8"), ("fp16", "int8")]
    differences = [((ERRORS[b] - ERRORS[a]) / 240, a, b) for a, b in pairs]
    return {
        "pairs": [
            {"a": a, "b": b, "difference": x, "low": x - 0.008, "high": x + 0.01}
            | {"significant": False}
            for x, a, b in differences
        ]
    }


def speed() -> dict[str, Any]:
    def spread(median: float) -> dict[str, float]:
        return {"median": median, "min": 0.93 * median, "max": 1.12 * median}

    return {
        "threads": 1,
        "rounds": 3,
        "seconds": 133.1,
        "decoding": "greedy_search",
        "cpu": "A Processor With a Long Name (R) Model 8488 @ 2.40GHz",
        "precisions": {
            precision: {
                "real_time_factor": spread(factor),
                "first_token_latency": spread(1 + 10 * factor),
                "peak_memory_mb": spread(memory),
                "load_seconds": spread(0.04),
            }
            for precision, factor, memory in (
                ("fp32", 0.0212, 61.0),
                ("fp16", 0.0208, 66.2),
                ("int8", 0.0139, 48.5),
            )
        },
    }


def quantization(lstms: int = 2) -> dict[str, Any]:
    """A model's layers, as many as it has LSTMs."""
    rng = np.random.default_rng(0)

    def layer(part: str, name: str, kind: str, module: str, snr: float) -> dict[str, Any]:
        absmax = float(rng.uniform(2, 16))
        threshold = absmax * float(rng.uniform(0.4, 1))
        shares = np.exp(-np.linspace(0, rng.uniform(3, 14), 64)) * rng.uniform(0.7, 1, 64)
        quantized_input = {
            "absmax": absmax,
            "threshold": threshold,
            "scale": 127 / threshold,
            "clipped": 0.000789,
            "histogram": (shares / shares.sum()).tolist(),
        }
        scales = {"scales": 128, "smallest": 187.3, "largest": 1162.2}
        return {
            "part": part,
            "name": name,
            "type": kind,
            "pytorch_type": {"LSTM": "LSTM", "Convolution": "Conv2d"}.get(kind, "Linear"),
            "pytorch_name": module,
            "stored_as": kind,
            "weight_scales": {"0": scales, "1": scales} if kind == "LSTM" else {"0": scales},
            "input": None if kind == "LSTM" else quantized_input,
            "alone": {"snr_db": snr, "relative_error": 10 ** (-snr / 20)},
            "after_norm": None
            if part == "joiner"
            else {"snr_db": snr - 3, "relative_error": 10 ** ((3 - snr) / 20)},
            "accumulated": {"snr_db": snr - 6, "relative_error": 10 ** ((6 - snr) / 20)},
        }

    layers = [layer("encoder", "conv_5", "Convolution", "encoder_embed.conv.0", 31.3)]
    for i in range(lstms):
        path = f"encoder.layers.{i}"
        layers.append(layer("encoder", f"lstm_{13 + i}", "LSTM", f"{path}.lstm", 49.2))
        for j in (0, 4):
            module = f"{path}.feed_forward.{j}"
            layers.append(layer("encoder", f"linear_{9 + 2 * i}{j}", "InnerProduct", module, 35.5))
    layers.append(layer("joiner", "linear_3", "InnerProduct", "output_linear", 57.7))
    return {"recordings": 12, "seconds": 31.1, "layers": layers}


def search() -> dict[str, Any]:
    """A search of four points, three of them measured."""

    def point(size: int, change: str, differing: int | None, emitting: int = 0) -> dict[str, Any]:
        measured = {
            "recordings": 187,
            "seconds": 920.4,
            "frames": 22897,
            "emitting_frames": emitting,
            "differing_frames": differing,
            "agreement": 1 - (differing or 0) / (emitting or 1),
            "divergence": 0.012,
            "mean_square": 0.0019,
            "encoder_snr_db": 40.1,
            "fp32_tokens": 1003,
            "token_edits": 3,
            "rise": None,
            "beyond": [],
        }
        return {
            "bytes": size,
            "seconds": None,
            "error": 1.2e-3,
            "change": change,
            "formats": {"encoder": {"InnerProduct": "int8-dynamic"}, "decoder": {}, "joiner": {}},
            "measured": None if differing is None else measured,
        }

    points = [
        point(1_233_000, "the cheapest of all", 13, 1055),
        point(1_236_000, "encoder linear_8: int8-dynamic to int8-grouped", 7, 1051),
        point(1_266_000, "encoder lstm_13: int8-apart to int8", None),
        point(2_290_000, "encoder lstm_13: int8 to fp16", 1, 1053),
    ]
    budget = {"max_differing_frames": 8}
    return {"budget": budget, "minimise": "size", "points": points, "chosen": 1, "recipe": {}}


def write(
    folder: Path,
    kinds: Mapping[str, str] | None = None,
    optional: bool = True,
    changes: dict[str, Any] | None = None,
) -> dict[str, list[str]]:
    """Write a model's artifacts as the workflow lays them out.

    Args:
        kinds: which of ``PRECISIONS`` each precision's figures are those of; these by default.
        optional: whether those are there that a configuration may leave out.
        changes: contents in place of the made-up ones, by path.

    Returns:
        The options with which make_report is given them.
    """
    kinds = kinds or {name: name for name in PRECISIONS}
    quantized = [name for name, kind in kinds.items() if kind == "int8"]
    contents: dict[str, Any] = {"model.json": description(), "rules.json": rules()}
    options = {"description": ["model.json"], "rules": ["rules.json"]}
    contents |= {f"verification/{p}.json": verification(kind) for p, kind in kinds.items()}
    options["verification"] = [f"verification/{p}.json" for p in kinds]
    if optional:
        contents["manifest.json"] = manifest()
        contents["verification/headroom.json"] = headroom()
        contents["verification/target-cortex-a76.json"] = on_target()
        contents |= {f"quantization/{p}.json": quantization() for p in quantized}
        contents |= {
            f"evaluation/{p}.json": evaluation(kind) | {"precision": p} for p, kind in kinds.items()
        }
        contents["evaluation/comparison.json"] = comparison()
        contents["evaluation/speed.json"] = speed()
        options["manifest"] = ["manifest.json"]
        options["headroom"] = ["verification/headroom.json"]
        options["targets"] = ["verification/target-cortex-a76.json"]
        options["quantization"] = [f"quantization/{p}.json" for p in quantized]
        options["evaluation"] = [f"evaluation/{p}.json" for p in kinds]
        options["comparison"] = ["evaluation/comparison.json"]
        options["speed"] = ["evaluation/speed.json"]
        options["recordings"] = ["evaluation/manifest.jsonl"]
    contents |= changes or {}
    if searched := [path for path in contents if path.startswith("search/")]:
        options["searches"] = searched
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(content), encoding="utf-8")
    records = [
        {"id": f"utterance-{i}", "wav": f"models/digits/test_wavs/{i}.wav", "text": "x"}
        | {"start": 0.0 if i == 0 else 1.25, "duration": 2.5}
        for i in range(3)
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    if optional:
        (folder / "evaluation/manifest.jsonl").write_text(lines)
    return {name: [str(folder / path) for path in paths] for name, paths in options.items()}


def arguments(options: dict[str, list[str]]) -> list[str]:
    return [word for name, paths in options.items() for word in (f"--{name}", *paths)]
