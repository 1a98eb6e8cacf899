# What is said at the end of a run.

import sys

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.workflow import summary


def summarize():
    """Say what became of the run's models."""
    failed_in = {
        job: submitted
        for submitted in workflow.scheduler.failed
        for job in (submitted.jobs if submitted.is_group() else [submitted])
    }
    jobs = [
        summary.Job(
            model=job.wildcards.model,
            message=job.message,
            log=Path(job.log[0]),
            delivers=(
                whereabouts(job.output.tokens).rpartition("/")[0]
                if job.rule.name in ALIKE
                else None
            ),
            done=workflow.dag.noneedrun_finished(job),
            makes=frozenset(map(whereabouts, job.output)),
            # A group's other jobs may be done.
            failed_in=None if workflow.dag.finished(job) else failed_in.get(job),
        )
        for job in workflow.dag.jobs
        if "model" in job.wildcards_dict
    ]
    if jobs:
        try:
            print(*summary.lines(Path("results"), jobs), "", sep="\n")
        except UserError as e:
            print(f"error: {e}", file=sys.stderr)
