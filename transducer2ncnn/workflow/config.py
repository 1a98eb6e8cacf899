"""config.yaml: its keys, their types, and one message for everything that is wrong with it."""

from __future__ import annotations

import difflib
import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
)

from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.paths import NAME, is_file, is_folder, is_inside
from transducer2ncnn.base.reading import read_text
from transducer2ncnn.families import registry
from transducer2ncnn.quantization.recipes import SHIPPED
from transducer2ncnn.source import training
from transducer2ncnn.speech import manifests
from transducer2ncnn.workflow.precisions import (
    Fp16,
    Fp32,
    Precisions,
    Quantized,
)
from transducer2ncnn.workflow.section import Section

#: Characters of the test wavs' paths together; Linux takes 131,072 in one argument, which a
#: rule's command is.
MAX_TEST_WAVS = 100_000

#: Addresses in a storage that a plugin of Snakemake's reads, which looks there for what is named.
ADDRESS = re.compile(r"s3://[^/*?\[\]]+/[^*?\[\]]*[^/*?\[\]]")


def is_address(path: str | Path) -> bool:
    """Whether a path is an address in a storage, and not on this machine."""
    return isinstance(path, str) and path.startswith("s3://")


def _existing_file(path: str) -> str:
    if is_address(path):
        if not ADDRESS.fullmatch(path):
            raise ValueError(
                f"expected an address such as s3://bucket/folder/file; found {shown(path)!r}. A "
                "list file here (.txt, an address a line) may stand for many"
            )
        return path
    if not is_file(path):
        raise ValueError(f"there is no file {shown(path, 300)!r} (looked for from {Path.cwd()})")
    return path


def _model_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name a model: expected letters, digits, '.', '_' and '-', the first "
            "a letter or a digit"
        )
    return name


def _matching_files(items: Any) -> list[str]:
    """Patterns, folders and list files → the files that they stand for, sorted by path."""
    items = [items] if isinstance(items, str) else items
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(
            "expected a pattern such as wavs/*.wav, a folder, a list file (.txt, a path a line), "
            "or a list of these"
        )
    files: set[str] = set()
    for item in items:
        if is_address(item):
            found = [_existing_file(item)]
        elif is_folder(item):
            found = glob.glob(f"{glob.escape(item)}/**/*.wav", recursive=True)
        elif item.endswith(".txt") and is_file(item):
            try:
                lines = read_text(item, "a list of files").splitlines()
            except UserError as e:
                raise ValueError(str(e)) from None
            found = [_existing_file(line.strip()) for line in lines if line.strip()]
        else:
            found = [f for f in glob.glob(item, recursive=True) if is_file(f)]
        if not found:
            raise ValueError(f"no file matches {item!r} (looked for from {Path.cwd()})")
        files.update(found)
    return sorted(files)


def _existing_folder(path: str) -> str:
    if not is_folder(path):
        raise ValueError(f"there is no folder {path!r} (looked for from {Path.cwd()})")
    return path


def _repository(repo_id: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo_id):
        raise ValueError(f"expected <owner>/<name>, as in a model's address; found {repo_id!r}")
    return repo_id


def _path_in_repository(path: str) -> str:
    if not is_inside(path):
        raise ValueError(
            f"expected a path in the repository, such as exp/pretrained.pt; found {path!r}"
        )
    return path


def _family(name: str) -> str:
    if name not in registry.names():
        raise ValueError(f"expected one of {', '.join(registry.names())}; found {name!r}")
    return name


def _manifest(path: str) -> str:
    try:
        manifests.kind(path)
    except UserError as e:
        raise ValueError(str(e)) from None
    return path


File = Annotated[str, AfterValidator(_existing_file)]
Folder = Annotated[str, AfterValidator(_existing_folder)]
RepoId = Annotated[str, AfterValidator(_repository)]
RemotePath = Annotated[str, AfterValidator(_path_in_repository)]
RemotePaths = Annotated[
    list[RemotePath], BeforeValidator(lambda x: [x] if isinstance(x, str) else x)
]
Manifest = Annotated[str, AfterValidator(_manifest)]
Files = Annotated[list[str], BeforeValidator(_matching_files)]
FamilyName = Annotated[str, AfterValidator(_family)]


#: What every source's key `source` means.
SOURCE = "where the model comes from"


