"""The section ``precisions``: names that the user gives, and the recipes that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from transducer2ncnn.base.errors import shown
from transducer2ncnn.base.layout import PARTS, PartName
from transducer2ncnn.base.paths import NAME
from transducer2ncnn.formats.layers import WEIGHTED
from transducer2ncnn.quantization.layer_formats import FORMATS
from transducer2ncnn.quantization.recipes import (
    SHIPPED,
    FloatName,
    Part,
    Recipe,
    Table,
    type_of,
)
from transducer2ncnn.workflow.section import Section

#: Names of the plain precisions, whose files the parts of others may be taken from.
PLAIN = tuple(name for name, recipe in SHIPPED.items() if recipe.is_plain)
#: Names of the recipes that quantize.
QUANTIZED = tuple(name for name in SHIPPED if name not in PLAIN)
#: Names that stand beside the precisions' among the files of an evaluation or a verification.
RESERVED = ("comparison", "headroom", "pytorch", "speed")


class _Plain(Section):
    """Weights stored as floating point, compared with PyTorch."""

    recipe: str
    tolerance: float

    def to_recipe(self) -> Recipe:
        return SHIPPED[self.recipe]


class Fp32(_Plain):
    recipe: Literal["fp32"] = Field(
        "fp32", description="the recipe that a name of yours stands for"
    )
    tolerance: float = Field(
        1e-4, gt=0, description="the largest error, against PyTorch, that passes verification"
    )


class Fp16(_Plain):
    recipe: Literal["fp16"] = Field(
        "fp16", description="the recipe that a name of yours stands for"
    )
    tolerance: float = Field(
        2e-2, gt=0, description="the largest error, against PyTorch, that passes verification"
    )


def _stored(stored: Any) -> Any:
    """What a part is stored as: a word, or formats by selector."""
    words = ("int8", *PLAIN)
    if not isinstance(stored, dict):
        if stored not in words:
            raise ValueError(
                f"expected {', '.join(words)}, or formats by layer; found {stored!r}. "
                "int8 is what the recipe makes of it"
            )
        return stored
    for selector, format_ in stored.items():
        if not isinstance(selector, str):
            raise ValueError(f"expected a layer's name, pattern or type; found {selector!r}")
        if format_ not in FORMATS:
            raise ValueError(
                f"expected for {selector} one of {', '.join(FORMATS)}; found {format_!r}"
            )
        type_ = type_of(selector)
        if type_ is None and "#" in selector:
            raise ValueError(
                f"expected a type and a number from 1 on, such as Convolution#1, the types with "
                f"weights being {', '.join(WEIGHTED)}; found {selector!r}"
            )
        types = FORMATS[format_].TYPES
        if type_ is not None and types is not None and type_ not in types:
            known = [x for x, f in FORMATS.items() if f.TYPES is None or type_ in f.TYPES]
            raise ValueError(
                f"{type_} cannot be stored as {format_}; expected one of {', '.join(known)}"
            )
    return stored


Stored = Annotated[str | dict[str, str] | None, BeforeValidator(_stored)]


class Gate(Section):
    """What a quantized precision must reach, against fp32, to be delivered."""

    min_agreement: float = Field(
        0.9,
        ge=0,
        le=1,
        description="of the frames in which fp32 or the precision emits a token, the share whose "
        "best token must be fp32's",
    )
    max_token_edits: float = Field(
        0.05,
        ge=0,
        description="how many token edits its text may be from fp32's, as a share of fp32's tokens",
    )
    min_input_snr: float = Field(
        3.0,
        ge=0,
        description="the signal-to-noise ratio, in dB, that the scale of each layer's input must "
        "leave of what goes into the layer in fp32",
    )
    require_speech: bool = Field(
        True,
        description="whether fp32 must find tokens in the recordings that both are compared on; "
        "without any, the comparison proves nothing",
    )

    def limits(self) -> dict[str, Any]:
        """What ``quantization.gate.Limits`` is made of."""
        return self.model_dump(include=set(Gate.model_fields))


class Quantized(Gate):
    """Weights stored as int8, compared with fp32. What is left out is as the recipe has it."""

    recipe: str = Field(description="the recipe that it starts from; every other key changes that")
    encoder: Stored = Field(
        None,
        description="what the encoder is delivered in: `int8`, as the recipe makes it, `fp16` or "
        "`fp32`; or formats of its layers, by name, pattern or type: `{Convolution: fp16}`",
    )
    decoder: Stored = Field(
        None, description="the same for the decoder, whose int8 is its embedding alone"
    )
    joiner: Stored = Field(None, description="the same for the joiner")
    lstm: bool = Field(True, description="whether LSTM layers are quantized, as the recipe does")
    keep: dict[PartName, list[str]] = Field(
        {},
        description="layers not to quantize, by part: their names in its `.param` file or in "
        "PyTorch, or patterns, such as `encoder: [linear_8, encoder.encoder.layers.0.*]`. "
        "`results/<model>/layers.tsv` lists them. In `models`, `keep` is for one model alone",
    )
    rest: FloatName | None = Field(
        None, description="what is not quantized in a quantized part is stored as"
    )
    thresholds: Literal["kl", "percentile"] | None = Field(
        None,
        description="of layers in int8-table, how the thresholds of their inputs are chosen: by "
        "Kullback-Leibler divergence, or as a percentile",
    )
    percentile: float | None = Field(
        None, gt=0, le=100, description="that percentile, of all values that went into a layer"
    )
    spare_headroom: bool | None = Field(
        None,
        description="of layers in int8-table: whether a 3×3 convolution with too few channels for "
        "ncnn's int8 Winograd, such as the first, uses all of int8",
    )
    shards: int | None = Field(None, ge=1, description="the old place of `calibration.shards`")

    #: Keys that go into the scale table's options.
    TABLE: ClassVar[tuple[str, ...]] = ("thresholds", "percentile", "spare_headroom")

    def table_options(self) -> dict[str, Any]:
        """What is stated of how a scale table is chosen."""
        return {key: value for key in self.TABLE if (value := getattr(self, key)) is not None}

    def to_recipe(self) -> Recipe:
        base, options = SHIPPED[self.recipe], self.table_options()
        kept = {str(part): names for part, names in self.keep.items()}
        quantized, plain = {}, dict(base.plain)
        for name in PARTS:
            part, stored = base.quantized[name], getattr(self, name)
            if stored in PLAIN:
                plain[name] = stored
            elif stored is not None:
                plain.pop(name, None)
            layers = {s: x for s, x in part.layers.items() if self.lstm or type_of(s) != "LSTM"}
            changes = stored if isinstance(stored, dict) else {}
            table = Table(**vars(part.table) | options)
            keep = tuple(kept.get(name, part.keep))
            quantized[name] = Part(layers, changes, keep, self.rest or part.rest, table)
        return Recipe(quantized, plain)


class Search(Section):
    """What is looked for where a precision's recipe is found by the workflow."""

    max_differing_frames: int | None = Field(
        None,
        ge=0,
        description="how many frames may have another best token than fp32's, of those in which "
        "fp32 or the precision emits a token",
    )
    min_agreement: float | None = Field(
        None, ge=0, le=1, description="of these frames, the share whose best token must be fp32's"
    )
    max_rise: float | None = Field(
        None,
        ge=0,
        description="how many percentage points the word error rate may be above fp32's, on the "
        "model's `evaluation`",
    )
    minimise: Literal["size", "time"] = Field(
        "size",
        description="what is to be least: the size of the files, or the time that the layers take "
        "on the machine that runs the workflow",
    )
    seconds: int = Field(
        600,
        ge=1,
        description="seconds of recordings that a recipe is measured on, at most: those of the "
        "model's `evaluation`, or else its test recordings",
    )

    #: Keys of the budget.
    BUDGET: ClassVar[tuple[str, ...]] = ("max_differing_frames", "min_agreement", "max_rise")

    @model_validator(mode="after")
    def _has_a_budget(self) -> Search:
        if not self.budget():
            raise ValueError(f"expected a budget, one or more of {', '.join(self.BUDGET)}")
        return self

    def budget(self) -> dict[str, Any]:
        """What ``evaluation.automatic.Budget`` is made of."""
        return self.model_dump(include=set(self.BUDGET), exclude_none=True)


