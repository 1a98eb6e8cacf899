"""The surroundings that the rules' commands run in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: What glibc is told by.
TUNABLES = "GLIBC_TUNABLES"


def set_up_scripts(root: str | Path) -> None:
    """Let ``python -m workflow_scripts.<name>`` work from any folder, on any machine of a run.

    Modules are found from ``root``, the project's. ``python`` is the interpreter that Snakemake
    runs on, whether or not its environment is activated; conda still puts its own in front.
    """
    _prepend("PYTHONPATH", str(root))
    _prepend("PATH", str(Path(sys.executable).parent))


def use_large_pages() -> None:
    """Let what jobs hold in memory be in pages of 2 MB, where Linux gives these to who asks.

    A network's weights are read from memory for every chunk of audio. In pages of 4 kB, finding the
    pages takes up to a third of that time, in a virtual machine above all; and to get them takes
    longer than to fill them. What the user sets stays.
    """
    os.environ.setdefault(TUNABLES, "glibc.malloc.hugetlb=1")


def _prepend(variable: str, folder: str) -> None:
    folders = [f for f in os.environ.get(variable, "").split(os.pathsep) if f and f != folder]
    os.environ[variable] = os.pathsep.join([folder, *folders])
