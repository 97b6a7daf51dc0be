"""`sluice artifacts`."""

from pathlib import Path
from typing import Annotated

import typer

from sluice.cli.options import AsJson, Url, client
from sluice.cli.plain import say

__all__ = ["artifacts"]

HELP = """Upload and download files of jobs: sets of questions, lines of a batch, what a job has made.

    sluice artifacts put questions.jsonl questions/nightly.jsonl

    sluice artifacts get questions/nightly.jsonl -o questions.jsonl
"""

artifacts = typer.Typer(help=HELP, no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="FOLDER/FILE", help="The name that job specs use.")]


@artifacts.command("put")
def put_artifact(
    file: Annotated[Path, typer.Argument(metavar="PATH", help="The file to upload.", exists=True, dir_okay=False)],
    name: Name,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file for jobs to read, in place of an earlier one of that name."""
    from sluice.cli.output import file_size, print_json

    _check(name)
    with client(url) as sluice:
        stored = sluice.put_artifact(name, file)
    print_json(stored) if as_json else say(f"{stored.name}: {file_size(stored.bytes)}")


@artifacts.command("get")
def get_artifact(
    name: Name,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", help="The file to write; `-` is standard output.")
    ] = None,
    url: Url = None,
) -> None:
    """Download a file."""
    from sluice.cli.output import download

    _check(name)
    with client(url) as sluice:
        download(sluice, name, output)


@artifacts.command("delete")
def delete_artifact(name: Name, url: Url = None) -> None:
    """Remove a file."""
    _check(name)
    with client(url) as sluice:
        sluice.delete_artifact(name)
    say(f"There is no {name} any more.")


def _check(name: str) -> None:
    if name.count("/") != 1:
        raise typer.BadParameter(f"{name!r} is not FOLDER/FILE")