class Auto(Gate):
    """A recipe that the workflow finds: the cheapest that stays within a budget."""

    auto: Search = Field(
        description="in place of a recipe, the budget within which the cheapest formats of all "
        "layers are searched"
    )

    def to_recipe(self) -> Recipe:
        """The parts that it quantizes; in which formats is found while the workflow runs."""
        return Recipe(quantized={part: Part({}) for part in PARTS})


#: The recipes that ship, with their defaults.
AS_SHIPPED: dict[str, Fp32 | Fp16 | Quantized] = {
    "fp32": Fp32.model_validate({}),
    "fp16": Fp16.model_validate({}),
    **{name: Quantized.model_validate({"recipe": name}) for name in QUANTIZED},
}

#: The sections that a precision may be, by kind: how they are told apart is ``_kind``.
KINDS: dict[str, type[Section]] = {
    "fp32": Fp32,
    "fp16": Fp16,
    "quantized": Quantized,
    "auto": Auto,
}

Precision = Annotated[
    Annotated[Fp32, Tag("fp32")]
    | Annotated[Fp16, Tag("fp16")]
    | Annotated[Quantized, Tag("quantized")]
    | Annotated[Auto, Tag("auto")],
    Discriminator(lambda raw: _kind(raw)),
]


def _kind(raw: Mapping[str, Any]) -> str | None:
    if "auto" in raw:
        return "auto"
    recipe = raw.get("recipe")
    if recipe in PLAIN:
        return str(recipe)
    return "quantized" if recipe in QUANTIZED else None


def _named(raw: Any) -> Any:
    """The section with each name's recipe stated: a name that ships is its own."""
    if not isinstance(raw, Mapping):
        return raw
    wrong = [name for name in raw if not isinstance(name, str) or not NAME.fullmatch(name)]
    if wrong:
        raise ValueError(
            f"{shown(str(wrong[0]))!r} cannot name a precision: expected at most 100 letters, "
            "digits, '.', '_' and '-', the first a letter or a digit"
        )
    # And those of targets, which processors are named in.
    if taken := [name for name in raw if name in RESERVED or name.startswith("target-")]:
        raise ValueError(f"{taken[0]!r} cannot name a precision: it names other files")
    named = {}
    for name, stated in raw.items():
        if not isinstance(stated, Mapping):
            found = "nothing" if stated is None else repr(stated)
            raise ValueError(
                f"expected for {name} keys and values, or {{}} for its defaults; found {found}"
            )
        if name in SHIPPED:
            if "auto" not in stated:
                stated = {"recipe": name, **stated}
            if name in PLAIN and stated.get("recipe") != name:
                raise ValueError(f"{name} is plain {name} and cannot be another recipe")
        named[name] = stated
    return named


Precisions = Annotated[dict[str, Precision], BeforeValidator(_named)]
