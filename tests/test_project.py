"""The project's own files: versions that must agree."""

from __future__ import annotations

import re

import yaml
from conftest import ROOT


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    """Versions by package, of lines such as ``torch==2.13.0``."""
    found = (re.fullmatch(r"([\w.-]+) ?==(\S+)", line.strip()) for line in lines)
    return {normalised(m[1]): m[2] for m in found if m}


REQUIRED = pins((ROOT / "requirements.in").read_text().splitlines())
LOCKED = pins((ROOT / "requirements.lock").read_text().splitlines())


def test_the_lock_holds_what_is_required() -> None:
    assert len(REQUIRED) > 10
    assert REQUIRED.items() <= LOCKED.items()


def test_the_conda_environments_hold_the_same_versions() -> None:
    files = list((ROOT / "envs").glob("*.yaml"))
    assert files
    for file in files:
        dependencies = yaml.safe_load(file.read_text())["dependencies"]
        lists = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
        environment = pins([line for entry in lists for line in entry])
        assert environment
        assert environment.items() <= REQUIRED.items()


def test_the_rules_environment_holds_every_library_that_their_code_imports() -> None:
    text = (ROOT / "envs" / "export.yaml").read_text()
    files = [*(ROOT / "transducer2ncnn").rglob("*.py"), *(ROOT / "workflow_scripts").glob("*.py")]
    found = re.compile(r"^\s*(?:import|from) (\w+)", re.MULTILINE)
    imported = {normalised(name) for file in files for name in found.findall(file.read_text())}
    libraries = imported & REQUIRED.keys()
    assert "sherpa-ncnn" in libraries
    for name in libraries:
        assert f"- {name} ==" in text, name


def test_the_citation_file_has_what_its_schema_requires() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software"
    assert all(author.keys() == {"name"} for author in cited["authors"])
    assert cited["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_the_workflow_catalog_is_told_what_works() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    deployment = usage["software-stack-deployment"]
    rules = [path.read_text() for path in (ROOT / "rules").glob("*.smk")]
    assert deployment["conda"] == any("conda:" in text for text in rules)
    assert deployment["apptainer"] == any("container:" in text for text in rules)
    assert deployment["report"] == (ROOT / "report").is_dir()
    assert {*usage["mandatory-flags"]} == {"desc", "flags"}
