"""The folder that sherpa-ncnn runs: six model files and tokens.txt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import Files
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import sherpa
from transducer2ncnn.speech.features import FEATURE_DIM


def assemble(
    files: Files,
    description: dict[str, Any],
    tokens: str | Path,
    folder: str | Path,
    copy: Callable[[Path, Path], object] = shutil.copyfile,
) -> None:
    """Copy ncnn files into ``folder``, the encoder's param patched for sherpa-ncnn.

    Args:
        copy: makes a file of the first path at the second; ``link`` for a folder that is to be
            run at once and thrown away.

    Raises:
        UserError: sherpa-ncnn cannot use a model of these sizes.
    """
    architecture = described(description)
    sizes = architecture.sizes
    for name, value, needed in (
        ("context size", sizes.context_size, sherpa.CONTEXT_SIZE),
        ("feature dim", sizes.feature_dim, FEATURE_DIM),
    ):
        if value != needed:
            raise UserError(
                f"The model's {name} is {value}, and sherpa-ncnn supports {needed} only. Its plain "
                "ncnn files are complete and verified."
            )
    for part, (param, bin_) in files.items():
        graph = param_file.read(param)
        if part == "encoder":
            graph = sherpa.with_meta_data(graph, architecture.meta_data())
        param_file.write(Path(folder, param.name), graph)
        copy(bin_, Path(folder, bin_.name))
    copy(Path(tokens), Path(folder, "tokens.txt"))


def link(source: Path, target: Path) -> None:
    target.symlink_to(source.resolve())
