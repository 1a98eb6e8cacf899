"""config.yaml: its keys, their types, and one message for everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.paths import NAME
from transducer2ncnn.families import registry, settings
from transducer2ncnn.quantization.recipes import DEFAULT
from transducer2ncnn.workflow import releases
from transducer2ncnn.workflow.evaluations import Evaluation, Normalise
from transducer2ncnn.workflow.explanations import explain
from transducer2ncnn.workflow.models import SOURCES, ExpDirModel, Model, wrong_choice
from transducer2ncnn.workflow.precisions import (
    AS_SHIPPED,
    KINDS,
    Auto,
    Precision,
    Precisions,
    Quantized,
    Search,
)
from transducer2ncnn.workflow.section import Section

#: Characters of the test wavs' paths together; Linux takes 131,072 in one argument, which a
#: rule's command is.
MAX_TEST_WAVS = 100_000


def _model_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{shown(name)!r} cannot name a model: expected at most 100 letters, digits, '.', '_' "
            "and '-', the first a letter or a digit"
        )
    return name


#: Processors that can be emulated, by QEMU's names: without arithmetic in fp16, and with it.
Target = Literal["cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76", "a64fx", "max"]


class Calibration(Section):
    """How calibrated precisions observe their recordings."""

    shards: int = Field(
        2,
        ge=1,
        description="jobs that the observing is spread over, at most; the result is the same",
    )


class Sensitivity(Section):
    """How the layers of a model are measured where a precision's recipe is searched."""

    shards: int = Field(
        2, ge=1, description="jobs that the measuring is spread over; the result is the same"
    )


class Verification(Section):
    """What every exported model is compared with PyTorch on."""

    lengths: list[Annotated[int, Field(ge=9)]] = Field(
        [9, 10, 12, 39, 403],
        min_length=1,
        description="numbers of frames (10 ms each) that the encoder is run on at once",
    )
    segments: int = Field(
        50, ge=1, description="number of segments of the streaming run, states carried over"
    )
    target_tolerance: float = Field(
        2e-2,
        gt=0,
        description="the largest error of an output at sherpa-ncnn's own options: on x86, and on "
        "the `targets`, which compute in fp16 where they can; what is quantized may be off there "
        "by half as much again as on x86 besides",
    )


class Transcription(Section):
    """How the test wavs are transcribed."""

    threads: int = Field(1, ge=1, description="threads that sherpa-ncnn and ncnn compute with")


class Config(Section):
    models: dict[Annotated[str, AfterValidator(_model_name)], Model] = Field(
        min_length=1,
        description="the models to export, by name: letters, digits, `.`, `_` and `-`",
    )
    precisions: Precisions = Field(
        {name: {} for name in DEFAULT},
        validate_default=True,
        description="what to export, by name: a recipe that ships, with `{}` for its defaults, or "
        "a name of your own with its `recipe`. What is not there is exported only where a model "
        "or a target names a recipe that ships",
    )
    calibration: Calibration = Field(
        Calibration(), description="how recipes that calibrate observe the calibration recordings"
    )
    sensitivity: Sensitivity = Field(
        Sensitivity(),
        description="how layers are measured for precisions whose recipe is searched, with `auto`",
    )
    verification: Verification = Field(
        Verification(), description="what every exported model is compared with PyTorch on"
    )
    targets: list[Target] = Field(
        [],
        description="ARM processors that the delivered folders are run on, emulated, by QEMU's "
        f"names: any of {', '.join(f'`{name}`' for name in get_args(Target))}. It takes "
        "minutes, an x86-64 machine, and packages from Debian and PyPI; see devices.md",
    )
    transcription: Transcription = Field(
        Transcription(), description="how the test wavs are transcribed"
    )
    evaluation: Evaluation = Field(
        Evaluation(), description="how the models that have an `evaluation` are evaluated"
    )

    def known_precisions(self) -> dict[str, Precision]:
        """What can be asked for by name: what is configured, and the recipes that ship."""
        return AS_SHIPPED | self.precisions

    def precisions_of(self, model: str) -> list[str]:
        """The names of the precisions that a model is exported in.

        Where it does not say, these are all that it has the recordings for: to calibrate on, and
        to compare what is quantized with fp32 on.
        """
        stated = self.models[model]
        calibrated = bool(stated.calibration_wavs)
        compared = bool(calibrated or stated.test_wavs)
        return stated.precisions or [
            name
            for name, precision in self.precisions.items()
            if (recipe := precision.to_recipe()).is_plain
            or (calibrated if recipe.calibrated else compared)
        ]

    def calibration_shards(self) -> int:
        """The jobs that observing is spread over, wherever the number is stated."""
        if "shards" not in self.calibration.model_fields_set:
            for precision in self.precisions.values():
                if isinstance(precision, Quantized) and precision.shards:
                    return precision.shards
        return self.calibration.shards

    def released(self, model: str) -> list[str]:
        """The names of the precisions that a model is released in; none if it is not."""
        release = self.models[model].release
        if release is None:
            return []
        exported = self.precisions_of(model)
        return release.precisions or [x for x in releases.PRECISIONS if x in exported]


def parse(raw: dict[str, Any]) -> Config:
    """Validate the configuration as Snakemake read it.

    Raises:
        UserError: one message with a line for each thing that is wrong: the key, what was found
            and what was expected.
    """
    try:
        config = Config.model_validate(raw)
    except ValidationError as e:
        lines = [explain(error, _level) for error in e.errors()]
    else:
        lines = list(_contradictions(config))
    if lines:
        raise UserError("the configuration is wrong:\n" + "\n".join(f"  {x}" for x in lines))
    return config


