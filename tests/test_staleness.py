"""The digest of the code behind an artifact."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from transducer2ncnn.workflow.staleness import _reached, code_digest


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
        return {
            str(f.relative_to(ROOT)) for f in _reached(ROOT / "workflow_scripts" / script, ROOT)
        }

    assert "transducer2ncnn/families/lstm/graph.py" in reached("trace.py")
    assert "transducer2ncnn/families/lstm/graph.py" not in reached("verify.py")
    assert "transducer2ncnn/verification/parity.py" in reached("verify.py")
    assert "transducer2ncnn/engines/search.py" in reached("transcribe.py")


def test_how_a_threshold_is_chosen_does_not_change_what_was_observed() -> None:
    thresholds = ROOT / "transducer2ncnn" / "quantization" / "thresholds.py"
    assert thresholds in _reached(ROOT / "workflow_scripts" / "make_scale_table.py", ROOT)
    for script in ("observe.py", "measure_recordings.py"):
        assert thresholds not in _reached(ROOT / "workflow_scripts" / script, ROOT)


def test_how_scores_are_computed_does_not_change_what_was_decoded() -> None:
    scoring = ROOT / "transducer2ncnn" / "evaluation" / "scoring.py"
    engines = ROOT / "transducer2ncnn" / "engines"
    for script in ("score.py", "compare_precisions.py"):
        reached = _reached(ROOT / "workflow_scripts" / script, ROOT)
        assert scoring in reached
        assert not any(engines in file.parents for file in reached)
    for script in ("decode_pytorch.py", "decode_sherpa_ncnn.py"):
        assert scoring not in _reached(ROOT / "workflow_scripts" / script, ROOT)
