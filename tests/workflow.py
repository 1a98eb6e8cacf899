"""Running the workflow itself, of a copy of the project, in a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml
from conftest import GOLDEN, ROOT

#: What of the project a run needs.
SOURCES = [
    "Snakefile",
    "rules",
    "workflow_scripts",
    "transducer2ncnn",
    "report",
    "envs",
    "profiles",
]

#: Jobs that sum up a model, and depend on nearly everything.
SUMMING_UP = ("listing the rules that make it", "making the report")

#: Limits of quantized precisions. The models are random: what is best among equals depends on
#: little, and what they find in noise is no speech.
LENIENT = {
    "min_agreement": 0.1,
    "max_token_edits": 10.0,
    "min_input_snr": 0.0,
    "require_speech": False,
}

Config = dict


class Workflow:
    """A copy of the project, a folder to run it in, and variables to run it with."""

    def __init__(self, folder: Path) -> None:
        self.variables: dict[str, str] = {}
        self.project, self.work = folder / "project", folder / "work"
        for name in SOURCES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            self.project.mkdir(exist_ok=True)
            copy(ROOT / name, self.project / name)
        (self.work / "wavs").mkdir(parents=True)
        rng = np.random.default_rng(0)
        for name in ("a", "b"):
            noise = rng.standard_normal(12000) * 0.1
            soundfile.write(self.work / "wavs" / f"{name}.wav", noise, 16000)
        for name in ("projection", "no-projection"):
            shutil.copytree(GOLDEN / f"checkpoint-{name}", self.work / name)

    def config(self) -> Config:
        models = {
            name: {
                "checkpoint": f"{name}/pretrained.pt",
                "tokens": f"{name}/tokens.txt",
                "test_wavs": "wavs/*.wav",
            }
            for name in ("projection", "no-projection")
        }
        models["projection"]["calibration_wavs"] = "wavs"
        return {
            "models": models,
            "precisions": {
                "fp32": {"tolerance": 1e-4},
                "fp16": {"tolerance": 2e-2},
                "int8-table": dict(LENIENT),
            },
            "verification": {"lengths": [9, 30], "segments": 10},
        }

    def start(self, config: Config, *arguments: str, **options: Any) -> subprocess.Popen:
        (self.work / "config.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", "-s", self.project / "Snakefile"]
        # Nothing of this checkout may reach the run: it is the copy that is under test.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | self.variables
        return subprocess.Popen(
            [*command, *arguments], cwd=self.work, env=environment, text=True, **options
        )

    def snakemake(self, config: Config, *arguments: str) -> subprocess.CompletedProcess:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.start(config, *arguments, **pipes) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run(self, config: Config, *arguments: str, cores: int = 2) -> str:
        done = self.snakemake(config, "--cores", str(cores), *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def planned(self, config: Config, *arguments: str) -> set[str]:
        """The messages of the jobs that a run would start; those that sum up left out."""
        done = self.snakemake(config, "-n", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        messages = re.findall(r"^ *Job \d+: (.*)$", done.stdout + done.stderr, re.MULTILINE)
        return {
            m for m in messages if not m.startswith("everything") and not m.endswith(SUMMING_UP)
        }

    def files(self) -> dict[str, bytes]:
        """The exported files, by path."""
        results = self.work / "results"
        kinds = (".param", ".bin", ".txt", ".tsv", ".json", ".html")
        found = (f for f in results.rglob("*") if f.suffix in kinds)
        return {str(f.relative_to(results)): f.read_bytes() for f in found}
