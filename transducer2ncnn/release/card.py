"""The model card: README.md with the Hub's metadata, and only what was stated or measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.base.reading import read_text
from transducer2ncnn.evaluation.units import NAMES, Unit
from transducer2ncnn.families.registry import described
from transducer2ncnn.release import contents
from transducer2ncnn.release.contents import Wav
from transducer2ncnn.report import filters

Json = dict[str, Any]

#: The template that the project has.
TEMPLATE = Path(__file__).parent / "templates" / "card.md"
#: A file that was fetched, by the path that it has in its repository.
FETCHED = re.compile(r"(?:^|/)results/[^/]+/hub/(.+)")
#: By what errors are counted by, the Hub's name of the rate.
METRICS: dict[Unit, str] = {"word": "wer", "character": "cer", "mixed": "mer"}
FILTERS = ("size", "percent", "points", "duration", "listed", "settings", "fixed")


@dataclass(frozen=True)
class Model:
    """What a card is made of; empty or None where nothing was measured.

    Attributes:
        title: what the archive is called.
        stated: the section ``release`` of the configuration, with every key.
        precisions: those that are released.
        manifest: manifest.json; headroom: verification/headroom.json.
        verification, evaluation: by precision; targets: by emulated processor.
        speed: evaluation/speed.json.
        wavs: the test recordings that are released.
        texts: what sherpa-ncnn recognised in each of them, by precision.
    """

    title: str
    stated: Json
    precisions: Sequence[str]
    manifest: Json
    headroom: Json
    verification: Mapping[str, Json]
    evaluation: Mapping[str, Json] = field(default_factory=dict)
    targets: Mapping[str, Json] = field(default_factory=dict)
    speed: Json | None = None
    wavs: Sequence[Wav] = ()
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)


def render(model: Model, template: str | Path = TEMPLATE) -> str:
    """A card: the metadata, and the template's text.

    Raises:
        UserError: the template cannot be read or filled in.
    """
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {name: getattr(filters, name) for name in FILTERS}
    try:
        text = environment.from_string(read_text(template, "a template")).render(_values(model))
    except (TemplateError, TypeError, ValueError, ArithmeticError) as e:
        line = f", line {e.lineno}" if isinstance(e, TemplateSyntaxError) else ""
        raise UserError(f"{template}{line}: cannot be filled in ({e}).") from None
    return f"---\n{metadata(model).to_yaml()}\n---\n\n{text.strip()}\n"


def metadata(model: Model) -> ModelCardData:
    """The card's metadata, in the Hub's terms."""
    stated = model.stated
    source = model.manifest["source"]
    measured = [p for p in model.precisions if p in model.evaluation]
    return ModelCardData(
        license=stated["license"],
        license_name=stated["license_name"],
        license_link=stated["license_link"],
        language=list(stated["language"]),
        library_name="sherpa-ncnn",
        pipeline_tag="automatic-speech-recognition",
        base_model=stated["base_model"] or source.get("repo_id"),
        datasets=list(stated["datasets"]) or None,
        tags=["sherpa-ncnn", "ncnn", "icefall", "transducer", "streaming"],
        metrics=[METRICS[_unit(model)]] if measured else None,
        model_name=model.title if measured else None,
        eval_results=[_result(model, precision) for precision in measured] or None,
    )


def _result(model: Model, precision: str) -> EvalResult:
    on = model.stated["evaluated_on"]
    return EvalResult(
        task_type="automatic-speech-recognition",
        task_name="Speech recognition",
        dataset_type=on["dataset"],
        dataset_name=on["name"],
        dataset_config=on["config"],
        dataset_split=on["split"],
        metric_type=METRICS[_unit(model)],
        metric_name=f"{NAMES[_unit(model)].rate} in {precision}, %",
        metric_value=round(100 * model.evaluation[precision]["wer"]["rate"], 2),
    )


def _unit(model: Model) -> Unit:
    """What errors are counted by: the same in every precision."""
    unit: Unit = next(iter(model.evaluation.values()))["unit"]
    return unit


def _values(model: Model) -> Json:
    """What a template may name; docs/publishing.md describes it."""
    manifest = model.manifest
    plain = [wav for wav in model.wavs if wav.plain]
    wav = plain[0] if plain else None
    return {
        "title": model.title,
        "stated": model.stated,
        "model": {key: manifest[key] for key in ("family", "sizes", "settings", "parameters")},
        "versions": manifest["versions"],
        "source": _source(manifest["source"]),
        "parts": PARTS,
        "precisions": [_precision(model, name, wav) for name in model.precisions],
        "wav": wav.name if wav else None,
        "wavs": [x.name for x in model.wavs],
        "tail_seconds": described(manifest).tail_seconds,
        "pytorch": next(iter(model.evaluation.values()))["pytorch"] if model.evaluation else None,
        "evaluated": next(iter(model.evaluation.values()), None),
        "unit": NAMES[_unit(model)] if model.evaluation else None,
        "speed": model.speed,
        "targets": model.targets,
        "headroom": model.headroom,
    }


def _precision(model: Model, name: str, wav: Wav | None) -> Json:
    """What is known of one precision."""
    files = contents.model_files(model.manifest, name)
    delivered = model.manifest["delivered"]
    texts = dict(zip((x.name for x in model.wavs), model.texts.get(name, []), strict=False))
    return {
        "name": name,
        "files": contents.by_part(files),
        "size": sum(delivered[path]["size"] for path in files.values()),
        "verification": model.verification[name],
        "evaluation": model.evaluation.get(name),
        "speed": ((model.speed or {}).get("precisions") or {}).get(name),
        "text": texts.get(wav.name) if wav else None,
    }


def _source(source: Json) -> Json:
    """Where a model comes from, with its files' names, and nothing of this machine's folders."""
    names = {}
    for path, found in source["files"].items():
        fetched = FETCHED.search(path) if source["kind"] == "huggingface" else None
        names[fetched[1] if fetched else PurePosixPath(path).name] = found
    chosen = {key: x for key, x in source.get("chosen", {}).items() if key != "exp_dir"}
    return {
        "repo_id": source.get("repo_id"),
        "commit": source.get("commit"),
        "chosen": chosen,
        "files": names,
    }
