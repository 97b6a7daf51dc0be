"""`sluice run`: a pipeline from a file."""

from pathlib import Path
from typing import Annotated

import typer

from sluice.cli.options import AsJson, Url, pairs, user_name

__all__ = ["run"]


def run(
    file: Annotated[Path, typer.Argument(metavar="PIPELINE", help="A YAML file with the pipeline's `steps`.")],
    parameter: Annotated[
        list[str], typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter; may be repeated.")
    ] = [],  # noqa: B006  (typer's way)
    label: Annotated[
        list[str], typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label; may be repeated.")
    ] = [],  # noqa: B006
    priority: Annotated[str | None, typer.Option(help="high, normal or low.")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Time limit of the run.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: a repeated key returns the first run.")] = None,
    follow: Annotated[bool, typer.Option(help="Wait for the end and show the steps.")] = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline: a graph of jobs, checked as a whole before its first step.

    Exit status 1 if it fails. Ctrl-C leaves it running.

        sluice run examples/nightly/pipeline.yaml -p collection=docs -p tolerance=0.01
    """
    from sluice.cli.submit import read_pipeline, submit

    pipeline = read_pipeline(file, pairs(parameter, "--parameter"))
    wanted = pipeline.settle(priority=priority, labels=pairs(label, "--label"), timeout=timeout, by=user_name())
    submit(wanted, url, key=key, wait=follow, as_json=as_json)
