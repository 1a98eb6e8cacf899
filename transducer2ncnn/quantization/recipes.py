"""What each layer of a model is stored as: data that the configuration is turned into.

A ``Recipe`` has a ``Part`` for each network that is quantized: formats (``layer_formats``) by
selector, and what every other layer is stored as. A network can instead be taken from the plain
fp32 or fp16 files as it is.

A selector is, from what counts most to what counts least,

- a layer's name in the param file, such as ``linear_8``, or that of the module of PyTorch's that
  it stands for, with or without the part in front: ``encoder.encoder_embed.out``;
- a layer's type and its number among those of the type, from 1 on, such as ``Convolution#1``;
- a pattern of names, such as ``linear_*``; of several that fit, the last one counts;
- a layer's type, such as ``InnerProduct``.

What a configuration changes of a recipe counts more than all that the recipe says.

A format is added in ``layer_formats``, a recipe that ships in ``SHIPPED``; nothing else has to know
of them.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from transducer2ncnn.base import reading
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.formats.layers import WEIGHTED
from transducer2ncnn.quantization.layer_formats import (
    Fp16,
    Int8,
    Int8Apart,
    Int8Dynamic,
    Int8Grouped,
    Int8Table,
)
from transducer2ncnn.quantization.quantize import CALIBRATED

FloatName = Literal["fp16", "fp32"]

#: A type, and a number among the layers of it.
_NUMBERED = re.compile(r"(\w+)#[1-9]\d*")


@dataclass(frozen=True)
class Table:
    """How a scale table is chosen.

    Attributes:
        thresholds: how the threshold of an input is chosen: the one that loses least by
            Kullback-Leibler divergence, as ncnn's tool does, or a percentile.
        percentile: the share of values, in per cent, that such a threshold is not exceeded by.
        spare_headroom: whether a 3×3 convolution that has too few channels for ncnn to run it as
            Winograd, such as the first, uses all of int8.
    """

    thresholds: Literal["kl", "percentile"] = "kl"
    percentile: float = 99.9
    spare_headroom: bool = False


@dataclass(frozen=True)
class Part:
    """How the layers of one network are stored.

    Attributes:
        layers: names of formats by selector, as a recipe has them. One that fits nothing is no
            mistake, for a recipe is for all models.
        changes: the same as the user states them, for what is not to be as ``layers`` have it.
        keep: names of layers, or patterns of them, that are stored as ``rest`` whatever selects
            them.
        rest: what every other layer is stored as, and what int8 leaves of a layer.
        table: how the scales of layers in int8-table are chosen.
    """

    layers: Mapping[str, str]
    changes: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    rest: FloatName = "fp16"
    table: Table = Table()

    @property
    def has_table(self) -> bool:
        """Whether a layer may be stored by a scale table."""
        return Int8Table.NAME in self._in_force.values()

    @property
    def calibrated(self) -> bool:
        """Whether such a layer's input may need a scale, which takes recordings to calibrate on."""
        return any(
            format_ == Int8Table.NAME and (type_of(selector) or CALIBRATED[0]) in CALIBRATED
            for selector, format_ in self._in_force.items()
        )

    @property
    def _in_force(self) -> dict[str, str]:
        """The selectors without those that are changed altogether."""
        return {**self.layers, **self.changes}

    def for_table(self) -> Part:
        """The same as far as a scale table depends on it."""
        layers, changes = (
            {s: x if x == Int8Table.NAME else "fp32" for s, x in selectors.items()}
            for selectors in (self.layers, self.changes)
        )
        return replace(self, layers=layers, changes=changes, rest="fp16")

    def for_layers(self) -> Part:
        """The same as far as the quantized files depend on it, once there is a table."""
        return replace(self, table=Table())

    def assign(
        self, layers: Iterable[tuple[str, str]], modules: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The format of each layer that is not stored as the rest, by its name.

        Args:
            layers: name and type of each of the network's layers, in order.
            modules: by a layer's name, that of PyTorch's module, if it is known.

        Raises:
            UserError: a change's selector, or a name to keep, fits no layer with weights; with
                those that there are.
        """
        types = {name: type_ for name, type_ in layers if type_ in WEIGHTED}
        names = {name: _names(name, (modules or {}).get(name)) for name in types}
        counts: dict[str, int] = {}
        assigned: dict[str, str] = {}
        used = {selector for selector in self.changes if selector in WEIGHTED}
        for name, type_ in types.items():
            counts[type_] = counts.get(type_, 0) + 1
            kept = [selector for selector in self.keep if is_called(names[name], selector)]
            used.update(kept)
            for selectors in (self.layers, self.changes):
                fitting = _fitting(selectors, names[name], type_, counts[type_])
                used.update(fitting)
                if fitting and not kept:
                    assigned[name] = selectors[fitting[-1]]
        there = "\n".join(
            f"  {name:<14} {type_:<22} {(modules or {}).get(name, '')}".rstrip()
            for name, type_ in types.items()
        )
        if missing := [selector for selector in self.keep if selector not in used]:
            raise UserError(
                f"keep: no layer with weights is called {', '.join(missing)}. Those that there "
                f"are, with their types and PyTorch's names:\n{there}"
            )
        if unused := [selector for selector in self.changes if selector not in used]:
            raise UserError(
                f"{', '.join(unused)}: no layer with weights is called so. Expected a name or a "
                "pattern of names, ncnn's or PyTorch's, or a type, which may have a number: "
                f"Convolution#1. Those that there are:\n{there}"
            )
        return assigned

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Part:
        raw = json.loads(text)
        return Part(**raw | {"keep": tuple(raw["keep"]), "table": Table(**raw["table"])})


def read_found(path: str | Path) -> dict[str, Part]:
    """How each part is stored by the recipe that a search found (``evaluation.curve``).

    Raises:
        UserError: the file is missing or damaged.
    """
    found = reading.read_json(path)["recipe"]
    return {part: Part.from_json(json.dumps(found[part])) for part in PARTS}


def type_of(selector: str) -> str | None:
    """The type of the layers that a selector fits, or None if it goes by their names."""
    if selector in WEIGHTED:
        return selector
    found = _NUMBERED.fullmatch(selector)
    return found[1] if found else None


def _names(name: str, module: str | None) -> tuple[str, ...]:
    """What a layer can be called: ncnn's name, and PyTorch's with and without the part's."""
    return (name, module, module.partition(".")[2]) if module else (name,)


def is_called(names: Iterable[str], selector: str) -> bool:
    """Whether a selector is one of a layer's names, or a pattern that fits one."""
    if _is_pattern(selector):
        return any(fnmatch.fnmatchcase(name, selector) for name in names)
    return selector in names


def _fitting(
    selectors: Iterable[str], names: tuple[str, ...], type_: str, number: int
) -> list[str]:
    """The selectors that fit a layer, from what counts least to what counts most."""
    patterns = [s for s in selectors if _is_pattern(s) and is_called(names, s)]
    ranked = (type_, *patterns, f"{type_}#{number}", *reversed(names))
    return [s for s in ranked if s in selectors]


def _is_pattern(selector: str) -> bool:
    return any(character in selector for character in "*?[")


@dataclass(frozen=True)
class Recipe:
    """How a transducer is stored.

    Attributes:
        quantized: how each network is stored where it is quantized; empty for a plain precision.
        plain: the networks that are taken from the plain files instead, and in what precision.
    """

    quantized: Mapping[str, Part] = field(default_factory=dict)
    plain: Mapping[str, FloatName] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether it is a plain precision, which is compared with PyTorch and not with fp32."""
        return not self.quantized

    @property
    def quantized_parts(self) -> dict[str, Part]:
        return {name: self.quantized[name] for name in PARTS if name not in self.plain}

    @property
    def calibrated(self) -> bool:
        """Whether it takes recordings to calibrate on."""
        return any(part.calibrated for part in self.quantized_parts.values())


def _everywhere(precision: FloatName) -> Recipe:
    return Recipe(plain=dict.fromkeys(PARTS, precision))


#: Linear layers with inputs quantized as they come. The first of an encoder is that behind the
#: convolutions, in all families: its inputs are many, and a norm follows it.
_DYNAMIC = {"InnerProduct": Int8Dynamic.NAME}
_ENCODER = {**_DYNAMIC, "InnerProduct#1": Int8Grouped.NAME, "LSTM": Int8.NAME}


def _without_calibration(encoder: Mapping[str, str]) -> Recipe:
    """The decoder's int8 is its embedding alone, a few bytes of a model, so it stays fp16 unless
    it is asked for."""
    return Recipe(
        quantized={
            "encoder": Part(encoder),
            "decoder": Part({"Embed": Int8.NAME}),
            "joiner": Part(_DYNAMIC),
        },
        plain={"decoder": "fp16"},
    )


#: What ncnn's tools quantize by a table.
_BY_TABLE = dict.fromkeys(CALIBRATED, Int8Table.NAME)

#: The recipes that ship, by the name that a precision starts from (docs/quantization.md).
SHIPPED: dict[str, Recipe] = {
    "fp32": _everywhere("fp32"),
    "fp16": _everywhere("fp16"),
    "int8": _without_calibration(_ENCODER),
    "int8-accurate": _without_calibration(_ENCODER | {"InnerProduct#1": Fp16.NAME}),
    "int8-small": _without_calibration(_ENCODER | {"LSTM": Int8Apart.NAME}),
    # icefall's published way, with the LSTM in int8 too.
    "int8-table": Recipe(
        quantized={
            "encoder": Part(_BY_TABLE | {"LSTM": Int8Table.NAME}),
            "decoder": Part({"Embed": Int8Table.NAME}),
            "joiner": Part(_BY_TABLE),
        },
        plain={"decoder": "fp16"},
    ),
}

#: Those that a model is exported in where nothing is said.
DEFAULT = ("fp32", "fp16", "int8")
