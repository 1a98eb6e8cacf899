"""What code made an artifact: a digest that changes when that code does.

Snakemake sees a rule's files, parameters and command, not the modules that the command imports.
A rule whose parameters hold the digest of its script is run again when anything that the script
reaches by import, within the project, has changed. Comments and layout do not count.

Model families are loaded by name, which imports do not show: of these, the digest takes in the
family of the model that the artifact is made of, and no other.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

PACKAGES = ("transducer2ncnn", "workflow_scripts")
ROOT = Path(__file__).resolve().parent.parent.parent


#: What loads modules of a family by its name, and the modules.
LOADED_BY_NAME = {
    "transducer2ncnn.families.registry": "transducer2ncnn.families.{family}",
    "transducer2ncnn.families.model": "transducer2ncnn.families.{family}.graph",
}


def code_digest(
    script: str | Path, *distributions: str, family: str | None = None, root: Path = ROOT
) -> str:
    """A digest of a script, the project's modules that it imports, however deep, and the versions
    of the ``distributions`` that its result depends on.

    Args:
        script: path from the project's root.
        family: of the model that the script is run for.
        root: the project's root.

    Raises:
        ValueError: the script loads a family, and none is given.
    """
    digest = hashlib.sha256()
    for path in sorted(_reached(root / script, family, root)):
        dump, _ = _parsed(path.read_text(encoding="utf-8"))
        digest.update(f"{path.relative_to(root)}\n{dump}\n".encode())
    for installed in versions(distributions):
        digest.update(f"{installed}\n".encode())
    return digest.hexdigest()[:16]


def versions(distributions: Iterable[str]) -> list[str]:
    """The name and the version of each, as they are installed here."""
    return [f"{distribution} {_version(distribution)}" for distribution in distributions]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        # Under conda, the rule's own environment holds it; Snakemake watches that file itself.
        return "elsewhere"


def _reached(script: Path, family: str | None, root: Path) -> set[Path]:
    reached: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        _, modules = _parsed(path.read_text(encoding="utf-8"))
        for module in modules:
            waiting.extend(_files_of(module, root))
            if by_name := LOADED_BY_NAME.get(module):
                if family is None:
                    raise ValueError(f"{script} loads a family ({module}), and none is given.")
                waiting.extend(_files_of(by_name.format(family=family), root))
    return reached


# By its text: rules share most of their modules, and every job of a cluster reads the rules anew.
@functools.cache
def _parsed(source: str) -> tuple[str, tuple[str, ...]]:
    """A module's code without comments and layout, and the modules that it may import."""
    tree = ast.parse(source)
    modules = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return ast.dump(tree), tuple(modules)


@functools.cache
def _files_of(module: str, root: Path) -> list[Path]:
    """The files that importing a module of the project runs: its own and its parents'."""
    names = module.split(".")
    if names[0] not in PACKAGES:
        return []
    files = []
    for depth in range(1, len(names) + 1):
        base = root.joinpath(*names[:depth])
        files += [base / "__init__.py", base.with_suffix(".py")]
    return [f for f in files if f.is_file()]
