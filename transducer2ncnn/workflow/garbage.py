"""How seldom Python looks for garbage in a run of Snakemake, whose jobs all stay to its end."""

from __future__ import annotations

import atexit
import gc

#: Objects that a run makes before Python looks through the newest of them.
NEW = 50_000


def look_seldom() -> None:
    """Look for garbage now and then, not in what is imported by now, and not at the end.

    A plan of many files is a million of objects, none of which is garbage: looking through them
    time and again, and once more before the process ends, takes a fifth of it.
    """
    gc.freeze()
    gc.set_threshold(NEW)
    atexit.register(gc.freeze)
