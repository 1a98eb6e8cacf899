"""Layers that a configuration names, looked for in the model before anything is made of it.

PyTorch's names are in the checkpoint. ncnn's are those of the converted files, if there are any
yet; of a model that was never converted, the first step that quantizes it tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import ncnn_files
from transducer2ncnn.formats import param
from transducer2ncnn.formats.layers import WEIGHTED
from transducer2ncnn.quantization.recipes import Part, is_called, type_of

#: How pnnx names layers, such as linear_8, and what could be a pattern of such names.
NCNN_NAME = re.compile(r"[a-z0-9]+_[\d*?\[\]]+|[^.]*[*?\[][^.]*")


def named(how: Part) -> list[str]:
    """What the configuration of a part calls layers, by name or by a pattern of names."""
    return [*how.keep, *(selector for selector in how.changes if type_of(selector) is None)]


def check(
    modules: Mapping[str, list[str]], recipes: Mapping[str, Mapping[str, Part]], folder: Path
) -> None:
    """Refuse names of layers that a model does not have.

    Args:
        modules: by part, PyTorch's names of the modules with weights, with the part's in front.
        recipes: by precision that the model is exported in, how its quantized parts are stored.
        folder: where its converted files are, if it was converted before.

    Raises:
        UserError: with the layers that there are.
    """
    for precision, parts in recipes.items():
        for part, how in parts.items():
            converted = _converted(folder, part, len(modules[part]))
            names = [*converted, *modules[part]]
            names += [module.removeprefix(f"{part}.") for module in modules[part]]
            for selector in named(how):
                if is_called(names, selector):
                    continue
                if converted or not NCNN_NAME.fullmatch(selector):
                    there = "\n".join(f"  {name}" for name in [*converted, *modules[part]])
                    whose = "ncnn's names and PyTorch's" if converted else "PyTorch's names"
                    raise UserError(
                        f"precisions.{precision}, the {part}: no layer with weights is called "
                        f"{selector!r}. Those that there are, by {whose}:\n"
                        f"{there}"
                    )


def _converted(folder: Path, part: str, count: int) -> list[str]:
    """ncnn's names of a part's layers with weights; of files of another model, none."""
    try:
        graph = param.read(ncnn_files(folder)[part][0])
    except UserError:  # not there yet, or not whole
        return []
    names = [layer.name for layer in graph.layers if layer.type in WEIGHTED]
    return names if len(names) == count else []
