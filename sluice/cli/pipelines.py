"""`sluice pipelines`: the pipelines that a query can name, and pictures of them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sluice.cli.options import AsJson, Url, apply_group_options, client
from sluice.cli.plain import say

__all__ = ["pipelines"]

HELP = "List the pipelines that a query can name, draw them, and make them of KServe's graphs."

pipelines = typer.Typer(help=HELP, invoke_without_command=True)


class Format(StrEnum):
    TEXT = "text"
    MERMAID = "mermaid"


@pipelines.callback()
def _pipelines(ctx: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    if apply_group_options(ctx, url=url, as_json=as_json):
        list_pipelines(url, as_json)


@pipelines.command("list")
def list_pipelines(url: Url = None, as_json: AsJson = False) -> None:
    """List the pipelines that a query can name."""
    from sluice.cli.output import print_json, print_table

    with client(url) as sluice:
        found = sluice.pipelines()
    if as_json:
        print_json(found)
        return
    print_table(("pipeline",), [(pipeline.name,) for pipeline in found], empty="There are no pipelines.")


@pipelines.command("graph")
def draw_pipeline(
    name: Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline's name.")],
    form: Annotated[Format, typer.Option("--format", "-f", help="A tree, or Mermaid's language.")] = Format.TEXT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Draw the steps of a pipeline."""
    from sluice.cli.output import print_json
    from sluice.cli.pipeline_graphs import mermaid, tree

    with client(url) as sluice:
        found = {pipeline.name: pipeline for pipeline in sluice.pipelines()}
    if (pipeline := found.get(name)) is None:
        known = ", ".join(sorted(found)) or "none"
        raise typer.BadParameter(f"there is no pipeline {name!r}; the pipelines are: {known}", param_hint="PIPELINE")
    if as_json:
        print_json(pipeline)
    else:
        say(mermaid(pipeline.steps) if form is Format.MERMAID else tree(name, pipeline.steps))


@pipelines.command("import")
def import_graphs(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Manifests with InferenceGraphs of KServe.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="[MODEL=]NAME",
            help="The input that gets the question, of all models or of one; may be repeated. Without: `input`.",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="URL=NAME", help="The model that a `serviceUrl` stands for; may be repeated."
        ),
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE", help="A stage that follows the graph, such as generate; may be repeated."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")] = None,
) -> None:
    """Print KServe's InferenceGraphs as a file of pipelines. Comments in it say what has no counterpart.

    Exit status 2 for a graph that would mean something else, with the place in the file.
    """
    import sys

    from sluice.cli.kserve_graphs import Models, graphs_of, pipelines_yaml
    from sluice.cli.yaml_files import YamlFileError, read_documents

    named = [text.rpartition("=") for text in inputs or ()]
    every = [name for model, _, name in named if not model]
    known = Models(
        input=every[-1] if every else "input",
        inputs={model: name for model, _, name in named if model},
        urls=dict(_pair(text) for text in models or ()),
    )
    try:
        text = pipelines_yaml(graphs_of(read_documents(file), known), then or ())
    except YamlFileError as error:
        say(str(error), err=True)
        raise typer.Exit(2) from None
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{output}: {error.strerror}", param_hint="--output") from None


def _pair(text: str) -> tuple[str, str]:
    url, _, model = text.rpartition("=")
    if not url or not model:
        raise typer.BadParameter(f"{text!r} is not URL=NAME", param_hint="--model")
    return url, model
