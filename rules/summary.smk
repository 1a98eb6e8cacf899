# What is said at the end of a run.

import atexit

from transducer2ncnn.workflow import reasons, summary, timers


def failed_jobs():
    """The jobs that failed, each with what was submitted: itself, or the group that it is in."""
    return {
        job: submitted
        for submitted in workflow.scheduler.failed
        for job in (submitted.jobs if submitted.is_group() else [submitted])
    }


def forget_failed():
    """Drop Snakemake's records of failed jobs.

    It notes what such a job's inputs were, and then removes what the job wrote. If what depends on
    that is there, from before, it finds the inputs as noted in the next run, and nothing to do.
    """
    for job in failed_jobs():
        if not workflow.dag.finished(job):
            workflow.persistence.cleanup(job)


def summarize():
    """Say what became of the run's models."""
    failed_in = failed_jobs()
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
        print(*summary.lines(Path("results"), jobs), "", sep="\n")


def say_why():
    """Say of a plan what makes it run again what is there."""
    if workflow.dag is None or not workflow.dryrun:
        return
    # Planned, they count as finished.
    planned = list(workflow.dag.needrun_jobs(exclude_finished=False))
    # Snakemake names these as what they follow from.
    made = {str(file) for job in planned for file in job.output}
    stale = []
    for job in planned:
        reason = workflow.dag.reason(job)
        changed = reason.params_changed
        newer = {str(file) for file in reason.updated_input} - made
        if not (changed or newer or reason.input_changed):
            continue  # before its message is put together, for most of a plan may be new
        stale.append(
            reasons.Stale(
                message=str(job.message),
                params=dict(job.params.items()),
                before=changed.only_old if changed else (),
                now=changed.only_new if changed else (),
                newer=newer,
                other_files=bool(reason.input_changed),
            )
        )
    for line in reasons.lines(stale):
        print(line)


# Snakemake has no hook for a plan.
if workflow.is_main_process:
    atexit.register(say_why)
