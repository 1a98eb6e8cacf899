"""The page: one HTML file that asks for nothing but itself."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined
from markupsafe import Markup

from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.evaluation import judgement, units
from transducer2ncnn.evaluation.units import NAMES, USUAL, Normalisation, Unit
from transducer2ncnn.report import figures
from transducer2ncnn.report.artifacts import Artifacts, Json
from transducer2ncnn.report.figures import Bar
from transducer2ncnn.report.filters import (
    amounts,
    decibels,
    duration,
    fixed,
    grouped,
    listed,
    number,
    percent,
    points,
    power,
    settings,
    share,
    size,
    unimportant,
)


class _Environment(Environment):
    """The templates' values; a file that lacks one is named, as ``reading.read_json`` does."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        found = super().getattr(obj, attribute)
        # jinja makes an undefined value of any KeyError, whatever that says.
        return obj[attribute] if isinstance(found, Undefined) and isinstance(obj, dict) else found


def render(artifacts: Artifacts, folder: str | Path) -> str:
    """The report of one model as HTML.

    Args:
        folder: where it will lie, which paths of recordings lead from.
    """
    environment = _Environment(
        loader=PackageLoader("transducer2ncnn.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": size,
        "percent": percent,
        "share": share,
        "decibels": decibels,
        "points": points,
        "power": power,
        "number": number,
        "fixed": fixed,
        "duration": duration,
        "listed": listed,
        "amounts": amounts,
        "label": figures.label,
        "settings": settings,
        "unimportant": unimportant,
        "groupby_in_order": grouped,
    }
    assert environment.loader is not None
    style, _, _ = environment.loader.get_source(environment, "style.css")
    precisions = list(artifacts.verification)
    colors = figures.colors(precisions)
    return environment.get_template("report.html").render(
        a=artifacts,
        style=Markup(style),
        precisions=precisions,
        parts=PARTS,
        cards=_cards(artifacts, precisions),
        judged=_judged(artifacts),
        warnings=_warnings(artifacts),
        verdict=_verdict(artifacts),
        unit=NAMES[_unit(artifacts)],
        checkpoint=_checkpoint(artifacts.manifest),
        origin=_origin(artifacts.manifest),
        folders=_folders(artifacts),
        colors=colors,
        systems=_systems(artifacts),
        differences=_differences(artifacts, Path(folder)),
        floats=_against_pytorch(artifacts),
        compared={p: v for p, v in artifacts.verification.items() if "tolerance" not in v},
        plots={name: Markup(svg) for name, svg in _plots(artifacts, colors).items()},
        histograms=_histograms(artifacts),
    )


# Numbers for people


def _checkpoint(manifest: Json | None) -> Json | None:
    """The largest of the source's checkpoint files; an average is made of several."""
    if manifest is None:
        return None
    files = manifest["source"]["files"]
    checkpoints = {path: x for path, x in files.items() if path.endswith(".pt")} or files
    path = max(checkpoints, key=lambda path: checkpoints[path]["size"])
    return {"path": path, **checkpoints[path]}


def _origin(manifest: Json | None) -> list[tuple[str, str]]:
    """What the source's record says of it besides its files."""
    source = (manifest or {"source": {}})["source"]
    return settings({key: value for key, value in source.items() if key != "files"})


def _against_pytorch(artifacts: Artifacts) -> dict[str, Json]:
    """The verification of the precisions that are compared with PyTorch, and not with fp32."""
    return {p: v for p, v in artifacts.verification.items() if "tolerance" in v}


def _histograms(artifacts: Artifacts) -> dict[str, list[Markup | None]]:
    """Of each quantized precision, a histogram for each layer whose input has a scale."""
    return {
        precision: [
            Markup(
                figures.histogram(f"histogram-{i}-{j}", x["histogram"], x["absmax"], x["threshold"])
            )
            if (x := layer["input"])
            else None
            for j, layer in enumerate(found["layers"])
        ]
        for i, (precision, found) in enumerate(artifacts.quantization.items())
    }


def _folders(artifacts: Artifacts) -> dict[str, list[Json]]:
    """The delivered files by precision, part by part: name, part, size and sha256."""
    folders: dict[str, list[Json]] = {}
    for path, file in (artifacts.manifest or {"delivered": {}})["delivered"].items():
        precision, name = Path(path).parts[-2:]
        part = next((part for part in PARTS if name.startswith(part)), "tokens")
        folders.setdefault(precision, []).append({"name": name, "part": part, **file})
    for files in folders.values():
        files.sort(key=lambda file: [*PARTS, "tokens"].index(file["part"]))
    return {name: folders[name] for name in artifacts.verification if name in folders}


def _total(files: list[Json]) -> int:
    return sum(file["size"] for file in files)


def _unit(artifacts: Artifacts) -> Unit:
    """What error rates count; one of nothing counts words."""
    found: list[Unit] = [x["unit"] for x in artifacts.evaluation.values()]
    return found[0] if found else "word"


def _cards(artifacts: Artifacts, precisions: list[str]) -> list[Json]:
    """Each precision in a few numbers; None where nothing is known. PyTorch first, if evaluated."""
    folders = _folders(artifacts)
    checkpoint = _checkpoint(artifacts.manifest)
    cards: list[Json] = []
    for one in list(artifacts.evaluation.values())[:1]:
        rates = one["pytorch"]
        reference = _card("pytorch", checkpoint["size"] if checkpoint else None)
        cards.append(reference | {"wer": rates["wer"], "cer": rates["cer"]})
    for precision in precisions:
        files = folders.get(precision)
        card = _card(precision, _total(files) if files else None)
        if files and checkpoint:
            card["of_checkpoint"] = _total(files) / checkpoint["size"]
        if score := artifacts.evaluation.get(precision):
            card |= {key: score[key] for key in ("wer", "cer", "rise")}
            card["grade"] = judgement.grade(score)
        if artifacts.speed and precision in artifacts.speed["precisions"]:
            card["speed"] = artifacts.speed["precisions"][precision]["real_time_factor"]
        cards.append(card)
    for card in cards:
        card["useless"] = bool(card["wer"] and judgement.is_useless(card["wer"]["rate"]))
    return cards


def _card(system: str, size: int | None) -> Json:
    nothing = dict.fromkeys(("of_checkpoint", "wer", "cer", "rise", "grade", "speed"))
    return {"precision": system, "size": size} | nothing


def _judged(artifacts: Artifacts) -> tuple[judgement.Grade, str] | None:
    """How good all precisions are, in a sentence; None where nothing was evaluated."""
    by_grade: dict[judgement.Grade, list[str]] = {}
    for precision, score in artifacts.evaluation.items():
        by_grade.setdefault(judgement.grade(score), []).append(precision)
    if not by_grade:
        return None
    meanings: dict[judgement.Grade, str] = {
        "far": "far worse than PyTorch",
        "above": "worse than PyTorch, by more than chance explains",
        "same": "as accurate as PyTorch, within chance",
    }
    worst_first = [grade for grade in meanings if grade in by_grade]
    sentences = (
        f"{listed(by_grade[grade])} {'is' if len(by_grade[grade]) == 1 else 'are'} "
        f"{meanings[grade]}."
        for grade in worst_first
    )
    return worst_first[0], " ".join(sentences)


def _warnings(artifacts: Artifacts) -> list[str]:
    """What nobody should overlook, each once."""
    found = [w for score in artifacts.evaluation.values() for w in score["warnings"]]
    # Those of a verification stand where it is shown.
    shown = [w for x in artifacts.verification.values() for w in x.get("warnings", [])]
    of_manifest = [w for w in (artifacts.manifest or {}).get("warnings", []) if w not in shown]
    return list(dict.fromkeys([*found, *of_manifest]))


def _verdict(artifacts: Artifacts) -> list[str]:
    """What the smallest precision gains and costs, as sentences."""
    cards = {card["precision"]: card for card in _cards(artifacts, list(artifacts.verification))}
    cards.pop("pytorch", None)
    if len(cards) < 2 or "fp32" not in cards:
        return []
    largest = cards.pop("fp32")
    sized = [card for card in cards.values() if card["size"]]
    # Where sizes are not known: as people list precisions, the smallest last.
    smallest = min(sized, key=lambda card: card["size"]) if sized else list(cards.values())[-1]
    name, gains = smallest["precision"], []
    if largest["size"] and smallest["size"]:
        gains.append(f"takes {percent(smallest['size'] / largest['size'], 0)} of fp32’s space")
    if largest["speed"] and smallest["speed"]:
        gains.append(_speed_in_words(smallest["speed"], largest["speed"]))
    sentences = [f"{name} {' and '.join(gains)}."] if gains else []
    if rise := smallest["rise"]:
        sentences.append(_rise_in_words(rise, NAMES[_unit(artifacts)].rate))
    return sentences


def _speed_in_words(mine: Json, of_fp32: Json) -> str:
    if mine["min"] <= of_fp32["max"] and of_fp32["min"] <= mine["max"]:
        return "is as fast, within what the measurement spreads"
    share = mine["median"] / of_fp32["median"]
    return f"needs {percent(share, 0)} of its computing time"


def _rise_in_words(rise: Json, name: str) -> str:
    rate = 100 * rise["rate"]
    low, high = points(rise["low"]), points(rise["high"])
    interval = f"(95 % confidence interval of the difference: {low} to {high})"
    if f"{abs(rate):.2f}" == "0.00":
        return f"Its {name} is that of PyTorch {interval}."
    side = "above" if rate > 0 else "below"
    means = "more than chance explains" if rise["significant"] else "which chance may explain"
    return (
        f"Its {name} is {abs(rate):.2f} percentage points {side} that of PyTorch "
        f"{interval}, {means}."
    )


def _systems(artifacts: Artifacts) -> list[Json]:
    """A row per system for the table of accuracy, PyTorch first."""
    if not artifacts.evaluation:
        return []
    first = next(iter(artifacts.evaluation.values()))
    return [
        {"system": "pytorch", **first["pytorch"], "rise": None, "agreement": None},
        *(
            {"system": precision, **x, "allowed": _allowed(artifacts, precision)}
            for precision, x in artifacts.evaluation.items()
        ),
    ]


def _allowed(artifacts: Artifacts, precision: str) -> str:
    """The rise that a precision was delivered in spite of, in percentage points."""
    gates = (artifacts.manifest or {"gates": {}})["gates"]
    if precision not in gates:
        return "–"
    gate = gates[precision]["evaluation"]
    limit = gate["limits"]["max_rise"] if gate else None
    return "no limit" if limit is None else f"{fixed(limit)}, {gate['outcome']}"


def _differences(artifacts: Artifacts, folder: Path) -> dict[str, list[Json]]:
    """The utterances that a precision transcribes differently from PyTorch, with what to play."""
    return {
        precision: [
            {
                **x,
                "source": _source(x["wav"], artifacts.recordings.get(x["id"]), folder),
                "heard": {
                    system: compare_words(
                        x["reference"],
                        x[key],
                        evaluated["unit"],
                        Normalisation(**evaluated["normalised"]),
                    )
                    for system, key in (("PyTorch", "pytorch"), ("sherpa-ncnn", "sherpa_ncnn"))
                },
            }
            for x in evaluated["differences"]
        ]
        for precision, evaluated in artifacts.evaluation.items()
    }


def compare_words(
    reference: str, heard: str, unit: Unit = "word", normalisation: Normalisation = USUAL
) -> list[tuple[str, str]]:
    """What was heard, run by run of words: ("same", …), ("wrong", …), or ("missing", …), which is
    of the reference. What the evaluation counts as no difference is none here."""
    # Case is shown; and words stay whole, which characters alone would not show.
    shown, unit = replace(normalisation, case=False), "mixed" if unit != "word" else unit
    said, words = (units.split(shown.apply(text), unit) for text in (reference, heard))
    a, b = ([normalisation.apply(word) for word in side] for side in (said, words))
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    runs = []
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            runs.append(("same", units.join(words[k:m])))
            continue
        if m > k:
            runs.append(("wrong", units.join(words[k:m])))
        if j - i > m - k:
            runs.append(("missing", units.join(said[i + (m - k) : j])))
    return runs


def _source(wav: str, recording: Json | None, folder: Path) -> str:
    """A recording's address from the page, with the part of it that the utterance is."""
    address = quote(Path(os.path.relpath(wav, folder)).as_posix())
    if recording and (recording.get("start") or 0) > 0:
        start = recording["start"]
        address += f"#t={start:g},{start + recording['duration']:g}"
    return address


def _plots(artifacts: Artifacts, colors: dict[str, str]) -> dict[str, str]:
    plots = {"rules": figures.rules("rules", artifacts.rule_graph)}
    folders, checkpoint = _folders(artifacts), _checkpoint(artifacts.manifest)
    if folders and checkpoint:
        rows = [("checkpoint", colors["pytorch"], {"checkpoint": checkpoint["size"]})]
        for precision in artifacts.verification:
            parts = dict.fromkeys(PARTS, 0)
            for file in folders.get(precision, []):
                if file["part"] in parts:
                    parts[file["part"]] += file["size"]
            rows.append((precision, colors[precision], parts))
        plots["sizes"] = figures.sizes("sizes", rows)
    errors = [
        (name, colors[name], part, x["max_error"], x["allowed"])
        for name, found in _against_pytorch(artifacts).items()
        for part, x in found["parts"].items()
    ]
    if errors:
        plots["parity"] = figures.parity("parity", errors)
    if systems := _systems(artifacts):
        name = NAMES[_unit(artifacts)].rate
        for kind, title in (("wer", f"{name}, %"), ("ser", "sentence error rate, %")):
            bars = [
                Bar(name, colors[name], *(x[kind][key] for key in ("rate", "low", "high")))
                for x in systems
                for name in (x["system"],)
            ]
            plots[kind] = figures.intervals(kind, bars, title, factor=100)
    if artifacts.speed:
        measured = artifacts.speed["precisions"]
        for key, title, digits in (
            ("real_time_factor", "real-time factor", 3),
            ("first_token_latency", "first-token latency, s", 2),
            ("peak_memory_mb", "peak memory, MB", 0),
        ):
            bars = [
                Bar(p, colors[p], *(measured[p][key][k] for k in ("median", "min", "max")))
                for p in artifacts.verification
                # Where nothing was recognised, there is no latency.
                if p in measured and measured[p][key]
            ]
            if bars:
                plots[key] = figures.intervals(key, bars, title, digits=digits)
    for i, (precision, found) in enumerate(artifacts.searches.items()):
        plots[f"search of {precision}"] = figures.search(f"search-{i}", found, colors[precision])
    for i, (precision, found) in enumerate(artifacts.quantization.items()):
        if found["layers"]:
            plots[f"layers of {precision}"] = figures.layer_errors(
                f"layers-{i}", found["layers"], colors[precision]
            )
    return plots
