"""How the code is laid out: imports point downward, modules are of a size to be read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "transducer2ncnn"
#: From the bottom up. A room imports from itself and from those before it.
ROOMS = (
    "base",
    "formats",
    "speech",
    "families",
    "engines",
    "source",
    "export",
    "verification",
    "quantization",
    "evaluation",
    "demo",
    "report",
    "release",
    "workflow",
)
MODULES = sorted(PACKAGE.rglob("*.py"))


def rooms_imported(path: Path) -> Iterator[str]:
    """The rooms that a module imports from, in a function or at its top."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            words = name.split(".")
            if words[0] in ("workflow_scripts", "benchmarks", "tests"):
                yield words[0]
            if words[0] == "transducer2ncnn":
                yield words[1]


def test_every_module_is_in_a_room() -> None:
    folders = {path.relative_to(PACKAGE).parts[0] for path in MODULES}
    assert folders == {*ROOMS, "__init__.py"}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_downward(room: str) -> None:
    allowed = ROOMS[: ROOMS.index(room) + 1]
    upward = {
        f"{path.relative_to(PACKAGE)} imports from {imported}"
        for path in (PACKAGE / room).rglob("*.py")
        for imported in rooms_imported(path)
        if imported not in allowed
    }
    assert not upward


def test_no_module_is_long() -> None:
    folders = ("transducer2ncnn", "workflow_scripts", "rules")
    sources = [f for folder in folders for f in (ROOT / folder).rglob("*") if f.is_file()]
    lines = {
        str(f.relative_to(ROOT)): len(f.read_text(encoding="utf-8").splitlines())
        for f in sources
        if f.suffix in (".py", ".smk")
    }
    assert not {name: n for name, n in lines.items() if n > 400}
