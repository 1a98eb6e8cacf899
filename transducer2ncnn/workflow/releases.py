"""The section ``release`` of a model: what a person has to say of it before others get it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from transducer2ncnn.base.layout import PARTS, file_name
from transducer2ncnn.base.paths import NAME, is_file
from transducer2ncnn.quantization.recipes import Recipe
from transducer2ncnn.workflow.section import RepoId, Section

#: What a release holds where it does not say, as far as the model is exported in it.
PRECISIONS = ("fp16", "int8")

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
LANGUAGE = re.compile(r"[a-z]{2,3}|multilingual")
DATASET = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def _version(value: Any) -> Any:
    # What YAML makes of 2026-11-25.
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, int | float):
        raise ValueError(f'expected a text, in quotes: "{value}"; a number may lose its zeros')
    return value


def _matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    """A text that a pattern fits; ``expected`` says what that is."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"expected {expected}; found {value!r}")
        return value

    return AfterValidator(check)


def _languages(value: Any) -> Any:
    if value is False:  # what YAML makes of Norwegian
        raise ValueError('expected a code such as en, Norwegian in quotes: "no"; found false')
    return [value] if isinstance(value, str) else value


def _template(path: str) -> str:
    if not is_file(path):
        raise ValueError(f"there is no file {path!r}")
    return path


Name = Annotated[
    str,
    _matching(NAME, "letters, digits, '.', '_' and '-', the first a letter or a digit"),
]
License = Annotated[
    str, _matching(LICENSE, "a licence by the Hub's name for it, such as apache-2.0, or other")
]
Language = Annotated[
    str, _matching(LANGUAGE, "a code of two or three letters, such as en, or multilingual")
]
Dataset = Annotated[str, _matching(DATASET, "a data set's name, as in its address on the Hub")]
Branch = Annotated[str, _matching(NAME, "a branch, such as main")]


class EvaluatedOn(Section):
    """What the recordings are that a model is evaluated on."""

    dataset: Dataset = Field(
        description="the data set that the `evaluation` is of, by its name on the Hub, such as "
        "`librispeech_asr`"
    )
    name: str = Field(min_length=1, description="what people call it: `LibriSpeech test-clean`")
    config: str | None = Field(None, description="its configuration there")
    split: str | None = Field(None, description="its split, such as `test`")


class Release(Section):
    """How a model is published."""

    version: Annotated[Name, BeforeValidator(_version)] = Field(
        description="a date or a version, which the archive's name ends with. Only a model that "
        "is to be released needs this, `license` and `language`"
    )
    license: License = Field(
        description="the model's licence by the Hub's name for it, such as `apache-2.0`, or `other`"
    )
    license_name: str | None = Field(None, description="the licence's name, if it is `other`")
    license_link: str | None = Field(None, description="where its text is, if it is `other`")
    language: Annotated[list[Language], BeforeValidator(_languages)] = Field(
        min_length=1,
        description="the language that it recognises, a code such as `en`, or a list of them",
    )
    name: Name | None = Field(
        None,
        description="what the archive calls it, between `sherpa-ncnn-` and the version; the "
        "model's name if left out",
    )
    precisions: list[str] = Field(
        [],
        description="the precisions that go in. If left out, `fp16` and `int8`, as far as the "
        "model is exported in them",
    )
    test_wavs: bool = Field(
        True,
        description="whether the test wavs go in, with their transcripts; false if others may not "
        "have them",
    )
    base_model: RepoId | None = Field(
        None,
        description="the repository on the Hub that it was made from, `<owner>/<name>`; for a "
        "model from the Hub it is known",
    )
    datasets: list[Dataset] = Field(
        [], description="the data sets that it was trained on, by their names on the Hub"
    )
    evaluated_on: EvaluatedOn | None = Field(
        None, description="what the recordings of the `evaluation` are"
    )
    template: Annotated[str, AfterValidator(_template)] | None = Field(
        None, description="a template of your own for the model card's text; see publishing.md"
    )
    repo_id: RepoId | None = Field(
        None, description="the repository on the Hub that it is published to, `<owner>/<name>`"
    )
    revision: Branch = Field("main", description="the branch that it is published to")
    private: bool = Field(
        True,
        description="whether that repository is private: it is made so, and a release that is to "
        "be private is not sent to a public one",
    )

    @model_validator(mode="after")
    def _name_of_license(self) -> Release:
        stated = bool(self.license_name and self.license_link)
        if (self.license == "other") != stated:
            raise ValueError(
                "expected `license_name` and `license_link` with the license other, and only there"
            )
        return self


def problems(
    key: str,
    release: Release,
    released: Sequence[str],
    exported: Mapping[str, Recipe],
    evaluated: bool,
) -> Iterator[str]:
    """What of a release contradicts the rest of the configuration, a line each.

    Args:
        key: where it is stated.
        released: the precisions that go in.
        exported: how each of the precisions is stored that the model is exported in.
        evaluated: whether the model has an evaluation.
    """
    names = ", ".join(exported)
    for precision in released:
        if precision not in exported:
            yield (
                f"{key}.precisions: the model is not exported in {precision!r}. Expected some of "
                f"{names}."
            )
    if not released:
        yield (
            f"{key}.precisions: missing. Expected some of {names}: the model is exported in "
            f"neither {' nor '.join(PRECISIONS)}."
        )
    files: dict[str, set[str]] = {}
    for precision in released:
        if precision in exported:
            for part in PARTS:
                whose = exported[precision].plain.get(part, precision)
                files.setdefault(file_name(part, whose, "bin"), set()).add(whose)
    for file, owners in files.items():
        if len(owners) > 1:
            yield (
                f"{key}.precisions: {' and '.join(sorted(owners))} both have a {file}. Expected "
                "precisions whose files have different names, such as fp16 and int8."
            )
            break
    if evaluated and not release.evaluated_on:
        yield (
            f"{key}.evaluated_on: missing. Expected what the recordings of the `evaluation` are, "
            "by its keys `dataset` and `name`: the error rates are published with it."
        )
