"""`sluice collections versions`, `reindex` and `switch`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice.cli.options import AsJson, Url, client
from sluice.cli.resources import collections

if TYPE_CHECKING:
    from sluice.api.models import CollectionVersion

__all__ = ["collections", "list_versions", "reindex", "switch"]

Name = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection's name.")]
Keep = Annotated[int, typer.Option(min=0, max=20, help="Earlier versions to keep for a rollback.")]
Force = Annotated[bool, typer.Option(help="Go on although index and records of the collection do not agree.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end.")]


@collections.command("versions")
def list_versions(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """List the versions of a collection: the ways in which its documents are indexed."""
    from sluice.cli.output import ago, print_json, print_table

    with client(url) as sluice:
        found = sluice.collection(name).versions
    if as_json:
        print_json(list(found))
        return
    rows = [
        (
            version.name,
            version.state,
            f"{version.documents:,}",
            f"{version.chunks:,}",
            "usual" if version.chunk_tokens is None else f"{version.chunk_tokens}, {version.chunk_overlap} shared",
            version.embedding_variant,
            _searched(version),
            ago(version.created_at),
        )
        for version in found
    ]
    columns = ("version", "state", ">documents", ">chunks", "tokens", "embedded by", "searched by", "created")
    print_table(columns, rows, empty="There are no versions.")


def _searched(version: "CollectionVersion") -> str:
    """The options of retrieval that are not the usual ones."""
    chosen = version.retrieval.model_dump(exclude_none=True)
    if version.rerank_candidates:
        chosen["rerank_candidates"] = version.rerank_candidates
    return ", ".join(f"{name} {value}" for name, value in chosen.items()) or "usual"


@collections.command("reindex")
def reindex(
    name: Name,
    version: Annotated[str | None, typer.Option(help="Name of the new version; by default v2, v3 and so on.")] = None,
    chunk_tokens: Annotated[int | None, typer.Option(min=32, max=8192, help="Longest chunk, in tokens.")] = None,
    chunk_overlap: Annotated[int | None, typer.Option(min=0, help="Tokens that neighbouring chunks share.")] = None,
    embedding_variant: Annotated[str | None, typer.Option(help="Variant of the stage `embed` to embed with.")] = None,
    switch: Annotated[bool, typer.Option("--switch/--no-switch", help="Make it the live version in the end.")] = True,
    keep: Keep = 1,
    force: Force = False,
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Index all documents anew, beside the live version, which goes on answering."""
    how = {"chunk_tokens": chunk_tokens, "chunk_overlap": chunk_overlap, "embedding_variant": embedding_variant}
    said = {member: value for member, value in {"version": version, **how}.items() if value is not None}
    spec = {"kind": "reindex", "collection": name, "switch": switch, "keep": keep, **said, **_forced(force)}
    _submit(spec, url, wait=wait, as_json=as_json)


@collections.command("switch")
def switch(
    name: Name,
    version: Annotated[str | None, typer.Argument(help="The version; else the one that was live before.")] = None,
    keep: Keep = 1,
    force: Force = False,
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make another version of a collection the live one; without a name, go back to the one before."""
    spec = {
        "kind": "switch",
        "collection": name,
        "keep": keep,
        **({"version": version} if version else {}),
        **_forced(force),
    }
    _submit(spec, url, wait=wait, as_json=as_json)


def _forced(force: bool) -> dict[str, bool]:
    return {"force": True} if force else {}


def _submit(spec: dict[str, Any], url: str | None, *, wait: bool, as_json: bool) -> None:
    from sluice.cli.follow import follow
    from sluice.cli.job_report import report
    from sluice.cli.output import print_json

    with client(url) as sluice:
        job = sluice.submit_job(spec)
        if wait:
            job = follow(sluice, job.id, quiet=as_json)
    if wait:
        report(job, as_json=as_json)
    elif as_json:
        print_json(job)
    else:
        typer.echo(f"Job {job.id} is {job.state}; follow it with: sluice jobs follow {job.id}")
