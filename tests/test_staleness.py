"""The digest of the code behind an artifact."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from transducer2ncnn.workflow.staleness import PACKAGES, _reached, code_digest

FAMILIES = "transducer2ncnn/families"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A script that reaches `deep` through `shallow`, and not `other`."""
    package = tmp_path / "transducer2ncnn"
    (package / "sub").mkdir(parents=True)
    for name in ("__init__.py", "sub/__init__.py", "other.py"):
        (package / name).write_text("")
    (package / "shallow.py").write_text("from transducer2ncnn.sub import deep\n")
    (package / "sub" / "deep.py").write_text("X = 1\n")
    (tmp_path / "script.py").write_text("import numpy\nfrom transducer2ncnn import shallow\n")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("transducer2ncnn/sub/deep.py", "X = 2\n", True),
        ("transducer2ncnn/sub/__init__.py", "Y = 1\n", True),
        ("script.py", "import numpy\nfrom transducer2ncnn import shallow\nprint()\n", True),
        ("transducer2ncnn/sub/deep.py", "# Why.\nX  =  1\n", False),
        ("transducer2ncnn/other.py", "X = 2\n", False),
    ],
)
def test_what_changes_it(project: Path, file: str, text: str, changes: bool) -> None:
    before = code_digest("script.py", root=project)
    (project / file).write_text(text)
    assert (code_digest("script.py", root=project) != before) == changes


def test_versions_of_libraries_change_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_digest("script.py", "torch", root=project)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "9.9")
    assert code_digest("script.py", "torch", root=project) != before


def test_the_rules_scripts_reach_what_they_use() -> None:
    def reached(script: str) -> set[str]:
        files = _reached(ROOT / "workflow_scripts" / script, "lstm", ROOT)
        return {str(f.relative_to(ROOT)) for f in files}

    assert "transducer2ncnn/families/lstm/graph.py" in reached("trace.py")
    assert "transducer2ncnn/families/lstm/__init__.py" in reached("verify.py")
    assert "transducer2ncnn/families/lstm/graph.py" not in reached("verify.py")
    assert "transducer2ncnn/verification/parity.py" in reached("verify.py")
    assert "transducer2ncnn/engines/search.py" in reached("transcribe.py")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's code, with one more family."""
    folder = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package)
    shutil.copytree(folder / FAMILIES / "lstm", folder / FAMILIES / "other")
    return folder


def digests(project: Path, family: str) -> dict[str, str]:
    """The digest of each script's code for a model of a family, by the script's name."""
    scripts = sorted((project / "workflow_scripts").glob("*.py"))
    assert len(scripts) > 20
    return {
        path.stem: code_digest(path.relative_to(project), family=family, root=project)
        for path in scripts
    }


def changed(project: Path, file: str, family: str = "lstm") -> set[str]:
    """The scripts that are stale, for a model of a family, once a file is changed."""
    path, before = project / file, digests(project, family)
    source = path.read_text()
    try:
        path.write_text(source + "\nCHANGED = True\n")
        after = digests(project, family)
    finally:
        path.write_text(source)
    return {name for name in before if before[name] != after[name]}


def test_another_family_makes_nothing_stale(copy: Path) -> None:
    assert digests(copy, "lstm") == digests(ROOT, "lstm")
    for file in ("other/__init__.py", "other/graph.py"):
        assert changed(copy, f"{FAMILIES}/{file}", "lstm") == set()
    # The names of architectures that are not supported are for messages only.
    assert changed(copy, f"{FAMILIES}/resemblance.py", "lstm") == set()


def test_a_familys_own_files_make_its_models_stale(copy: Path) -> None:
    for family in ("lstm", "other"):
        network = changed(copy, f"{FAMILIES}/{family}/graph.py", family)
        assert network == {
            "decode_pytorch",
            "inspect_checkpoint",
            "make_reference",
            "observe",
            "trace",
        }
        architecture = changed(copy, f"{FAMILIES}/{family}/__init__.py", family)
        assert architecture >= network | {"verify", "deliver", "transcribe", "verify_int8"}
        # These know nothing of the model but its files. (What quantizes asks how many frames come
        # out of a segment, for an LSTM can be taken apart for one only.)
        assert not architecture & {"convert", "make_scale_table", "score"}


def test_a_script_that_loads_a_family_is_given_one() -> None:
    with pytest.raises(ValueError, match=r"trace\.py loads a family"):
        code_digest("workflow_scripts/trace.py")


def test_how_a_threshold_is_chosen_leaves_what_was_observed_alone(copy: Path) -> None:
    stale = changed(copy, "transducer2ncnn/quantization/thresholds.py")
    assert "make_scale_table" in stale
    assert not stale & {"observe", "measure_recordings", "quantize", "trace"}


def test_how_scores_are_computed_leaves_what_was_decoded_alone(copy: Path) -> None:
    stale = changed(copy, "transducer2ncnn/evaluation/scoring.py")
    assert {"score", "compare_precisions"} <= stale
    assert not stale & {"decode_pytorch", "decode_sherpa_ncnn", "measure_speed", "transcribe"}


def test_how_is_searched_leaves_scores_to_what_was_decoded(copy: Path) -> None:
    stale = changed(copy, "transducer2ncnn/engines/search.py")
    assert "decode_pytorch" in stale
    assert not stale & {"score", "compare_precisions"}


def test_no_input_is_ancient() -> None:
    """Where its file is about to be made, Snakemake overlooks other changes behind it."""
    for path in [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]:
        assert "ancient(" not in path.read_text(), path
