"""The command line: `sluice`. Modules that cost time to import are imported by the commands that use them."""

import sys

import typer

from sluice.cli import (
    artifacts,
    ask,
    backup,
    dataset,
    evaluate,
    feedback,
    ingest,
    jobs,
    keys,
    models,
    payloads,
    pipelines,
    releases,
    resources,
    routes,
    run,
    runs,
    schedules,
    sweep,
    system,
    trace,
    train,
    tune,
    up,
    usage,
    versions,
)

__all__ = ["app", "main"]

HELP = """Ask questions of your own documents.

Start with `sluice up`, then `sluice ingest ./docs` and `sluice ask "…"`.
"""

app = typer.Typer(
    name="sluice",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)
app.command("up", rich_help_panel="This machine")(up.up)
app.command("down", rich_help_panel="This machine")(up.down)
app.command("doctor", rich_help_panel="This machine")(system.doctor)
app.command("backup", rich_help_panel="This machine")(backup.backup)
app.command("restore", rich_help_panel="This machine")(backup.restore)
app.command("ingest", rich_help_panel="Documents and answers")(ingest.ingest)
app.command("ask", rich_help_panel="Documents and answers")(ask.ask)
app.command("evaluate", rich_help_panel="Documents and answers")(evaluate.evaluate)
app.command("train", rich_help_panel="Documents and answers")(train.train)
app.command("sweep", rich_help_panel="Documents and answers")(sweep.sweep)
app.command("tune", rich_help_panel="Documents and answers")(tune.tune)
app.command("dataset", rich_help_panel="Documents and answers")(dataset.dataset)
app.add_typer(feedback.feedback, name="feedback", rich_help_panel="Documents and answers")
app.add_typer(versions.collections, name="collections", rich_help_panel="Documents and answers")
app.add_typer(resources.documents, name="documents", rich_help_panel="Documents and answers")
app.add_typer(models.models, name="models", rich_help_panel="Documents and answers")
app.add_typer(releases.releases, name="releases", rich_help_panel="Documents and answers")
app.command("run", rich_help_panel="Jobs")(run.run)
app.add_typer(jobs.jobs, name="jobs", rich_help_panel="Jobs")
app.add_typer(runs.runs, name="runs", rich_help_panel="Jobs")
app.add_typer(schedules.schedules, name="schedules", rich_help_panel="Jobs")
app.add_typer(artifacts.artifacts, name="artifacts", rich_help_panel="Jobs")
app.command("status", rich_help_panel="Operations")(system.status)
app.command("usage", rich_help_panel="Operations")(usage.usage)
app.command("trace", rich_help_panel="Operations")(trace.trace)
app.add_typer(payloads.payloads, name="payloads", rich_help_panel="Operations")
app.add_typer(keys.keys, name="keys", rich_help_panel="Operations")
app.add_typer(routes.routes, name="routes", rich_help_panel="Operations")
app.add_typer(pipelines.pipelines, name="pipelines", rich_help_panel="Operations")
app.add_typer(resources.dead_letters, name="dead-letters", rich_help_panel="Operations")
app.command("version", rich_help_panel="Operations")(system.version)


def main() -> None:
    """Run the command line. Exit status: 0, 1 for a failure, 2 for wrong usage, 3 where no Sluice answers."""
    try:
        app()
    except Exception as error:  # noqa: BLE001  (explain raises again what it does not know)
        from sluice.cli.output import explain

        sys.exit(explain(error))
