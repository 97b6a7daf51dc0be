"""`sluice collections`, `documents` and `dead-letters`."""

from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli.options import AsJson, Url, apply_group_options, client
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice.api.jobs import Job

__all__ = ["collections", "dead_letters", "documents"]

collections = typer.Typer(help="List, create and delete collections.", invoke_without_command=True)
documents = typer.Typer(help="List and delete documents, and say who may see them.", invoke_without_command=True)
dead_letters = typer.Typer(help="List, replay and discard dead letters.", invoke_without_command=True)

Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")]


@collections.callback()
def _collections(ctx: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    if apply_group_options(ctx, url=url, as_json=as_json):
        list_collections(url, as_json)


@collections.command("list")
def list_collections(url: Url = None, as_json: AsJson = False) -> None:
    """List the collections."""
    from sluice.cli.output import ago, print_json, print_table

    with client(url) as sluice:
        found = sluice.collections()
    if as_json:
        print_json(found)
        return
    rows = [(c.name, f"{c.documents:,}", f"{c.chunks:,}", ago(c.created_at), c.description) for c in found]
    columns = ("collection", ">documents", ">chunks", "created", "description")
    print_table(columns, rows, empty="There are no collections yet; `sluice ingest PATH` creates one.")


@collections.command("create")
def create_collection(
    name: Annotated[str, typer.Argument(help="The new collection's name.")],
    description: Annotated[str, typer.Option(help="What it holds.")] = "",
    pipeline: Annotated[str | None, typer.Option(help="The pipeline of its queries.")] = None,
    embedding_model: Annotated[str, typer.Option(help="Model of the store that embeds.", metavar="MODEL")] = "",
    rerank_model: Annotated[str, typer.Option(help="Model of the store that reranks.", metavar="MODEL")] = "",
    adapter: Annotated[str, typer.Option(help="Adapter of the store that answers.", metavar="MODEL")] = "",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create a collection."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        created = sluice.create_collection(
            name,
            description=description,
            pipeline=pipeline,
            embedding_model=embedding_model,
            rerank_model=rerank_model,
            adapter=adapter,
        )
    print_json(created) if as_json else say(f"Collection {created.name} is there.")


@collections.command("delete")
def delete_collection(
    name: Annotated[str, typer.Argument(help="The collection's name.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a collection with all its documents."""
    if not yes and not as_json:
        typer.confirm(f"Delete collection {name} with all its documents?", abort=True)
    with client(url) as sluice:
        _report(sluice.wait(sluice.delete_collection(name).id), as_json)


@documents.callback()
def _documents(
    ctx: typer.Context, collection: Collection = "default", url: Url = None, as_json: AsJson = False
) -> None:
    if apply_group_options(ctx, collection=collection, url=url, as_json=as_json):
        list_documents(collection=collection, url=url, as_json=as_json)


@documents.command("list")
def list_documents(
    prefix: Annotated[str | None, typer.Argument(help="Only names with this prefix.")] = None,
    collection: Collection = "default",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List a collection's documents, and what of them was not read."""
    from sluice.cli.job_report import print_warnings
    from sluice.cli.output import ago, file_size, print_json, print_table

    with client(url) as sluice:
        found = list(sluice.documents(collection, prefix=prefix))
    if as_json:
        print_json(found)
        return
    rows = [(d.name, file_size(d.bytes), f"{d.chunks:,}", ago(d.indexed_at), _readers(d.allowed)) for d in found]
    columns = ("document", ">size", ">chunks", "indexed", "allowed")
    shown = len(columns) if any(d.allowed is not None for d in found) else len(columns) - 1
    print_table(columns[:shown], [row[:shown] for row in rows], empty="There are no documents.")
    print_warnings([(d.name, warning.detail) for d in found for warning in d.warnings])


@documents.command("permit")
def permit_document(
    name: Annotated[str, typer.Argument(help="The document's name.")],
    allow: Annotated[
        list[str], typer.Option("--allow", metavar="WHO", help="user:NAME or group:NAME; may be repeated; or public.")
    ] = [],  # noqa: B006  (typer's way)
    nobody: Annotated[bool, typer.Option("--nobody", help="Only those who manage documents.")] = False,
    collection: Collection = "default",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Say who may see a document: in force a second later, without indexing it again.

    sluice documents permit salaries.xlsx --allow group:hr --allow user:alice
    """
    if bool(allow) == nobody:
        raise typer.BadParameter("give --allow, or --nobody", param_hint="--allow")
    with client(url) as sluice:
        found = next((d for d in sluice.documents(collection, prefix=name) if d.name == name), None)
        if found is None:
            raise typer.BadParameter(f"there is no document {name} in {collection}", param_hint="NAME")
        _report(sluice.wait(sluice.permit(collection, found.id, allow).id), as_json)


@documents.command("delete")
def delete_documents(
    names: Annotated[list[str], typer.Argument(help="The documents' names.")],
    collection: Collection = "default",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete documents by name."""
    with client(url) as sluice:
        _report(sluice.wait(sluice.delete_documents(collection, names).id), as_json)


@dead_letters.callback()
def _dead_letters(ctx: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    if apply_group_options(ctx, url=url, as_json=as_json):
        list_dead_letters(url=url, as_json=as_json)


@dead_letters.command("list")
def list_dead_letters(limit: Limit = 50, url: Url = None, as_json: AsJson = False) -> None:
    """List messages that were given up on, with their reasons."""
    from sluice.cli.output import print_json, print_table

    with client(url) as sluice:
        found = sluice.dead_letters(limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [(letter.seq, letter.subject, letter.deliveries, letter.reason) for letter in found]
    print_table((">seq", "subject", ">tries", "reason"), rows, empty="There are no dead letters.")


@dead_letters.command("replay")
def replay_dead_letter(
    seq: Annotated[int, typer.Argument(help="The dead letter's number.")], url: Url = None, as_json: AsJson = False
) -> None:
    """Send a dead letter again to where it was bound."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        answer = sluice.replay_dead_letter(seq)
    if as_json:
        print_json({"replayed": seq, "answer": answer})
    else:
        say(answer.answer if answer else f"Dead letter {seq} is on its way again.")


@dead_letters.command("show")
def show_dead_letter(
    seq: Annotated[int, typer.Argument(help="The dead letter's number.")], url: Url = None, as_json: AsJson = False
) -> None:
    """Show a dead letter and its message."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        letter = sluice.dead_letter(seq)
    if as_json:
        print_json(letter)
        return
    say(f"{letter.subject}, {letter.deliveries} tries: {letter.reason}")
    say("The key does not allow its message." if letter.payload is None else letter.payload)


@dead_letters.command("discard")
def discard_dead_letter(
    seq: Annotated[int, typer.Argument(help="The dead letter's number.")], url: Url = None, as_json: AsJson = False
) -> None:
    """Forget a dead letter: its work is never tried again."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        sluice.discard_dead_letter(seq)
    if as_json:
        print_json({"discarded": seq})
    else:
        say(f"Dead letter {seq} is forgotten.")


def _readers(allowed: tuple[str, ...] | None) -> str:
    return "" if allowed is None else " ".join(allowed) or "nobody"


def _report(job: "Job", as_json: bool) -> None:
    from sluice.cli.job_report import report

    report(job, as_json=as_json)
