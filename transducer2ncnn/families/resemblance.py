"""What a checkpoint looks like, so that a message can name it.

This reads all families, so it is loaded only for an error: what is made of a model of one family
does not depend on the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from transducer2ncnn.families import registry
from transducer2ncnn.families.contract import Family

#: Patterns of architectures that cannot be exported, as ``Family.telltale``. They come after the
#: families' own: a ConvEmformer is an Emformer too.
OTHERS = {
    "a Zipformer of another version": r"encoder\.encoders\.\d+\.(encoder\.)?layers\.",
    "an Emformer transducer": r"encoder\.(encoder\.)?emformer_layers\.",
    "a Conformer": r"encoder\.(encoder\.)?(layers|encoders)\.\d+\.conv_module",
    "a Transformer": r"encoder\.(encoder\.)?(layers|encoders)\.\d+\.self_attn",
}


def title(names: Iterable[str]) -> str | None:
    """What a checkpoint with tensors of these names looks like, or None."""
    names = list(names)
    for what, telltale in [*((f.title, f.telltale) for f in _families()), *OTHERS.items()]:
        if any(re.match(telltale, name) for name in names):
            return what
    return None


def advice(names: Iterable[str], taken_for: str) -> str:
    """A sentence on what a checkpoint looks like that is not of the family it was taken for.

    Args:
        taken_for: that family's title.
    """
    what = title(names)
    if what is None or what == taken_for:
        return ""
    said = f" By its tensors' names it looks like {what}"
    known = {family.title: family.name for family in _families()}
    if what in known:
        return f"{said}: state `family: {known[what]}`."
    return f"{said}, which is not supported. Supported are: {', '.join(known)}."


def _families() -> list[Family]:
    return [registry.find(name) for name in registry.names()]
