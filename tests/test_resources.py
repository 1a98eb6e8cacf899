"""What jobs need: every rule states it, and it grows with what the job works on."""

from __future__ import annotations

import functools
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT

from transducer2ncnn.workflow import environment

WILDCARDS = SimpleNamespace(model="m", shards="4")


def test_every_rule_states_threads_memory_and_time() -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    rules = re.findall(r"^rule (\w+):\n((?:(?:    .*)?\n)+)", text, re.MULTILINE)
    # The others stand for what is asked for by one name, and are no jobs.
    rules = [
        (name, body) for name, body in rules if re.search("^    (shell|script|run):", body, re.M)
    ]
    assert len(rules) > 20
    for name, body in rules:
        for stated in (r"^    threads: ", r"^        mem_mb=", r"^        runtime="):
            assert re.search(stated, body, re.MULTILINE), f"{name} states no {stated.split()[-1]}"


@pytest.fixture(params=[True, False], ids=["local", "cluster"])
def stated(request: pytest.FixtureRequest) -> dict:
    """rules/resources.smk, which is Python, for a checkpoint of 500 MB."""
    names = {
        "functools": functools,
        "math": math,
        "workflow": SimpleNamespace(local_exec=request.param),
        "checkpoint_mb": lambda wildcards: 500,
    }
    exec((ROOT / "rules" / "resources.smk").read_text(), names)
    return names


def test_memory_grows_with_model_audio_and_attempt(stated: dict) -> None:
    around = 0 if stated["workflow"].local_exec else 300
    needed = stated["memory"](400, per_mb=2, audio_mb=lambda wildcards: 10.4)
    # 400 + 2 × 500, and the audio twice as large as on the disk.
    assert needed(WILDCARDS, attempt=1) == 1421 + around
    assert needed(WILDCARDS, attempt=3) == 4263 + around


def test_time_grows_with_model_audio_and_attempt(stated: dict) -> None:
    # An hour at 16 kHz in 16 bits.
    needed = stated["minutes"](5, per_gb=20, per_minute=0.5, audio_mb=lambda wildcards: 115.2)
    assert needed(WILDCARDS, attempt=1) == 5 + 10 + 30
    assert needed(WILDCARDS, attempt=2) == 90


def test_a_shard_needs_its_share_of_the_audio(stated: dict) -> None:
    stated["audio_mb"] = lambda name, key: {"calibration_wavs": 100, "evaluation": 60}[key]
    assert stated["observed_mb"](WILDCARDS) == 25
    assert stated["decoded_mb"](WILDCARDS) == 15


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
#: Holds 64 MB, and prints how much of its memory is in large pages, in kB.
HOLDS_MEMORY = """
held = bytearray(b"x") * (64 << 20)
rollup = open("/proc/self/smaps_rollup").read()
print(int(rollup.split("AnonHugePages:")[1].split()[0]))
"""


@pytest.mark.skipif(
    not HUGE_PAGES.is_file() or "[never]" in HUGE_PAGES.read_text(),
    reason="this system gives no large pages",
)
def test_jobs_ask_for_large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_large_pages() -> int:
        command = [sys.executable, "-c", HOLDS_MEMORY]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    monkeypatch.setenv(environment.TUNABLES, "")
    monkeypatch.delenv(environment.TUNABLES)
    environment.use_large_pages()
    assert in_large_pages() > 32_000
    monkeypatch.setenv(environment.TUNABLES, "glibc.malloc.hugetlb=0")
    environment.use_large_pages()
    if "[madvise]" in HUGE_PAGES.read_text():
        assert in_large_pages() < 32_000