def _contradictions(config: Config) -> Iterator[str]:
    """What is wrong with keys that are right by themselves."""
    for name, model in config.models.items():
        if isinstance(model, ExpDirModel):
            yield from wrong_choice(name, model)
    if not all(model.is_complete for model in config.models.values()):
        return  # the rest is judged when what is to be found has been found
    if not config.precisions:
        yield (
            "precisions: empty. Expected names of precisions, such as `fp16: {}`, or no key "
            "`precisions`."
        )
    shards = {
        f"precisions.{name}.shards": precision.shards
        for name, precision in config.precisions.items()
        if isinstance(precision, Quantized) and precision.shards
    }
    if "shards" in config.calibration.model_fields_set:
        shards["calibration.shards"] = config.calibration.shards
    if len({*shards.values()}) > 1:
        found = ", ".join(f"{key} is {value}" for key, value in shards.items())
        yield f"calibration.shards: expected one number for all; found: {found}."
    yield from _useless_options(config)
    for name, model in config.models.items():
        for setting, problem in settings.problems(registry.find(model.family), model.settings):
            yield f"models.{name}.settings.{setting}: {problem}"
        for precision in model.precisions:
            if precision not in config.known_precisions():
                yield (
                    f"models.{name}.precisions: {precision!r} is not configured. Expected one of "
                    f"{', '.join(config.known_precisions())}."
                )
        yield from _missing_recordings(name, model, config)
        if model.release:
            recipes = {p: known.to_recipe() for p, known in config.known_precisions().items()}
            yield from releases.problems(
                f"models.{name}.release",
                model.release,
                config.released(name),
                {p: recipes[p] for p in config.precisions_of(name) if p in recipes},
                evaluated=model.evaluation is not None,
            )
        if not model.evaluation:
            for precision in config.precisions_of(name):
                searched = config.precisions.get(precision)
                if isinstance(searched, Auto) and searched.auto.max_rise is not None:
                    yield (
                        f"precisions.{precision}.auto.max_rise: {name} has no `evaluation`, which "
                        "word error rates are taken on. Expected one, or another budget: "
                        f"{' or '.join(Search.BUDGET[:2])}."
                    )
        if not model.tokens and not model.bpe_model:
            yield (
                f"models.{name}.tokens: missing. Expected the model's tokens.txt, or in "
                "`bpe_model` the sentencepiece model that it can be made of."
            )
        if sum(len(path) + 1 for path in model.test_wavs) > MAX_TEST_WAVS:
            yield (
                f"models.{name}.test_wavs: {len(model.test_wavs)} recordings are more than one "
                "command can name. Expected a few; `evaluation` takes any number."
            )
    if config.evaluation.hotwords_file and config.evaluation.decoding != "modified_beam_search":
        yield (
            f"evaluation.hotwords_file: sherpa-ncnn has no hotwords with "
            f"{config.evaluation.decoding}. Expected `decoding: modified_beam_search` beside it."
        )
    for precision in config.evaluation.max_rise:
        if not any(
            model.evaluation and precision in config.precisions_of(name)
            for name, model in config.models.items()
        ):
            yield (
                f"evaluation.max_rise.{precision}: no model is evaluated in {precision}. Expected "
                f"one that has an `evaluation` and is exported in it."
            )


def _useless_options(config: Config) -> Iterator[str]:
    """Options of a scale table in precisions that have none."""
    for name, precision in config.precisions.items():
        if isinstance(precision, Quantized) and (options := precision.table_options()):
            parts = precision.to_recipe().quantized_parts.values()
            if not any(part.has_table for part in parts):
                yield (
                    f"precisions.{name}.{next(iter(options))}: {name} has no scale table. Expected "
                    "such options with the recipe int8-table, or with layers in int8-table."
                )


def _missing_recordings(name: str, model: Model, config: Config) -> Iterator[str]:
    """What of the precisions that a model names takes recordings that it has not; of all, if it
    has recordings for none."""
    known = config.known_precisions()
    named = model.precisions or ([] if config.precisions_of(name) else config.precisions)
    recipes = {precision: known[precision].to_recipe() for precision in named if precision in known}
    calibrated = [precision for precision, recipe in recipes.items() if recipe.calibrated]
    quantized = [precision for precision, recipe in recipes.items() if not recipe.is_plain]
    if model.calibration_wavs:
        return
    if calibrated:
        yield (
            f"models.{name}.calibration_wavs: missing. Expected recordings, for "
            f"{', '.join(calibrated)}."
        )
    elif quantized and not model.test_wavs:
        yield (
            f"models.{name}.test_wavs: missing. Expected recordings that {', '.join(quantized)} "
            "can be compared with fp32 on."
        )


def _level(location: list[str]) -> type[BaseModel]:
    """The section of the configuration that holds the key that a location ends with."""
    match location:
        case ["models", _, _, "release", "evaluated_on", _, *_]:
            return releases.EvaluatedOn
        case ["models", _, _, "release", _, *_]:
            return releases.Release
        case ["models", _, source, _, *_]:
            return SOURCES[source]
        case ["precisions", _, "auto", "auto", _, *_]:
            return Search
        case ["precisions", _, kind, _, *_]:
            return KINDS[kind]
        case ["calibration", _, *_]:
            return Calibration
        case ["sensitivity", _, *_]:
            return Sensitivity
        case ["verification", _, *_]:
            return Verification
        case ["transcription", _, *_]:
            return Transcription
        case ["evaluation", "normalise", _, *_]:
            return Normalise
        case ["evaluation", _, *_]:
            return Evaluation
    return Config
