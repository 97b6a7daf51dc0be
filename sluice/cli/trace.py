"""`sluice trace`: a query's or a job's way through the services, as a waterfall."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sluice.cli.options import AsJson, Url, client

if TYPE_CHECKING:
    from sluice.api.traces import Span, Trace

__all__ = ["trace"]

BAR: Final = 30
"""Width of a bar in characters; an eighth of one is the least that is drawn."""

EIGHTHS: Final = "▏▎▍▌▋▊▉█"
COLOURS: Final = {"gateway": "cyan", "embedder": "green", "retriever": "blue", "generator": "magenta"}

SAID: Final = (
    ("sluice.waited_ms", "waited {:,.1f} ms"),
    ("sluice.delivery", "delivery {}"),
    ("sluice.batch.items", "{} in the batch"),
    ("gen_ai.usage.input_tokens", "{:,} tokens in"),
    ("gen_ai.usage.output_tokens", "{:,} tokens out"),
    ("gen_ai.response.time_to_first_chunk", "first token after {:.3g} s"),
    ("sluice.passages", "{} passages"),
    ("sluice.texts", "{:,} texts"),
    ("sluice.variant", "variant {}"),
    ("sluice.outcome", "{}"),
    ("sluice.job.attempt", "try {}"),
    ("http.response.status_code", "HTTP {}"),
)
"""Attributes that matter, and how they are said."""

USUAL: Final = {
    "sluice.delivery": 1,
    "sluice.batch.items": 1,
    "sluice.texts": 1,
    "sluice.variant": "default",
    "sluice.job.attempt": 1,
}
"""Values that are not worth a word."""


def trace(
    id: Annotated[str, typer.Argument(help="The id of a trace, a query or a job.")],  # noqa: A002
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show where the time of a query or job went, hop by hop, from what the services still remember."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        found = sluice.trace(id)
    print_json(found) if as_json else _print(found)


def _print(found: "Trace") -> None:
    from rich.markup import escape

    from sluice.cli.output import console, counted, print_table

    terminal = console()
    began = datetime.fromtimestamp(found.started_at, UTC).astimezone()
    heading = f"trace {found.trace_id}, {_time(found.duration_ms)}, {counted(len(found.spans), 'span')}"
    terminal.print(f"[bold]{heading}[/] [dim]from {began:%Y-%m-%d %H:%M:%S}[/]\n", soft_wrap=True)
    rows = list(_rows(found)) if terminal.is_terminal else [row[:4] + row[5:] for row in _rows(found)]
    if not terminal.is_terminal:
        print_table(("", "", "", "", ""), rows, empty="")
    else:
        _draw(rows)
    if found.omitted:
        terminal.print(f"\n[dim]{escape(counted(found.omitted, 'shorter span'))} left out[/]")


def _draw(rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from sluice.cli.output import console

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("service", "span"):
        table.add_column(column, no_wrap=True)
    for column in ("start", "time"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, width=BAR)
    table.add_column("", overflow="fold")
    for service, name, start, duration, bar, notes in rows:
        colour = COLOURS.get(service, "yellow")
        style = "red" if notes.startswith("✗") else ""
        table.add_row(
            Text(service, colour), Text(name, style), start, duration, Text(bar, colour), Text(notes, style or "dim")
        )
    console().print(table)


def _rows(found: "Trace") -> Iterator[tuple[str, ...]]:
    total = max(found.duration_ms, 0.001)
    for depth, span in _tree(found):
        start = (span.started_at - found.started_at) * 1e3
        ended = span.ended_at
        duration = total - start if ended is None else (ended - span.started_at) * 1e3
        took = _time(duration) if ended is not None else "not ended"
        yield (
            span.service,
            " " * depth + span.name,
            _time(start),
            took,
            _bar(start / total, duration / total),
            _notes(span),
        )


def _tree(found: "Trace") -> Iterator[tuple[int, "Span"]]:
    """Each span after its parent, with its depth; spans whose parent nobody remembers stand at the top."""
    known = {span.span_id for span in found.spans}
    children: dict[str | None, list[Span]] = {}
    for span in found.spans:
        children.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)
    waiting = [(0, span) for span in reversed(children.get(None, []))]
    while waiting:
        depth, span = waiting.pop()
        yield depth, span
        waiting += [(depth + 1, child) for child in reversed(children.get(span.span_id, []))]


def _bar(start: float, share: float) -> str:
    """A bar from `start` on, both as shares of the whole."""
    at = min(BAR * 8 - 1, max(0, int(start * BAR * 8)))
    length = max(1, min(round(share * BAR * 8), BAR * 8 - at))
    whole, part = divmod(length, 8)
    return " " * (at // 8) + "█" * whole + (EIGHTHS[part - 1] if part else "")


def _notes(span: "Span") -> str:
    said = [f"✗ {span.error}"] if span.error is not None else []
    said += ["batch of several traces"] if span.linked else []
    for name, words in SAID:
        value = span.attributes.get(name)
        if value is not None and value != USUAL.get(name):
            said.append(words.format(value))
    return ", ".join(said)


def _time(milliseconds: float) -> str:
    if milliseconds < 1000:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds / 1e3:,.2f} s"
