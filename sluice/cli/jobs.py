"""`sluice jobs`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli.options import AsJson, Url, apply_group_options, client, pairs, user_name
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice.api.jobs import JobState

__all__ = ["jobs"]

HELP = """Submit, follow, cancel and retry jobs, and see what became of them.

A job is described by a YAML file with its `kind`:

    kind: reindex

    collection: docs

    chunk_tokens: 512

    sluice jobs submit reindex.yaml --follow

    sluice jobs list --state failed

    sluice jobs retry ID
"""

jobs = typer.Typer(help=HELP, invoke_without_command=True)

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")]
Label = Annotated[list[str], typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label; may be repeated.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; shown in the audit log.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Wait for the end and show the progress.")]


@jobs.callback()
def _jobs(ctx: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    if apply_group_options(ctx, url=url, as_json=as_json):
        list_jobs(url=url, as_json=as_json)


@jobs.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Only jobs of this collection.")] = None,
    label: Label = [],  # noqa: B006  (typer's way)
    parent: Annotated[str | None, typer.Option(metavar="ID", help="Only the steps of this pipeline.")] = None,
    limit: Limit = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the latest jobs.

    sluice jobs list --kind batch --label team=search
    """
    from sluice.cli.job_report import now, units, why
    from sluice.cli.output import ago, print_json, print_table, took

    with client(url) as sluice:
        found = sluice.jobs(
            state=_state(state),
            kind=kind,
            collection=collection,
            labels=pairs(label, "--label"),
            parent=parent,
            limit=limit,
        )
    if as_json:
        print_json(found)
        return
    rows = [
        (
            j.id,
            f"{j.kind} {j.name}" if j.name else j.kind,
            j.state,
            units(j),
            j.progress.failed or "",
            ago(j.created_at),
            took(j.started_at, j.finished_at),
            now(j) or why(j),
        )
        for j in found
    ]
    columns = ("job", "kind", "state", ">done", ">failed", "created", ">took", "")
    print_table(columns, rows, empty="There are no jobs.")


