"""`sluice collections versions`, `reindex`, `switch` and `canary`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice.cli.options import AsJson, Url, Wait, client
from sluice.cli.plain import say
from sluice.cli.resources import collections

if TYPE_CHECKING:
    from sluice.api.collections import CollectionVersion, VersionCanary

__all__ = ["canary", "collections", "list_versions", "reindex", "switch"]

Name = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection's name.")]
Keep = Annotated[int, typer.Option(min=0, max=20, help="Earlier versions to keep for a rollback.")]
Force = Annotated[bool, typer.Option(help="Go on although index and records of the collection do not agree.")]


@collections.command("versions")
def list_versions(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """List the versions of a collection: the ways in which its documents are indexed."""
    from sluice.cli.output import ago, print_json, print_table

    with client(url) as sluice:
        collection = sluice.collection(name)
    found, canary = collection.versions, collection.canary
    if as_json:
        print_json(list(found))
        return
    rows = [
        (
            version.name,
            _share(canary) if canary and canary.version == version.name else version.state,
            f"{version.documents:,}",
            f"{version.chunks:,}",
            "usual" if version.chunk_tokens is None else f"{version.chunk_tokens}, {version.chunk_overlap} shared",
            version.embedding_model or version.embedding_variant,
            _searched(version),
            ago(version.created_at),
        )
        for version in found
    ]
    columns = ("version", "state", ">documents", ">chunks", "tokens", "embedded by", "searched by", "created")
    print_table(columns, rows, empty="There are no versions.")


def _share(canary: "VersionCanary") -> str:
    return f"shadow, {canary.shadow:g} %" if canary.shadow else f"canary, {canary.percent:g} %"


def _searched(version: "CollectionVersion") -> str:
    """The options of retrieval that are not the usual ones."""
    chosen = version.retrieval.model_dump(exclude_none=True)
    if version.rerank_candidates:
        chosen["rerank_candidates"] = version.rerank_candidates
    if version.rerank_model:
        chosen["rerank_model"] = version.rerank_model
    if version.adapter:
        chosen["adapter"] = version.adapter
    return ", ".join(f"{name} {value}" for name, value in chosen.items()) or "usual"


@collections.command("reindex")
def reindex(
    name: Name,
    version: Annotated[str | None, typer.Option(help="Name of the new version; by default v2, v3 and so on.")] = None,
    chunk_tokens: Annotated[int | None, typer.Option(min=32, max=8192, help="Longest chunk, in tokens.")] = None,
    chunk_overlap: Annotated[int | None, typer.Option(min=0, help="Tokens that neighbouring chunks share.")] = None,
    embedding_variant: Annotated[str | None, typer.Option(help="Variant of the stage `embed` to embed with.")] = None,
    embedding_model: Annotated[
        str | None, typer.Option(help="Model of the store to embed with; '' for the embedder's own.", metavar="MODEL")
    ] = None,
    rerank_model: Annotated[
        str | None, typer.Option(help="Model of the store to rerank with; '' for the reranker's own.", metavar="MODEL")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Adapter of the store to answer with; '' for none.", metavar="MODEL")
    ] = None,
    switch: Annotated[bool, typer.Option("--switch/--no-switch", help="Make it the live version in the end.")] = True,
    keep: Keep = 1,
    force: Force = False,
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Index all documents anew, beside the live version, which goes on answering."""
    how = {
        "chunk_tokens": chunk_tokens,
        "chunk_overlap": chunk_overlap,
        "embedding_variant": embedding_variant,
        "embedding_model": embedding_model,
        "rerank_model": rerank_model,
        "adapter": adapter,
    }
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


@collections.command("canary")
def canary(
    name: Name,
    version: Annotated[str, typer.Argument(help="The version to try.")],
    steps: Annotated[
        str, typer.Option(metavar="PERCENT,…", help="Shares of the questions, one step after the other.")
    ] = "5,25,50",
    shadow: Annotated[
        float,
        typer.Option(
            metavar="PERCENT",
            min=0,
            max=100,
            help="Questions to copy to it before the first step; nobody sees its answers.",
        ),
    ] = 0.0,
    step_seconds: Annotated[float, typer.Option(min=0, help="Seconds that a step lasts at least.")] = 600.0,
    min_answers: Annotated[int, typer.Option(min=1, help="Questions to the version in each step at least.")] = 100,
    step_timeout: Annotated[float, typer.Option(min=1, help="Seconds after which a step has too few.")] = 86400.0,
    max_failed: Annotated[float, typer.Option(min=0, max=1, help="More failed questions, as a share of 1.")] = 0.02,
    max_declined: Annotated[float, typer.Option(min=0, max=1, help="More declined questions.")] = 0.05,
    max_disliked: Annotated[float, typer.Option(min=0, max=1, help="More ratings that are thumbs down.")] = 0.1,
    max_slower: Annotated[float, typer.Option(min=1, help="Times the live version's 95th percentile.")] = 1.5,
    keep: Keep = 1,
    force: Force = False,
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Answer a growing share of the questions from another version, and make it the live one if it does no worse.

    It goes back by itself as soon as more of its questions fail, are declined or are rated down than may, or its
    answers are slower. A conversation keeps its version. `sluice jobs cancel` takes the share back at once. Exits
    with 1 if the version has not become the live one.
    """
    from sluice.cli.follow import follow
    from sluice.cli.job_report import report

    spec = {
        "kind": "canary",
        "collection": name,
        "version": version,
        "steps": _percentages(steps),
        **({"shadow": shadow} if shadow else {}),
        "step_seconds": step_seconds,
        "min_answers": min_answers,
        "step_timeout": max(step_timeout, step_seconds),
        "max_failed": max_failed,
        "max_declined": max_declined,
        "max_disliked": max_disliked,
        "max_slower": max_slower,
        "keep": keep,
        **_forced(force),
    }
    if not wait:
        _submit(spec, url, wait=False, as_json=as_json)
        return
    with client(url) as sluice:
        job = follow(sluice, sluice.submit_job(spec).id, quiet=as_json)
    report(job, as_json=as_json)
    if not job.outputs.get("promoted"):
        raise typer.Exit(1)


def _percentages(text: str) -> list[float]:
    try:
        return [float(part.rstrip(" %")) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not percentages such as 5,25,50", param_hint="--steps") from None


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
        say(f"Job {job.id} is {job.state}; follow it with: sluice jobs follow {job.id}")
