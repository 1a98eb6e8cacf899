"""What code made an artifact: a digest that changes when that code does.

Snakemake sees a rule's files, parameters and command, not the modules that the command imports.
A rule whose parameters hold the digest of its script is run again when anything that the script
reaches by import, within the project, has changed. Comments and layout do not count.

Model families are loaded by name, which imports do not show: of these, the digest takes in the
family of the model that the artifact is made of, and no other.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from transducer2ncnn.base.files import write_json

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
        code, _ = PARSED.module(path)
        digest.update(f"{path.relative_to(root)} {code}\n".encode())
    for installed in versions(distributions):
        digest.update(f"{installed}\n".encode())
    PARSED.save()
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
        _, modules = PARSED.module(path)
        for module in modules:
            waiting.extend(_files_of(module, root))
            if by_name := LOADED_BY_NAME.get(module):
                if family is None:
                    raise ValueError(f"{script} loads a family ({module}), and none is given.")
                waiting.extend(_files_of(by_name.format(family=family), root))
    return reached


class Parsed:
    """The project's modules, parsed: kept by their text, for rules share most of them.

    Parsing all of them takes as long as planning a run. Kept in a file as well, only what has
    changed since is parsed again.
    """

    def __init__(self) -> None:
        self._modules: dict[str, tuple[str, list[str]]] = {}
        self._file: Path | None = None
        self._new = False

    def keep_in(self, file: Path) -> None:
        """Take up what an earlier run has parsed, and keep there what this one does."""
        self._file = file
        # There may be none yet, or none that holds this.
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            self._modules |= {
                text: (str(code), [str(name) for name in names])
                for text, (code, names) in json.loads(file.read_bytes()).items()
            }

    def module(self, path: Path) -> tuple[str, list[str]]:
        """A digest of a module's code without comments and layout, and the modules that it may
        import."""
        source = path.read_text(encoding="utf-8")
        # Versions of Python parse to different trees.
        text = hashlib.sha256(f"{sys.version}\n{source}".encode()).hexdigest()
        if text not in self._modules:
            self._modules[text] = _parse(source)
            self._new = True
        return self._modules[text]

    def save(self) -> None:
        if self._new and self._file:
            write_json(self._file, self._modules)
            self._new = False


PARSED = Parsed()


def _parse(source: str) -> tuple[str, list[str]]:
    tree = ast.parse(source)
    modules = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), modules


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
