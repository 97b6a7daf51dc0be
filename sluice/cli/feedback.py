"""`sluice feedback`: what readers say of answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli.options import AsJson, Url, apply_group_options, client
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice.api.feedback import Feedback

__all__ = ["feedback"]

HELP = """Give, list and export what readers say of answers; erase what is kept of one of them.

Answers have to be kept for it: start the gateway with SLUICE_KEEP_ANSWERS=true.

    sluice feedback give 1a22b099f57 --down --correction "24 months" --wrong-source 2

    sluice feedback --rating down

    sluice feedback export user:alice -o alice.jsonl
"""

PAGE = 100
SHOWN = 60
"""Characters of a question or a comment in the table."""

feedback = typer.Typer(help=HELP, invoke_without_command=True)

Rating = Annotated[str | None, typer.Option(help="Only `up`, `down`, or `none`.")]
Collection = Annotated[str | None, typer.Option("--collection", "-c", help="Only of answers from this collection.")]
Most = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")]
Reader = Annotated[
    str, typer.Argument(metavar="READER", help="Such as user:alice, or the id of a key; `me` is your own key.")
]


@feedback.callback()
def _feedback(
    ctx: typer.Context,
    rating: Rating = None,
    collection: Collection = None,
    limit: Most = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    if apply_group_options(ctx, url=url, as_json=as_json):
        list_feedback(rating=rating, collection=collection, limit=limit, url=url, as_json=as_json)


@feedback.command("list")
def list_feedback(
    rating: Rating = None,
    collection: Collection = None,
    limit: Most = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List what readers say, the last said first."""
    from sluice.cli.output import print_json

    found: list[Feedback] = []
    before: int | None = None
    with client(url) as sluice:
        while len(found) < limit:
            wanted = min(PAGE, limit - len(found))
            page = sluice.feedback(rating=rating, collection=collection, limit=wanted, before=before)
            found += page.feedback
            if (before := page.next) is None:
                break
    print_json(found) if as_json else _table(found)


@feedback.command("give")
def give(
    answer: Annotated[str, typer.Argument(metavar="ANSWER", help="The id of an answer: `sluice ask --json` shows it.")],
    up: Annotated[bool, typer.Option("--up", help="It is a good answer.")] = False,
    down: Annotated[bool, typer.Option("--down", help="It is a bad one.")] = False,
    correction: Annotated[str | None, typer.Option(help="The answer as it should have been.")] = None,
    comment: Annotated[str | None, typer.Option(help="What else there is to say.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", "-t", help="A word for it; may be repeated.")] = None,
    right_source: Annotated[
        list[int] | None, typer.Option(metavar="N", help="A source that belongs to the question; may be repeated.")
    ] = None,
    wrong_source: Annotated[
        list[int] | None, typer.Option(metavar="N", help="A source that does not; may be repeated.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Say what an answer is worth. What is left out stays as you have said it before."""
    from sluice.cli.output import print_json

    if up and down:
        raise typer.BadParameter("give --up or --down, not both")
    judged = {**dict.fromkeys(right_source or (), True), **dict.fromkeys(wrong_source or (), False)}
    rating = "up" if up else "down" if down else None
    if rating is None and correction is None and comment is None and not tag and not judged:
        raise typer.BadParameter("say something: --up, --down, --correction, --comment, --tag, --right-source …")
    with client(url) as sluice:
        given = sluice.give_feedback(
            answer, rating=rating, correction=correction, comment=comment, tags=tag or None, sources=judged
        )
    print_json(given) if as_json else _table([given])


@feedback.command("export")
def export(
    reader: Reader = "me",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")] = None,
    url: Url = None,
) -> None:
    """Write all that is kept of a reader, one JSON object a line. Another reader's takes an admin's key."""
    import sys

    from sluice.api.feedback import Feedback, KeptAnswer
    from sluice.api.payloads import Payload

    names = {KeptAnswer: "answer", Feedback: "feedback", Payload: "payload"}
    with client(url) as sluice:
        found = sluice.export_reader(reader)
    lines = "".join(f'{{"{names[type(record)]}": {record.model_dump_json()}}}\n' for record in found)
    if output is None:
        sys.stdout.write(lines)
    else:
        try:
            output.write_text(lines, encoding="utf-8")
        except OSError as error:
            raise typer.BadParameter(f"{output}: {error.strerror}", param_hint="--output") from None
        say(f"{output}: {len(found)} records", err=True)


@feedback.command("erase")
def erase(
    reader: Reader = "me",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Erase all that is kept of a reader: answers, feedback, logged payloads. Another reader's takes an admin's key."""
    from sluice.cli.output import print_json

    if not yes:
        typer.confirm(f"Erase all that is kept of {reader}? It cannot be undone", abort=True)
    with client(url) as sluice:
        erased = sluice.erase_reader(reader)
    said = f"Erased {erased.answers} answers, {erased.feedback} feedback and {erased.payloads} payloads."
    print_json(erased) if as_json else say(said)


def _table(found: "list[Feedback]") -> None:
    from sluice.cli.output import ago, print_table

    rows = [
        (
            one.answer,
            one.rating or "-",
            ago(one.changed_at),
            one.reader or "-",
            _short(one.kept.question),
            _short(one.correction or one.comment or ", ".join(one.tags)),
        )
        for one in found
    ]
    print_table(
        ("answer", "rating", "when", "reader", "question", "said"), rows, empty="No reader has said anything yet."
    )


def _short(text: str) -> str:
    # What a reader writes may hold sequences that a terminal obeys.
    line = "".join(filter(str.isprintable, " ".join(text.split())))
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
