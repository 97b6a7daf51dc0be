"""`sluice models`."""

from pathlib import Path
from typing import Annotated

import typer

from sluice.cli.options import AsJson, Url, client
from sluice.cli.plain import say

__all__ = ["models"]

HELP = """Models that were trained or imported, which collections embed and rerank with.

    sluice models import ./my-model

    sluice collections reindex docs --embedding-model m-0123456789ab

    sluice models export m-0123456789ab -o my-model.tar
"""

models = typer.Typer(help=HELP, no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name, such as m-0123456789ab.")]


@models.command("list")
def list_models(url: Url = None, as_json: AsJson = False) -> None:
    """List the models of the store."""
    from sluice.cli.output import ago, file_size, print_json, print_table

    with client(url) as sluice:
        found = sluice.registered_models()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.name,
            one.kind,
            one.base,
            file_size(one.size),
            ", ".join(one.used_by) or "-",
            one.job or "-",
            ago(one.created_at),
        )
        for one in found
    ]
    columns = ("model", "kind", "base", ">size", "used by", "trained by", "created")
    print_table(columns, rows, empty="There are no models. Train one, or import one with: sluice models import FOLDER")


@models.command("show")
def show_model(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Look at a model: where it is from, its figures, its files and who uses it."""
    from sluice.cli.output import file_size, print_json, print_table

    with client(url) as sluice:
        found = sluice.registered_model(name)
    if as_json:
        print_json(found)
        return
    said = {
        "model": found.name,
        "kind": found.kind,
        "hash": found.hash,
        "base": found.base,
        "trained by": found.job,
        "data set": found.dataset,
        "dimensions": found.dimensions or "",
        "by": found.by,
        "description": found.description,
        "used by": ", ".join(found.used_by),
        **{name: f"{value:g}" for name, value in found.metrics.items()},
    }
    for label, value in said.items():
        if value:
            say(f"{label + ':':<14}{value}")
    rows = [(file.path, file_size(file.size), file.sha256) for file in found.files]
    print_table(("file", ">size", "SHA-256"), rows, empty="It has no files.")


@models.command("import")
def import_model(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The model's folder, a tar of it, or s3://BUCKET/PREFIX.")
    ],
    kind: Annotated[str, typer.Option(help="What it does: embedder, reranker or adapter.")] = "embedder",
    hash_: Annotated[str, typer.Option("--hash", help="The hash that it must have.")] = "",
    checksums: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="SHA-256 sums that its files must have.", exists=True, dir_okay=False),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Files to leave out, as in 'onnx/*'; may be repeated.")
    ] = None,
    base: Annotated[str, typer.Option(help="The model that it was trained from.")] = "",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Store a model. Its weights are safetensors; a pickle, or a file that runs code, is refused.

    A folder may be one of the Hugging Face hub's cache. A bucket takes the credentials, region and endpoint that the
    AWS command line takes. Nothing is downloaded from a hub.

        sluice models import s3://models/minilm --checksums SHA256SUMS --exclude 'onnx/*'

    With --hash or --checksums any other model is refused. The hash is what the import prints.
    """
    from sluice.cli.output import file_size, print_json

    with client(url) as sluice:
        stored = sluice.import_model(
            source,
            kind=kind,
            hash=hash_,
            base=base,
            description=description,
            exclude=exclude or (),
            checksums=checksums,
        )
    print_json(stored) if as_json else say(f"Model {stored.name}: {file_size(stored.size)}, hash {stored.hash}")


@models.command("export")
def export_model(
    name: Name,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", help="The file to write; MODEL.tar by default.")
    ] = None,
    url: Url = None,
) -> None:
    """Write a model to a tar archive with its checksums, which `import` reads."""
    from sluice.cli.output import file_size

    path = output or Path(f"{name}.tar")
    with client(url) as sluice:
        size = sluice.save_model(name, path)
    say(f"{path}: {file_size(size)}")


@models.command("delete")
def delete_model(name: Name, url: Url = None) -> None:
    """Delete a model that no version of a collection and no release needs."""
    with client(url) as sluice:
        sluice.delete_model(name)
    say(f"There is no {name} any more.")