@jobs.command("show")
def show_job(job_id: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Show one job, and the steps of a pipeline."""
    from sluice.cli.follow import print_steps
    from sluice.cli.job_report import report

    with client(url) as sluice:
        job = sluice.job(job_id)
        steps = sluice.job_steps(job_id) if job.kind == "pipeline" and not as_json else []
    if steps:
        print_steps(steps)
    report(job, as_json=as_json)


@jobs.command("spec")
def show_spec(job_id: JobId, url: Url = None) -> None:
    """Print what a job was to do, as JSON."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        print_json(sluice.job_spec(job_id))


@jobs.command("follow")
def follow_job(job_id: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Follow a job until it ends; exit status 1 if it or one of its documents failed.

    Ctrl-C leaves it running.
    """
    from sluice.cli.follow import follow
    from sluice.cli.job_report import report

    with client(url) as sluice:
        job = follow(sluice, job_id, quiet=as_json)
    report(job, as_json=as_json)


@jobs.command("submit")
def submit_job(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML or JSON file: a spec with its `kind`.")],
    priority: Annotated[str | None, typer.Option(help="high, normal or low.")] = None,
    label: Label = [],  # noqa: B006
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Time limit of the job.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: a repeated key returns the first job.")] = None,
    follow: Follow = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Submit the job that a file describes.

    The file holds a spec, or `spec` beside `priority`, `labels`, `retry` and `timeout`; options here go first.

        sluice jobs submit reindex.yaml --label team=search --follow
    """
    from sluice.cli.submit import read_job, submit

    wanted = read_job(file).settle(priority=priority, labels=pairs(label, "--label"), timeout=timeout, by=user_name())
    submit(wanted, url, key=key, wait=follow, as_json=as_json)


@jobs.command("cancel")
def cancel_job(job_id: JobId, reason: Reason = "", url: Url = None, as_json: AsJson = False) -> None:
    """End a job, whether it waits or runs; a pipeline with its steps."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        job = sluice.cancel_job(job_id, reason=reason, by=user_name())
    if as_json:
        print_json(job)
    elif job.finished:
        say(f"Job {job.id} is {job.state}.")
    else:
        say(f"Job {job.id} has been asked to end.")


@jobs.command("retry")
def retry_job(
    job_id: JobId, reason: Reason = "", follow: Follow = False, url: Url = None, as_json: AsJson = False
) -> None:
    """Try a failed job again, from its last checkpoint; a pipeline keeps the steps that have succeeded."""
    from sluice.cli.follow import follow as follow_to_the_end
    from sluice.cli.job_report import report
    from sluice.cli.output import print_json

    with client(url) as sluice:
        job = sluice.retry_job(job_id, reason=reason, by=user_name())
        if follow:
            job = follow_to_the_end(sluice, job_id, quiet=as_json)
    if follow:
        report(job, as_json=as_json)
    elif as_json:
        print_json(job)
    else:
        say(f"Job {job.id} is queued again; follow it with: sluice jobs follow {job.id}")


@jobs.command("audit")
def audit_job(job_id: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Show every change of a job's state: when, who and why."""
    from sluice.cli.output import moment, print_json, print_table

    with client(url) as sluice:
        events = sluice.job_audit(job_id)
    if as_json:
        print_json(events)
        return
    rows = [(moment(event.at), event.state, event.attempt or "", event.by, event.reason) for event in events]
    print_table(("when", "state", ">try", "by", "why"), rows, empty="The log no longer knows this job.")


@jobs.command("artifacts")
def job_artifacts(
    job_id: JobId,
    file: Annotated[str | None, typer.Argument(metavar="[FILE]", help="The artifact to download.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", help="The file to write; `-` is standard output.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the files that a job has made, or download one.

    sluice jobs artifacts ID results.jsonl -o results.jsonl
    """
    from sluice.cli.output import download, file_size, print_json, print_table

    with client(url) as sluice:
        if file is not None:
            download(sluice, f"{job_id}/{file}", output)
            return
        found = sluice.job_artifacts(job_id)
    if as_json:
        print_json(found)
        return
    rows = [(artifact.file, file_size(artifact.bytes)) for artifact in found]
    print_table(("file", ">size"), rows, empty="The job has made no files.")


@jobs.command("dead")
def dead_jobs(limit: Limit = 50, url: Url = None, as_json: AsJson = False) -> None:
    """List jobs that were given up on, with their tracebacks in --json; `sluice jobs replay` tries one again."""
    from sluice.cli.output import ago, print_json, print_table

    with client(url) as sluice:
        found = [letter for letter in sluice.dead_letters(limit=limit) if letter.subject.startswith("job.")]
    if as_json:
        print_json(found)
        return
    rows = [
        (letter.seq, letter.job, letter.subject.split(".")[1], ago(letter.failed_at), letter.reason) for letter in found
    ]
    print_table((">seq", "job", "kind", "failed", "reason"), rows, empty="No job was given up on.")


@jobs.command("replay")
def replay_jobs(
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Jobs that were given up on.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    url: Url = None,
) -> None:
    """Try jobs again that were given up on, and forget their dead letters.

    sluice jobs replay --all
    """
    if bool(job_ids) == everything:
        raise typer.BadParameter("name jobs, or say --all")
    with client(url) as sluice:
        if everything:
            letters = sluice.dead_letters(limit=1000)
            job_ids = list(dict.fromkeys(letter.job for letter in letters if letter.job))
        for job_id in job_ids or []:
            sluice.retry_job(job_id, reason="replayed", by=user_name())
            say(f"Job {job_id} is queued again.")


def _state(text: str | None) -> "JobState | None":
    from sluice.api.jobs import JobState

    try:
        return JobState(text) if text else None
    except ValueError:
        states = ", ".join(JobState)
        raise typer.BadParameter(f"{text!r} is none of {states}", param_hint="--state") from None
