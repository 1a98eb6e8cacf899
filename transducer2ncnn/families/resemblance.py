"""What a checkpoint looks like, so that a message can name it.

This reads all families, so it is loaded only for an error: what is made of a model of one family
does not depend on the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from transducer2ncnn.families import registry

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
    families = (registry.find(name) for name in registry.names())
    for what, telltale in [*((f.title, f.telltale) for f in families), *OTHERS.items()]:
        if any(re.match(telltale, name) for name in names):
            return what
    return None
