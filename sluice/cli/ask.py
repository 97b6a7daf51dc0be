"""`sluice ask`."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice.cli.options import AsJson, Url, client

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

    from sluice.api.queries import Done, Event, Source

__all__ = ["ask"]

FIRST_LINE = 100
"""Characters of a source's text that are shown."""


def ask(
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection to ask.")] = "default",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Passages to base the answer on.")] = 5,
    metadata_filter: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="""Only matching documents: '{"year": 2024}'.""")
    ] = None,
    pipeline: Annotated[str | None, typer.Option(help="A pipeline in place of the collection's.")] = None,
    rerank: Annotated[bool, typer.Option("--rerank", help="Rerank more passages, and use the best of them.")] = False,
    candidates: Annotated[
        int | None, typer.Option(min=1, max=200, help="Passages to rerank; 40 without it. Use it with --rerank.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Time limit of the query in seconds.")] = 30.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Ask a question and read the answer as it comes, then its sources."""
    options: dict[str, Any] = {
        "collection": collection,
        "top_k": top_k,
        "filter": _parse_filter(metadata_filter),
        "pipeline": pipeline,
        "timeout": timeout,
        "rerank": rerank,
        "candidates": candidates,
    }
    with client(url) as sluice:
        if as_json:
            from sluice.cli.output import print_json

            print_json(sluice.query(question, **options))
        else:
            _show(sluice.stream(question, **options))


def _parse_filter(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--filter") from error
    if not isinstance(value, dict):
        raise typer.BadParameter("must be a JSON object", param_hint="--filter")
    return value


def _show(events: "Iterator[Event]") -> None:
    from sluice.api.queries import Delta, Done, Sources
    from sluice.cli.output import console

    terminal = console()
    found: Sequence[Source] = ()
    begun = False
    for event in events:
        match event:
            case Sources():
                found = event.sources
            case Delta():
                begun = True
                sys.stdout.write(event.text)
                sys.stdout.flush()
            case Done():
                sys.stdout.write("\n" if begun else "(no answer)\n")
                sys.stdout.flush()
                _show_sources(terminal, found, event)
                _show_confidence(terminal, event)
                _show_unsupported(terminal, event)
                _show_omissions(terminal, event)
                _show_timings(terminal, event)


def _show_sources(terminal: "Console", sources: "Sequence[Source]", done: "Done") -> None:
    from rich.markup import escape

    if not sources:
        return
    terminal.print("\n[bold]Sources[/]")
    for source in sources:
        where = f"[cyan]{escape(source.document)}[/] [dim]#{source.position}  {source.score:.3f}[/]"
        cited = "  cited" if source.index in done.cited else ""
        copies = f"  [dim]and {len(source.copies)} copies[/]" if source.copies else ""
        terminal.print(f"  \\[{source.index}] {where}{cited}{copies}", soft_wrap=True)
        terminal.print(f"      [dim]{escape(_first_line(source.text))}[/]", soft_wrap=True)


def _show_confidence(terminal: "Console", done: "Done") -> None:
    if done.confidence is None:
        return
    doubt = "  [yellow]no source seems to answer the question[/]" if done.answerable is False else ""
    terminal.print(f"\n[dim]confidence {done.confidence:.2f}[/]{doubt}")


def _show_unsupported(terminal: "Console", done: "Done") -> None:
    from rich.markup import escape

    doubtful = [one for one in done.supported if not one.supported]
    if not doubtful:
        return
    terminal.print("\n[yellow]No source supports[/]")
    for one in doubtful:
        left_out = " [dim](left out)[/]" if one.start == one.end else ""
        terminal.print(f"  [yellow]✗[/] {escape(one.sentence)} [dim]{one.score:.2f}[/]{left_out}", soft_wrap=True)


def _show_omissions(terminal: "Console", done: "Done") -> None:
    from rich.markup import escape

    context = done.context
    said = []
    if context.dropped:
        said.append(f"{_numbers(context.dropped)} did not fit into the context window of {context.window:,} tokens")
    if context.shortened:
        said.append(f"of {_numbers(context.shortened)} only the first sentences did")
    if said:
        terminal.print(f"\n[yellow]{escape(', '.join(said))}[/]", soft_wrap=True)


def _numbers(sources: "Iterable[int]") -> str:
    return " ".join(f"[{number}]" for number in sources)


def _show_timings(terminal: "Console", done: "Done") -> None:
    from rich.markup import escape

    timings = done.timings
    parts = [f"{timings.total_ms:,.0f} ms"]
    if timings.first_delta_ms is not None:
        parts.append(f"first words {timings.first_delta_ms:,.0f} ms")
    parts += [f"{stage.stage} {stage.worked_ms:,.0f} ms" for stage in timings.stages]
    if done.engine:
        parts.append(done.engine)
    terminal.print(f"\n[dim]{escape(' · '.join(parts))}[/]", soft_wrap=True)


def _first_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= FIRST_LINE else line[: FIRST_LINE - 1].rstrip() + "…"
