"""Ask Snakemake which rules make a model's artifacts, and what follows from what."""

import argparse
import dataclasses
import subprocess
import tempfile
from pathlib import Path

from transducer2ncnn.base import errors, files
from transducer2ncnn.report import rule_graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snakefile", required=True)
    parser.add_argument("--config", required=True, help="the configuration, as JSON")
    parser.add_argument("--target", required=True)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
        config = Path(folder, "config.json")
        config.write_text(args.config, encoding="utf-8")
        # Like a job of the run around it, which has found out and locked what there is.
        command = ["snakemake", "--snakefile", args.snakefile, "--configfile", str(config)]
        command += ["--mode", "subprocess", "--nolock"]
        command += ["--profile", "none", "--workflow-profile", "none"]
        command += ["--rulegraph", "dot", "--", args.target]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise errors.UserError(f"snakemake cannot list its rules:\n{done.stderr}")
    files.write_json(args.output, dataclasses.asdict(rule_graph.parse(done.stdout)))


if __name__ == "__main__":
    errors.run(main)
