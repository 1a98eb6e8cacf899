"""The configuration with what was found of models whose files it does not all name.

Snakemake needs to know a run's files before it starts a job. So they are found while the
configuration is read, and what is found becomes part of it: everything behind sees a model whose
keys are all stated.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.workflow import config as configuration
from transducer2ncnn.workflow.config import Config
from transducer2ncnn.workflow.models import AnyModel, ExpDirModel, HubModel

if TYPE_CHECKING:
    from transducer2ncnn.source.conventions import Found
    from transducer2ncnn.source.repository import Snapshot

#: How keys are stated in the short form.
SHORT = (
    "State keys of the model beside --config repo_id=…, such as checkpoint=exp/pretrained.pt or "
    "'settings={chunk_length: 32}'."
)

#: What is found of each model, by name.
Findings = Mapping[str, "list[Found]"]


def spelled_out(raw: dict[str, Any]) -> dict[str, Any]:
    """The configuration without its short form.

    A `repo_id` beside the sections stands for one model, called like the repository, in place of
    those in `models`. It takes with it what else only a model has.
    """
    if "repo_id" not in raw:
        return raw
    # What is known nowhere counts as a model's too, since it is most likely meant as one.
    sections = Config.model_fields.keys()
    model = {key: value for key, value in raw.items() if key not in sections}
    if isinstance(settings := model.get("settings"), dict):
        # On the command line, Snakemake reads what is nested as texts.
        model["settings"] = {name: _value(x) for name, x in settings.items()}
    rest = {key: value for key, value in raw.items() if key in sections}
    return rest | {"models": {str(raw["repo_id"]).rsplit("/", 1)[-1]: model}}


def _value(text: object) -> object:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return text


def complete(
    raw: dict[str, Any], look_up: Callable[[str, str], Snapshot], folder: Callable[[str, str], Path]
) -> tuple[dict[str, Any], Config, Findings]:
    """The configuration with nothing left to be found, as ``parse`` takes it and as it returns it;
    and what was found.

    A model on request of which nothing can be found is left out, and said to be: it must not stop
    a run that does not ask for it.

    Args:
        raw: as Snakemake read it.
        look_up: a repository at a revision.
        folder: where what is read of that is kept.

    Raises:
        UserError: the configuration is wrong, or something cannot be found.
    """
    short = "repo_id" in raw
    raw = spelled_out(raw)
    config = configuration.parse(raw)
    models, findings = dict(raw["models"]), {}
    for name, model in config.models.items():
        if model.is_complete:
            continue
        try:
            findings[name] = _find(name, model, look_up, folder)
        except UserError as e:
            if short:
                raise UserError(f"{e}\n{SHORT}") from None
            if not model.on_request or len(models) == 1:
                raise
            print(f"warning: {name} is left out. {e}", file=sys.stderr)
            del models[name]
        else:
            models[name] = _with(models[name], findings[name])
    if models == raw["models"]:
        return raw, config, findings  # with many recordings, not to be looked through twice
    raw = raw | {"models": models}
    return raw, configuration.parse(raw), findings


def _find(
    name: str,
    model: AnyModel,
    look_up: Callable[[str, str], Snapshot],
    folder: Callable[[str, str], Path],
) -> list[Found]:
    # It loads the Hub's client, which other runs need not wait for.
    from transducer2ncnn.source import discovery

    stated = model.model_dump(include=model.model_fields_set)
    if isinstance(model, HubModel):
        at = model.repo_id, model.revision
        return discovery.in_repository(name, look_up(*at), stated, folder(*at))
    assert isinstance(model, ExpDirModel)
    return discovery.in_training_folder(name, model.exp_dir, model.checkpoints, stated)


def _with(model: dict[str, Any], found: list[Found]) -> dict[str, Any]:
    """A model's section with what was found."""
    settings = dict(model.get("settings", {}))
    completed = dict(model)
    for finding in found:
        section, _, setting = finding.key.partition(".")
        if setting:
            settings[setting] = finding.value
        else:
            completed[section] = finding.value
    return completed | ({"settings": settings} if settings else {})


def lines(findings: Findings) -> Iterator[str]:
    """What a run shows of what was found."""
    for name, found in findings.items():
        yield f"{name}: found, and not stated in the configuration:"
        yield from (f"  {finding.described()}" for finding in found)


def recorded(found: list[Found]) -> dict[str, Any]:
    """The same for a model's manifest: by key, the value and where it was taken from."""
    return {x.key: {"value": x.value, "from": x.origin} for x in found}


def origins(found: list[Found], where: str) -> dict[str, str]:
    """Where each setting was taken from that was found in ``where``."""
    return {
        x.key.removeprefix("settings."): f"{x.origin}, of {where}"
        for x in found
        if x.key.startswith("settings.")
    }
