"""`sluice runs`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli.options import AsJson, Url, apply_group_options, client, pairs
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice.api.jobs import JobState
    from sluice.api.runs import MetricSeries

__all__ = ["runs"]

HELP = """See and compare experiment runs: evaluations, tuning, training and pipelines, by their parameters and metrics.

    sluice runs list --collection docs

    sluice runs show ID

    sluice runs compare A B

    sluice runs plot A B -o plot.html
"""

runs = typer.Typer(help=HELP, invoke_without_command=True)

MOST_COMPARED = 20

RunId = Annotated[str, typer.Argument(metavar="ID", help="The run, which is a job.")]
RunIds = Annotated[list[str], typer.Argument(metavar="ID ID...", help="The runs; differences are from the first one.")]


@runs.callback()
def _runs(ctx: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    if apply_group_options(ctx, url=url, as_json=as_json):
        list_runs(url=url, as_json=as_json)


@runs.command("list")
def list_runs(
    state: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only runs of this kind.")] = None,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Only runs of this collection.")] = None,
    label: Annotated[
        list[str], typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label; may be repeated.")
    ] = [],  # noqa: B006  (typer's way)
    parent: Annotated[str | None, typer.Option(metavar="ID", help="Only the steps of this pipeline.")] = None,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Continue behind this run.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="At most this many.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the latest experiment runs, with the metrics that say how good they are."""
    from sluice.cli.output import ago, print_json, print_table, took
    from sluice.cli.run_report import main_metrics, what

    with client(url) as sluice:
        found = sluice.runs(
            state=_state(state),
            kind=kind,
            collection=collection,
            labels=pairs(label, "--label"),
            parent=parent,
            after=after,
            limit=limit,
        )
    if as_json:
        print_json(found)
        return
    rows = [
        (
            run.id,
            what(run),
            run.collection,
            run.state,
            ago(run.started_at),
            took(run.started_at, run.finished_at),
            main_metrics(run),
        )
        for run in found
    ]
    columns = ("run", "kind", "collection", "state", "started", ">took", "main metrics")
    print_table(columns, rows, empty="There are no runs: see `sluice evaluate` and `sluice tune`.")


@runs.command("show")
def show_run(run_id: RunId, url: Url = None, as_json: AsJson = False) -> None:
    """Show one run: parameters, metrics, what it has logged by step, and the versions of code and data."""
    from sluice.cli.output import print_json
    from sluice.cli.run_report import print_run

    with client(url) as sluice:
        run = sluice.run(run_id)
        logged = sluice.run_metrics(run_id)
    if as_json:
        print_json({"run": run, "logged": logged})
    else:
        print_run(run, logged)


@runs.command("compare")
def compare_runs(run_ids: RunIds, url: Url = None, as_json: AsJson = False) -> None:
    """Compare runs: parameters and versions that differ, and metrics with their differences from the first run.

    sluice runs compare A B C
    """
    from sluice.cli.run_report import comparison_as_json, print_comparison

    _check(run_ids)
    with client(url) as sluice:
        found = sluice.compare_runs(*run_ids)
    if as_json:
        comparison_as_json(found)
    else:
        print_comparison(found)


@runs.command("plot")
def plot_runs(
    run_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The runs.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="The HTML file to write.")] = Path(
        "runs.html"
    ),
    url: Url = None,
) -> None:
    """Write a page that compares runs: metrics by step as lines, parameters and metrics beside each other.

    The page is one file that needs nothing else.

        sluice runs plot A B C -o plot.html
    """
    from sluice.cli.run_page import as_page

    _check(run_ids, fewest=1)
    with client(url) as sluice:
        found = [sluice.run(run_id) for run_id in run_ids]
        logged: list[list[MetricSeries]] = [sluice.run_metrics(run_id) for run_id in run_ids]
    output.write_text(as_page(found, logged), encoding="utf-8")
    say(f"{output}: {len(found)} run{'s' if len(found) > 1 else ''}")


def _check(run_ids: list[str], fewest: int = 2) -> None:
    if len(run_ids) < fewest:
        raise typer.BadParameter("name two runs or more; `sluice runs` lists them")
    if len(set(run_ids)) < len(run_ids):
        raise typer.BadParameter("name each run once")
    if len(run_ids) > MOST_COMPARED:
        raise typer.BadParameter(f"at most {MOST_COMPARED} runs are compared at once")


def _state(text: str | None) -> "JobState | None":
    from sluice.api.jobs import JobState

    try:
        return JobState(text) if text else None
    except ValueError:
        states = ", ".join(JobState)
        raise typer.BadParameter(f"{text!r} is none of {states}", param_hint="--state") from None
