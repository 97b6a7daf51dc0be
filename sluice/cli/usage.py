"""`sluice usage`: requests, tokens and costs."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli.options import AsJson, Url, client

if TYPE_CHECKING:
    from sluice.api.usage import UsageReport, UsageTotal

__all__ = ["usage"]

DAY = ["%Y-%m-%d"]


def usage(
    by: Annotated[
        str, typer.Option("--by", "-b", help="Sum by these of day, tenant, key, model, separated by commas.")
    ] = "day",
    start: Annotated[
        datetime | None,
        typer.Option(formats=DAY, metavar="YYYY-MM-DD", help="First day (UTC) [default: 29 days before the last]"),
    ] = None,
    end: Annotated[
        datetime | None, typer.Option(formats=DAY, metavar="YYYY-MM-DD", help="Last day (UTC) [default: today]")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Another tenant, or * for all; needs an admin's key, as `--by tenant` does.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Sum up answered requests, their tokens, and what they cost where SLUICE_PRICES says so.

    sluice usage --by tenant,model --start 2026-11-01 --end 2026-11-30
    """
    from sluice.cli.output import print_json

    dimensions = tuple(part.strip() for part in by.split(",") if part.strip())
    with client(url) as sluice:
        found = sluice.usage(
            start=start.date() if start else None, end=end.date() if end else None, by=dimensions, tenant=tenant
        )
    print_json(found) if as_json else _table(found)


def _table(found: "UsageReport") -> None:
    from sluice.cli.output import errors, print_table

    costs = (f">cost ({found.currency})",) if found.currency else ()
    columns = (*found.by, ">requests", ">prompt tokens", ">cached", ">completion tokens", *costs)
    rows = [
        (*(_value(getattr(row, name)) for name in found.by), *_figures(row, priced=bool(costs))) for row in found.rows
    ]
    if len(rows) > 1:
        rows.append(("total", *("" for _ in found.by[1:]), *_figures(found.total, priced=bool(costs))))
    print_table(columns, rows, empty=f"Nothing was answered from {found.start} to {found.end}.")
    if costs and found.total.unpriced_tokens:
        errors().print(f"[dim]{found.total.unpriced_tokens:,} tokens are of models without a price.[/]")


def _figures(total: "UsageTotal", *, priced: bool) -> tuple[str, ...]:
    counts = (total.requests, total.prompt_tokens, total.cached_tokens, total.completion_tokens)
    cost = "" if total.cost is None else f"{total.cost:,.4f}"
    return (*(f"{count:,}" for count in counts), *((cost,) if priced else ()))


def _value(value: object) -> str:
    return str(value) if value else "(none)"
