"""config.yaml: its keys, their types, and one message for everything that is wrong with it."""

from __future__ import annotations

import difflib
import glob
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from transducer2ncnn.errors import UserError

#: A model's name is a folder's name below results/, and cannot lead out of there.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _existing_file(path: str) -> str:
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path!r} (looked for from {Path.cwd()})")
    return path


def _model_name(name: str) -> str:
    if not MODEL_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name a model: expected letters, digits, '.', '_' and '-', the first "
            "a letter or a digit"
        )
    return name


def _matching_files(patterns: Any) -> list[str]:
    """One pattern or several → the files they match, sorted by path."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
        raise ValueError("expected a pattern such as wavs/*.wav, or a list of them")
    files: set[str] = set()
    for pattern in patterns:
        matches = [f for f in glob.glob(pattern, recursive=True) if Path(f).is_file()]
        if not matches:
            raise ValueError(f"no file matches {pattern!r} (looked for from {Path.cwd()})")
        files.update(matches)
    return sorted(files)


File = Annotated[str, AfterValidator(_existing_file)]
Files = Annotated[list[str], BeforeValidator(_matching_files)]
PrecisionName = Literal["fp16", "fp32"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Model(_Strict):
    """One model to export."""

    family: Literal["lstm"] = Field("lstm", description="its architecture")
    checkpoint: File = Field(description="the icefall checkpoint")
    tokens: File = Field(description="its tokens.txt")
    sizes: dict[str, int] = Field(
        {},
        description="sizes that the checkpoint must have, such as `encoder_dim: 512`; the run "
        "stops if it does not. They are read off the checkpoint anyway",
    )
    precisions: list[PrecisionName] = Field(
        [], description="what to export it in; all of `precisions` below if left out"
    )
    test_wavs: Files = Field(
        [], description="a pattern, or a list of patterns, of recordings to transcribe"
    )
    transcripts: File | None = Field(
        None,
        description="a table (tab-separated, columns `wav` and `text`) of what is said in them",
    )


class Precision(_Strict):
    """What the weights are stored as."""

    tolerance: float = Field(
        gt=0, description="the largest error, against PyTorch, that passes verification"
    )


class Verification(_Strict):
    """What every exported model is compared with PyTorch on."""

    lengths: list[Annotated[int, Field(ge=9)]] = Field(
        [9, 10, 39, 403],
        min_length=1,
        description="numbers of frames (10 ms each) that the encoder is run on at once",
    )
    segments: int = Field(
        100, ge=1, description="number of segments of the streaming run, states carried over"
    )


class Transcription(_Strict):
    """How the test wavs are transcribed."""

    threads: int = Field(1, ge=1, description="threads that sherpa-ncnn and ncnn compute with")


class Config(_Strict):
    models: dict[Annotated[str, AfterValidator(_model_name)], Model] = Field(min_length=1)
    precisions: dict[PrecisionName, Precision] = Field(
        {"fp32": Precision(tolerance=1e-4), "fp16": Precision(tolerance=2e-2)}, min_length=1
    )
    verification: Verification = Verification()
    transcription: Transcription = Transcription()

    def precisions_of(self, model: str) -> list[str]:
        return self.models[model].precisions or list(self.precisions)


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
        lines = [
            f"models.{name}.precisions: {precision!r} is not configured. Expected one of "
            f"{', '.join(config.precisions)}, the keys of `precisions`."
            for name, model in config.models.items()
            for precision in model.precisions
            if precision not in config.precisions
        ]
    if lines:
        raise UserError("the configuration is wrong:\n" + "\n".join(f"  {x}" for x in lines))
    return config


def _explain(error: Any) -> str:
    location = [str(x) for x in error["loc"] if x != "[key]"]
    key = ".".join(location)
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        known = _keys_at(location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        return f"{key}: unknown key.{hint} Known here: {', '.join(known)}."
    if kind == "missing":
        return f"{key}: missing. Expected {_description(location) or 'a value'}."
    if kind == "value_error":
        return f"{key}: {error['ctx']['error']}."
    message = error["msg"]
    return f"{key}: {message[0].lower()}{message[1:]}; found {value!r}."


def _level(location: list[str]) -> type[BaseModel]:
    levels = {"models": Model, "precisions": Precision}
    sections = {"verification": Verification, "transcription": Transcription}
    if len(location) >= 2 and location[0] in levels:
        return levels[location[0]]
    return sections.get(location[0], Config) if location else Config


def _keys_at(location: list[str]) -> list[str]:
    return list(_level(location).model_fields)


def _description(location: list[str]) -> str | None:
    field = _level(location[:-1]).model_fields.get(location[-1])
    return field.description if field else None