class _Model(Section):
    """What every model to export has, wherever it comes from."""

    family: FamilyName = Field("lstm", description="its architecture")
    sizes: dict[str, int] = Field(
        {},
        description="sizes that the checkpoint must have, such as `encoder_dim: 512`; the run "
        "stops if it does not. They are read off the checkpoint anyway",
    )
    precisions: list[str] = Field(
        [],
        description="what to export it in; all of `precisions` below if left out, int8 only if "
        "there are `calibration_wavs`",
    )
    calibration_wavs: Files = Field(
        [],
        description="recordings that int8 is calibrated on: a pattern, a folder, a list file "
        "(.txt, a path a line), or a list of these. A minute of what the model will hear is a "
        "good start; not the recordings that it is tested on",
    )
    transcripts: File | None = Field(
        None,
        description="a table (tab-separated, columns `wav` and `text`) of what is said in the "
        "`test_wavs`",
    )
    evaluation: Manifest | None = Field(
        None,
        description="recordings and transcripts to evaluate it on: a table (.tsv, columns `wav`, "
        "`text` and, if wanted, `id`), lhotse cuts (.jsonl, .jsonl.gz) or a Kaldi folder",
    )
    on_request: bool = Field(
        False, description="whether only a run that asks for one of its artifacts exports it"
    )


class _LocalModel(_Model):
    """A model whose files are on this machine."""

    tokens: File | None = Field(None, description="its tokens.txt")
    bpe_model: File | None = Field(
        None, description="its sentencepiece model, which tokens.txt can be made of"
    )
    test_wavs: Files = Field([], description="recordings to transcribe: like `calibration_wavs`")


class FileModel(_LocalModel):
    """A checkpoint that is there, in one file."""

    source: Literal["file"] = Field("file", description=SOURCE)
    checkpoint: File = Field(description="the icefall checkpoint")

    def checkpoints(self) -> list[str]:
        return [self.checkpoint]

    def here(self) -> bool:
        """Whether the checkpoint is on this machine."""
        return not is_address(self.checkpoint)


class ExpDirModel(_LocalModel):
    """A training folder; the numbers choose checkpoints as they do for icefall's scripts."""

    source: Literal["exp_dir"] = Field(description=SOURCE)
    exp_dir: Folder = Field(description="the training folder, which holds epoch-N.pt")
    epoch: int | None = Field(None, ge=1, description="the epoch to export")
    iter: int | None = Field(
        None, ge=1, description="instead of `epoch`: the number of batches trained on"
    )
    avg: int = Field(1, ge=1, description="the number of checkpoints to average")
    use_averaged_model: bool = Field(
        False, description="whether to average by the running averages kept while training"
    )

    def choice(self) -> training.Choice:
        return training.Choice(
            Path(self.exp_dir), self.epoch, self.iter, self.avg, self.use_averaged_model
        )

    def checkpoints(self) -> list[str]:
        return [str(path) for path in self.choice().checkpoints()]

    def here(self) -> bool:
        return True


class HubModel(_Model):
    """A model on the Hugging Face Hub."""

    #: What is named by its path in the repository; all other files are on this machine.
    REMOTE: ClassVar[frozenset[str]] = frozenset({"checkpoint", "tokens", "bpe_model", "test_wavs"})

    source: Literal["huggingface"] = Field(description=SOURCE)
    repo_id: RepoId = Field(description="the repository, `<owner>/<name>`")
    revision: str = Field("main", min_length=1, description="a branch, a tag or a commit")
    checkpoint: RemotePath = Field(description="the icefall checkpoint")
    tokens: RemotePath | None = Field(None, description="its tokens.txt")
    bpe_model: RemotePath | None = Field(None, description="its sentencepiece model")
    test_wavs: RemotePaths = Field(
        [], description="recordings to transcribe: a pattern such as `test_wavs/*.wav`, or a list"
    )


#: Kinds of models by the value of their key `source`.
SOURCES: dict[str, type[_Model]] = {
    "file": FileModel,
    "exp_dir": ExpDirModel,
    "huggingface": HubModel,
}

Model = Annotated[
    Annotated[FileModel, Tag("file")]
    | Annotated[ExpDirModel, Tag("exp_dir")]
    | Annotated[HubModel, Tag("huggingface")],
    Discriminator(lambda raw: raw.get("source", "file") if isinstance(raw, dict) else "file"),
]


class Calibration(Section):
    """How calibrated precisions observe their recordings."""

    shards: int = Field(
        2, ge=1, description="jobs that the observing is spread over; the result is the same"
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


class Transcription(Section):
    """How the test wavs are transcribed."""

    threads: int = Field(1, ge=1, description="threads that sherpa-ncnn and ncnn compute with")


class Evaluation(Section):
    """How the models that have an `evaluation` are evaluated."""

    decoding: Literal["greedy_search", "modified_beam_search"] = Field(
        "greedy_search", description="how sherpa-ncnn and PyTorch search"
    )
    num_active_paths: int = Field(4, ge=1, description="paths that the beam search follows")
    shards: int = Field(
        2, ge=1, description="jobs that the decoding is spread over; the figures are the same"
    )
    rounds: int = Field(3, ge=1, description="rounds of the speed measurement")
    max_rise: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {},
        description="by precision, how many percentage points its word error rate may be above "
        "PyTorch's for it to be delivered",
    )


