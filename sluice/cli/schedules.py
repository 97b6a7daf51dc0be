"""`sluice schedules`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli.options import AsJson, Url, apply_group_options, client, pairs, user_name
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice.api.jobs import Schedule

__all__ = ["schedules"]

HELP = """Submit jobs by the clock.

The broker keeps the time, so no process has to live for a tick.

    sluice schedules create nightly examples/nightly/pipeline.yaml --cron "0 3 * * *" --zone Europe/Berlin

    sluice schedules pause nightly
"""

schedules = typer.Typer(help=HELP, invoke_without_command=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")]


@schedules.callback()
def _schedules(ctx: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    if apply_group_options(ctx, url=url, as_json=as_json):
        list_schedules(url=url, as_json=as_json)


@schedules.command("list")
def list_schedules(url: Url = None, as_json: AsJson = False) -> None:
    """List the schedules, with their last and next ticks."""
    from sluice.cli.output import moment, print_json, print_table

    with client(url) as sluice:
        found = sluice.schedules()
    if as_json:
        print_json(found)
        return
    rows = [
        (s.name, s.spec.get("kind", ""), _when(s), moment(s.last_at), "paused" if s.paused else moment(s.next_at))
        for s in found
    ]
    print_table(("schedule", "kind", "when", "last", "next"), rows, empty="There are no schedules.")


@schedules.command("create")
def create_schedule(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file: a job with its `kind`, or a pipeline.")],
    cron: Annotated[
        str | None, typer.Option(help='Five or six fields: "0 3 * * *", with seconds "0 0 3 * * *".')
    ] = None,
    every: Annotated[str | None, typer.Option(help="An interval: 90s, 15m, 1h30m.")] = None,
    zone: Annotated[str | None, typer.Option(help="Time zone of the cron, such as Europe/Berlin; else UTC.")] = None,
    missed: Annotated[str, typer.Option(help="Ticks missed during downtime: skip or run_once.")] = "skip",
    overlap: Annotated[str, typer.Option(help="What to do while the last job still runs: allow or skip.")] = "allow",
    paused: Annotated[bool, typer.Option("--paused", help="Create it paused.")] = False,
    parameter: Annotated[
        list[str], typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A pipeline's parameter.")
    ] = [],  # noqa: B006  (typer's way)
    label: Annotated[list[str], typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label of its jobs.")] = [],  # noqa: B006
    priority: Annotated[str | None, typer.Option(help="high, normal or low.")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Time limit of each job.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create a schedule, or replace the one of this name.

    sluice schedules create nightly pipeline.yaml --cron "0 3 * * *" --zone Europe/Berlin --missed run_once
    """
    from sluice.cli.submit import explained, read_any

    wanted = read_any(file, pairs(parameter, "--parameter")).settle(
        priority=priority, labels=pairs(label, "--label"), timeout=timeout, by=user_name()
    )
    with client(url) as sluice, explained(wanted):
        made = sluice.create_schedule(
            name,
            wanted.spec,
            cron=cron,
            every=every,
            zone=zone,
            missed=missed,
            overlap=overlap,
            paused=paused,
            **wanted.settings,
        )
    _show(made, as_json)


@schedules.command("show")
def show_schedule(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Show one schedule."""
    with client(url) as sluice:
        _show(sluice.schedule(name), as_json)


@schedules.command("pause")
def pause_schedule(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Submit nothing until it is resumed."""
    with client(url) as sluice:
        _show(sluice.pause_schedule(name), as_json)


@schedules.command("resume")
def resume_schedule(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Go on from the next tick."""
    with client(url) as sluice:
        _show(sluice.resume_schedule(name), as_json)


@schedules.command("delete")
def delete_schedule(name: Name, url: Url = None) -> None:
    """Remove a schedule; what it has submitted goes on."""
    with client(url) as sluice:
        sluice.delete_schedule(name)
    say(f"There is no schedule {name} any more.")


@schedules.command("trigger")
def trigger_schedule(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for the job to end.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Submit its job now, paused or not."""
    from sluice.cli.follow import follow as follow_to_the_end
    from sluice.cli.job_report import report
    from sluice.cli.output import print_json

    with client(url) as sluice:
        job = sluice.trigger_schedule(name)
        if follow:
            job = follow_to_the_end(sluice, job.id, quiet=as_json)
    if follow:
        report(job, as_json=as_json)
    elif as_json:
        print_json(job)
    else:
        say(f"Job {job.id} is {job.state}; follow it with: sluice jobs follow {job.id}")


def _when(schedule: "Schedule") -> str:
    return f"every {schedule.every}" if schedule.every else f"{schedule.cron} {schedule.zone or 'UTC'}"


def _show(schedule: "Schedule", as_json: bool) -> None:
    from rich.markup import escape

    from sluice.cli.output import console, moment, print_json

    if as_json:
        print_json(schedule)
        return
    state = "[yellow]paused[/]" if schedule.paused else f"next {moment(schedule.next_at) or 'soon'}"
    kind = str(schedule.spec.get("kind", ""))
    lines = [
        f"[bold]{escape(schedule.name)}[/] {escape(kind)}  {escape(_when(schedule))}  {state}",
        f"  [dim]last[/] {moment(schedule.last_at)} {escape(schedule.last_job or '')}" if schedule.last_at else "",
        f"  [dim]missed ticks: {schedule.missed}, overlap: {schedule.overlap}[/]",
    ]
    for line in filter(None, lines):
        console().print(line, soft_wrap=True)
