"""`sluice payloads`: requests and responses of models that are logged."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli.options import AsJson, Url, apply_group_options, client
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice.api.payloads import Payload
    from sluice.client import Client

__all__ = ["payloads"]

HELP = """List, follow and export the requests and responses of models that are logged.

They have to be logged for it: start the gateway with SLUICE_PAYLOADS=all. It takes an admin's key.

    sluice payloads --model iris

    sluice payloads tail

    sluice payloads export --model iris -o iris.jsonl
"""

PAGE = 100
SHOWN = 60
"""Characters of a payload in the table."""

LOOK = 1.0
"""Seconds between two looks for what is new."""

MOST_NEW = 1000
"""Payloads that one look shows."""

payloads = typer.Typer(help=HELP, invoke_without_command=True)

Model = Annotated[str | None, typer.Option("--model", "-m", help="Only of this model.")]
Kind = Annotated[str | None, typer.Option(help="Only `request` or `response`.")]
Call = Annotated[str | None, typer.Option("--id", metavar="ID", help="Only of the call with this id.")]
Most = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")]


@payloads.callback()
def _payloads(
    ctx: typer.Context,
    model: Model = None,
    kind: Kind = None,
    call: Call = None,
    limit: Most = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    if apply_group_options(ctx, url=url, as_json=as_json):
        list_payloads(model=model, kind=kind, call=call, limit=limit, url=url, as_json=as_json)


@payloads.command("list")
def list_payloads(
    model: Model = None,
    kind: Kind = None,
    call: Call = None,
    limit: Most = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List payloads, the last logged first."""
    from itertools import islice

    from sluice.cli.output import print_json, print_table

    with client(url) as sluice:
        found = list(islice(_newest(sluice, model, kind, call), limit))
    if as_json:
        print_json(found)
        return
    columns = ("call", "kind", "model", "version", "when", "reader", ">bytes", "data")
    print_table(columns, map(_row, found), empty="No payload of a model is logged.")


@payloads.command("tail")
def tail(model: Model = None, kind: Kind = None, url: Url = None, as_json: AsJson = False) -> None:
    """Show payloads as they come, until Ctrl-C; with --json one object a line."""
    import time

    from sluice.cli.output import console

    terminal = console()
    with client(url) as sluice:
        newest = next((one.seq for one in _newest(sluice, model, kind)), 0)
        while True:
            time.sleep(LOOK)
            for payload in reversed(_since(sluice, newest, model, kind)):
                newest = max(newest, payload.seq)
                if as_json:
                    print(payload.model_dump_json(), flush=True)
                else:
                    terminal.print("  ".join(map(str, _row(payload))), markup=False, soft_wrap=True)


@payloads.command("export")
def export(
    model: Model = None,
    kind: Kind = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")] = None,
    url: Url = None,
) -> None:
    """Write all payloads, one JSON object a line, the last logged first."""
    import sys
    from contextlib import nullcontext

    try:
        target = nullcontext(sys.stdout) if output is None else output.open("w", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{output}: {error.strerror}", param_hint="--output") from None
    count = 0
    with client(url) as sluice, target as lines:
        for payload in _newest(sluice, model, kind):
            lines.write(f"{payload.model_dump_json()}\n")
            count += 1
    if output is not None:
        say(f"{output}: {count} payloads", err=True)


def _newest(sluice: "Client", model: str | None, kind: str | None, call: str | None = None) -> "Iterator[Payload]":
    before: int | None = None
    while True:
        page = sluice.payloads(model, kind=kind, call=call, limit=PAGE, before=before)
        yield from page.payloads
        if (before := page.next) is None:
            return


def _since(sluice: "Client", last: int, model: str | None, kind: str | None) -> "list[Payload]":
    """The newest first."""
    from itertools import islice, takewhile

    return list(islice(takewhile(lambda one: one.seq > last, _newest(sluice, model, kind)), MOST_NEW))


def _row(payload: "Payload") -> tuple[object, ...]:
    import json

    from sluice.cli.output import ago

    # What a client sends may hold sequences that a terminal obeys; JSON escapes all but ASCII.
    data = json.dumps(payload.data)
    shown = data if len(data) <= SHOWN else f"{data[: SHOWN - 1]}…"
    size = f"{payload.size:,}{'+' if payload.truncated else ''}"
    name = "".join(filter(str.isprintable, payload.reader)) or "-"
    return payload.id, payload.kind, payload.model, payload.version or "-", ago(payload.at), name, size, shown