class Config(Section):
    models: dict[Annotated[str, AfterValidator(_model_name)], Model] = Field(
        min_length=1,
        description="the models to export, by name: letters, digits, `.`, `_` and `-`",
    )
    precisions: Precisions = Field(
        {name: {} for name in SHIPPED},
        validate_default=True,
        description="what to export, by name: a recipe that ships, with `{}` for its defaults, or "
        "a name of your own with its `recipe`. A name that is not there is not exported",
    )
    calibration: Calibration = Field(
        Calibration(), description="how recipes that calibrate observe the calibration recordings"
    )
    verification: Verification = Field(
        Verification(), description="what every exported model is compared with PyTorch on"
    )
    transcription: Transcription = Field(
        Transcription(), description="how the test wavs are transcribed"
    )
    evaluation: Evaluation = Field(
        Evaluation(), description="how the models that have an `evaluation` are evaluated"
    )

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


def parse(raw: dict[str, Any]) -> Config:
    """Validate the configuration as Snakemake read it.

    Raises:
        UserError: one message with a line for each thing that is wrong: the key, what was found
            and what was expected.
    """
    try:
        config = Config.model_validate(raw)
    except ValidationError as e:
        lines = [_explain(error) for error in e.errors()]
    else:
        lines = list(_contradictions(config))
    if lines:
        raise UserError("the configuration is wrong:\n" + "\n".join(f"  {x}" for x in lines))
    return config


def _contradictions(config: Config) -> Iterator[str]:
    """What is wrong with keys that are right by themselves."""
    configured = list(config.precisions)
    if not configured:
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
    for name, model in config.models.items():
        for precision in model.precisions:
            if precision not in configured:
                yield (
                    f"models.{name}.precisions: {precision!r} is not configured. Expected one of "
                    f"{', '.join(configured)}, the keys of `precisions`."
                )
        yield from _missing_recordings(name, model, config)
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
        if isinstance(model, ExpDirModel):
            yield from _wrong_choice(name, model)
    for precision in config.evaluation.max_rise:
        if not any(
            model.evaluation and precision in config.precisions_of(name)
            for name, model in config.models.items()
        ):
            yield (
                f"evaluation.max_rise.{precision}: no model is evaluated in {precision}. Expected "
                f"one that has an `evaluation` and is exported in it."
            )


def _missing_recordings(name: str, model: _Model, config: Config) -> Iterator[str]:
    """What of the precisions that a model names takes recordings that it has not."""
    recipes = {
        precision: config.precisions[precision].to_recipe()
        for precision in model.precisions
        if precision in config.precisions
    }
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


def _wrong_choice(name: str, model: ExpDirModel) -> Iterator[str]:
    if (model.epoch is None) == (model.iter is None):
        found = "neither" if model.epoch is None else "both"
        yield f"models.{name}: expected one of `epoch` and `iter`; found {found}."
        return
    try:
        model.checkpoints()
    except UserError as e:
        yield f"models.{name}.{'iter' if model.epoch is None else 'epoch'}: {e}"


def _explain(error: Any) -> str:
    location = [str(x) for x in error["loc"] if x != "[key]"]
    level = _level(location)
    if location[:1] in (["models"], ["precisions"]):
        del location[2:3]  # the kind of source or recipe, which is no key
    key = ".".join(location)
    kind, value = error["type"], error["input"]
    if kind == "union_tag_not_found":
        found = "missing" if "recipe" not in value else f"found {value['recipe']!r}"
        return (
            f"{key}.recipe: {found}. Expected the recipe that {location[1]} starts from, one of "
            f"{', '.join(SHIPPED)}."
        )
    if kind == "extra_forbidden":
        known = list(level.model_fields)
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        return f"{key}: unknown key.{hint} Known here: {', '.join(known)}."
    if kind == "missing":
        field = level.model_fields.get(location[-1])
        return f"{key}: missing. Expected {(field and field.description) or 'a value'}."
    if kind == "union_tag_invalid":
        return f"{key}.source: expected one of {', '.join(SOURCES)}; found {value['source']!r}."
    if kind == "value_error":
        return f"{key}: {error['ctx']['error']}."
    message = error["msg"]
    return f"{key}: {message[0].lower()}{message[1:]}; found {value!r}."


def _level(location: list[str]) -> type[BaseModel]:
    """The section of the configuration that holds the key that a location ends with."""
    match location:
        case ["models", _, source, _, *_]:
            return SOURCES[source]
        case ["precisions", _, kind, _, *_]:
            return {"fp32": Fp32, "fp16": Fp16}.get(kind, Quantized)
        case ["calibration", _, *_]:
            return Calibration
        case ["verification", _, *_]:
            return Verification
        case ["transcription", _, *_]:
            return Transcription
        case ["evaluation", _, *_]:
            return Evaluation
    return Config
