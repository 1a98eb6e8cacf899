"""What can be asked for, as messages and `list_models` tell it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from transducer2ncnn.base.errors import shown, some
from transducer2ncnn.workflow.config import Config
from transducer2ncnn.workflow.precisions import Auto

#: Names that a message lists, at most.
LISTED = 20


def explain(target: str, config: Config, rules: Iterable[str]) -> str:
    """Why nothing makes a target, and which targets there are instead.

    Args:
        rules: names of the rules that can be asked for.
    """
    said = f"{shown(target, 300)}: nothing makes this. "
    path = PurePosixPath(target)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    parts = path.parts
    if parts[:1] == ("results",) and str(path) != target.rstrip("/"):
        return f"{said}Ask for it as {shown(str(path), 300)}."
    if parts[:1] != ("results",):
        if target in config.models:
            return f"{said}Ask for the model as results/{target}."
        return (
            f"{said}Expected results/<model>, results/<model>/sherpa-ncnn/<precision>, another "
            f"file below results/, or one of {', '.join(sorted(rules))}. {_models(config)}"
        )
    if len(parts) == 1:
        return f"{said}Expected results/<model>. {_models(config)}"
    model = parts[1]
    if model not in config.models:
        return (
            f"{said}The configuration has no model {shown(model)!r}."
            f"{_meant(model, config.models)} {_models(config)}"
        )
    if parts[2:3] == ("sherpa-ncnn",) and len(parts) > 3:
        known = config.known_precisions()
        if parts[3] not in known:
            return (
                f"{said}There is no precision {shown(parts[3])!r}.{_meant(parts[3], known)} "
                f"Precisions: {_some(known)}; {model} is exported in "
                f"{_some(config.precisions_of(model))}."
            )
    release = config.models[model].release
    if parts[2:] == ("release", "published.json") and release and not release.repo_id:
        return (
            f"{said}models.{model}.release.repo_id: missing. Expected the repository on the Hub "
            "that it is published to, <owner>/<name>."
        )
    return (
        f"{said}Of {model} there are results/{model}, results/{model}/sherpa-ncnn/<precision> with "
        f"<precision> one of {_some(config.known_precisions())}, and the files of "
        "docs/artifacts.md."
    )


def listing(config: Config) -> Iterator[str]:
    """The models and the precisions of a configuration, a line each."""
    yield "models: a target is results/<model>"
    for name, model in config.models.items():
        notes = [model.family, model.source, f"in {', '.join(config.precisions_of(name))}"]
        if model.on_request:
            notes.append("only where a target names it")
        yield f"  {name:<24} {'; '.join(notes)}"
    yield "precisions: a target is results/<model>/sherpa-ncnn/<precision>"
    for name, precision in config.known_precisions().items():
        recipe = precision.to_recipe()
        needs = "calibration_wavs" if recipe.calibrated else "test_wavs or calibration_wavs"
        notes = [] if recipe.is_plain else [f"takes {needs}"]
        if isinstance(precision, Auto):
            notes.insert(0, "its recipe is searched")
        elif precision.recipe != name:
            notes.insert(0, f"made of {precision.recipe}")
        if name not in config.precisions:
            notes.append("not in the configuration: a recipe that ships")
        yield f"  {name:<24} {'; '.join(notes)}".rstrip()
    yield "layers, which `keep` and other keys of a precision name: results/<model>/layers.tsv"


def _models(config: Config) -> str:
    return f"Models: {_some(config.models)}."


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _some(names: Iterable[str]) -> str:
    return some(list(names), LISTED) or "none"
