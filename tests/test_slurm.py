"""The workflow on a real SLURM: the whole export of the model that ships, and what goes wrong."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from pause import Pause, wait_for
from slurm import NODE, Slurm, missing
from test_faults import Faulty, check_completes, check_whole, finished, held  # noqa: F401
from workflow import Config, Workflow

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no SLURM to run on: {missing()}")

#: Besides the profile: no need to wait for other machines' files, or to ask seldom.
QUICK = ("--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "1")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    # Not pytest's folder: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        slurm = Slurm(Path(folder))
        try:
            slurm.start()
            yield slurm
        finally:
            slurm.stop()


def on_slurm(workflow: Workflow) -> tuple[str, ...]:
    return ("--profile", str(workflow.project / "profiles" / "slurm"), *QUICK)


class Digits(Workflow):
    """What ships, as it is configured."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        super().__init__(folder)
        (self.work / "models").symlink_to(ROOT / "models")

    def config(self) -> Config:
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        # The figures of speed are the only ones that are not compared.
        config["evaluation"] = config.get("evaluation", {}) | {"rounds": 1}
        return config


def artifacts(workflow: Workflow) -> dict[str, bytes]:
    """All results, less what was measured of the time they took."""
    results = workflow.work / "results"
    timed = ("speed.json", "table.tsv", "report.html")
    files = (f for f in results.rglob("*") if f.is_file() and f.name not in timed)
    return {str(f.relative_to(results)): f.read_bytes() for f in files}


def test_the_whole_export_is_the_same_on_slurm(slurm: Slurm, tmp_path: Path) -> None:
    local, cluster = Digits(tmp_path / "local"), Digits(tmp_path / "cluster")
    # TorchScript holds the path of the code that it was traced from.
    cluster.project = local.project
    quick = Pause(tmp_path / "pause", "nothing")
    cluster.variables = slurm.variables | quick.variables
    local.run(local.config())
    done = cluster.snakemake(cluster.config(), *on_slurm(cluster))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "has been submitted with SLURM jobid" in done.stdout + done.stderr
    made, expected = artifacts(cluster), artifacts(local)
    assert made.keys() == expected.keys() and len(made) > 50
    assert [name for name in made if made[name] != expected[name]] == []
    # Where it ran makes nothing stale.
    assert cluster.planned(cluster.config()) == set()


@pytest.fixture
def submitted(
    slurm: Slurm,
    held: tuple[Faulty, Pause],  # noqa: F811
) -> Iterator[tuple[Faulty, Pause]]:
    """A workflow of which one job is left, which is held half-way on the cluster."""
    workflow, pause = held
    workflow.variables = slurm.variables | pause.variables
    yield workflow, pause
    for job in slurm.jobs("all"):
        slurm.cancel(job)
    wait_for(lambda: not slurm.jobs(), "the end of the jobs")


def submissions(workflow: Faulty) -> list[str]:
    """SLURM's ids of what a run has submitted."""
    return re.findall(r"has been submitted with SLURM jobid (\d+)", workflow.log())


def test_a_cancelled_job_is_submitted_again(
    slurm: Slurm,
    submitted: tuple[Faulty, Pause],
    finished: Faulty,  # noqa: F811
) -> None:
    workflow, pause = submitted
    before = workflow.times()
    with workflow.running(*on_slurm(workflow)) as run:
        pause.wait()
        (job,) = slurm.jobs()
        slurm.cancel(job)
        wait_for(lambda: job not in slurm.jobs("running,completing"), "the job's end")
        pause.release()
        assert run.wait() == 0, workflow.log()
    assert [slurm.job_state(j) for j in submissions(workflow)] == ["CANCELLED", "COMPLETED"]
    check_whole(workflow, finished, before)


def test_a_job_out_of_memory_gets_more(
    slurm: Slurm,
    submitted: tuple[Faulty, Pause],
    finished: Faulty,  # noqa: F811
) -> None:
    workflow, pause = submitted
    before = workflow.times()
    # More than the rule states, with what it needs, and less than twice that.
    workflow.variables["BALLAST"] = "450_000_000"
    with workflow.running(*on_slurm(workflow)) as run:
        wait_for(lambda: len(submissions(workflow)) == 2, "a second try")
        pause.release()
        assert run.wait() == 0, workflow.log()
    first, second = (slurm.asked(job) for job in submissions(workflow))
    # Twice as much, but for what the snakemake in the job takes, and for rounding.
    assert 1.3 * first.megabytes < second.megabytes < 2 * first.megabytes
    assert 1.8 * first.minutes < second.minutes <= 2 * first.minutes
    killed, _ = submissions(workflow)
    assert re.search(rf"\[{killed}\.\w+\] error: Exceeded job memory limit", slurm.log("slurmd"))
    check_whole(workflow, finished, before)


def test_a_node_that_goes_away(
    slurm: Slurm,
    submitted: tuple[Faulty, Pause],
    finished: Faulty,  # noqa: F811
) -> None:
    workflow, pause = submitted
    before = workflow.times()
    with workflow.running(*on_slurm(workflow)) as run:
        pause.wait()
        slurm.kill_node()
        slurm.scontrol("update", f"nodename={NODE}", "state=down", "reason=gone")
        assert not slurm.jobs()
        slurm.start_slurmd()
        wait_for(lambda: slurm.node_state() == "idle", "the node")
        # SLURM would wait two minutes before it runs the job again. Without them, what it tells
        # the node of the failure can hit the second run; then snakemake submits a third.
        (job,) = submissions(workflow)
        slurm.scontrol("update", f"jobid={job}", "starttime=now")
        pause.release()
        assert run.wait() == 0, workflow.log()
    assert f"requeue job JobId={job} due to failure of node {NODE}" in slurm.log("slurmctld")
    check_whole(workflow, finished, before)


def test_the_controller_is_restarted(
    slurm: Slurm,
    submitted: tuple[Faulty, Pause],
    finished: Faulty,  # noqa: F811
) -> None:
    workflow, pause = submitted
    before = workflow.times()
    with workflow.running(*on_slurm(workflow)) as run:
        pause.wait()
        slurm.restart_slurmctld()
        pause.release()
        assert run.wait() == 0, workflow.log()
    assert len(pause.pids()) == len(submissions(workflow)) == 1
    check_whole(workflow, finished, before)


def test_snakemake_is_killed_while_its_job_runs(
    slurm: Slurm,
    submitted: tuple[Faulty, Pause],
    finished: Faulty,  # noqa: F811
) -> None:
    workflow, pause = submitted
    with workflow.running(*on_slurm(workflow)) as run:
        pause.wait()
        run.kill()
        run.wait()
    # As README.md says: the jobs go on, and are to be cancelled before the lock is taken away.
    (job,) = slurm.jobs()
    slurm.cancel(job)
    wait_for(lambda: job not in slurm.jobs("running,completing"), "the job's end")
    pause.release()
    workflow.run(workflow.config(), "--unlock")
    check_completes(workflow, finished)
