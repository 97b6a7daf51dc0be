"""`sluice routes`: which variant of a stage gets which share of the queries."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli.options import AsJson, Url, apply_group_options, client, user_name
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice.api.feedback import Comparison
    from sluice.api.routing import Route
    from sluice.client import Client

__all__ = ["routes"]

HELP = """Show and set which variant of a stage gets which share of the queries.

A stage without weights sends everything to `default`. Changes hold within a second.

    sluice routes set generate default=90 canary=10

    sluice routes shadow generate canary=5

    sluice routes compare generate canary

    sluice routes bandit generate --dry-run

    sluice routes reset generate
"""

OFF = "off"
DEFAULT = "default"

routes = typer.Typer(help=HELP, invoke_without_command=True)

StageArgument = Annotated[str, typer.Argument(metavar="STAGE", help="A stage, such as `generate`.")]


@routes.callback()
def _routes(ctx: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    if apply_group_options(ctx, url=url, as_json=as_json):
        list_routes(url, as_json)


@routes.command("list")
def list_routes(url: Url = None, as_json: AsJson = False) -> None:
    """List the variants of every stage."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        found = sluice.routes()
    print_json(found) if as_json else _show(found)


@routes.command("set")
def set_weights(
    stage: StageArgument,
    weights: Annotated[list[str], typer.Argument(metavar="VARIANT=WEIGHT", help="All weights of the stage.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Share a stage's queries out by weight.

    Weights are relative to their sum. Variants that are not named get nothing; shadows stay as they are.

        sluice routes set generate default=90 canary=10
    """
    from sluice.cli.output import print_json

    wanted = {variant: _number(text, "weight", 1e9) for variant, text in _pairs(weights)}
    if not any(wanted.values()):
        raise typer.BadParameter("at least one weight must be above zero")
    with client(url) as sluice:
        before = _current(sluice, stage)
        after = sluice.set_route(stage, wanted, shadows=before.shadows, revision=before.revision, by=user_name())
    print_json(after) if as_json else _show([after])


@routes.command("shadow")
def set_shadows(
    stage: StageArgument,
    shadows: Annotated[
        list[str], typer.Argument(metavar="VARIANT=PERCENT|off", help="Shadows to change; `off`: no shadows at all.")
    ],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Send a variant copies of so many percent of a stage's queries.

    The copies' answers are measured and dropped. Variants that are not named stay as they are.

        sluice routes shadow generate canary=5

        sluice routes shadow generate canary=off
    """
    from sluice.cli.output import print_json

    wanted = None if shadows == [OFF] else {variant: _percent(text) for variant, text in _pairs(shadows)}
    with client(url) as sluice:
        before = _current(sluice, stage)
        merged = {} if wanted is None else before.shadows | wanted
        kept = {variant: percent for variant, percent in merged.items() if percent}
        after = sluice.set_route(stage, before.weights, shadows=kept, revision=before.revision, by=user_name())
    print_json(after) if as_json else _show([after])


@routes.command("compare")
def compare(
    stage: StageArgument,
    variant: Annotated[
        str | None, typer.Argument(metavar="[VARIANT]", help="A shadow; all of the stage if none.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many at most.")] = 5,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show the last answers of a stage's shadows beside the live ones.

    The gateway has to keep answers: SLUICE_KEEP_ANSWERS=true.
    """
    from sluice.cli.output import print_json

    with client(url) as sluice:
        found = sluice.comparisons(stage, variant, limit=limit).comparisons
    print_json(found) if as_json else _show_comparisons(found)


@routes.command("bandit")
def bandit(
    stage: StageArgument,
    days: Annotated[float, typer.Option(min=0.001, max=400, help="Ratings of so many days count.")] = 30.0,
    floor: Annotated[float, typer.Option(min=0.001, max=0.5, help="Least share of a variant, of 1.")] = 0.05,
    max_change: Annotated[float, typer.Option(min=0.001, max=1, help="Most that a share changes at once, of 1.")] = 0.2,
    min_ratings: Annotated[int, typer.Option(min=1, help="Ratings that each variant needs.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do, and what for.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Have the weights of a stage's variants follow readers' ratings, once.

    The share of a variant becomes the probability that it is the best, by Thompson sampling. The gateways have to keep
    answers (SLUICE_KEEP_ANSWERS=true), and the route needs weights for two variants or more. To do it every night, make
    a schedule of a job of the kind `bandit`.
    """
    from sluice.cli.follow import follow
    from sluice.cli.job_report import report

    spec = {
        "kind": "bandit",
        "stage": stage,
        "days": days,
        "floor": floor,
        "max_change": max_change,
        "min_ratings": min_ratings,
        "apply": not dry_run,
    }
    with client(url) as sluice:
        job = follow(sluice, sluice.submit_job(spec).id, quiet=as_json)
    report(job, as_json=as_json)


@routes.command("reset")
def reset(stage: StageArgument, url: Url = None, as_json: AsJson = False) -> None:
    """Send everything to `default` again, without shadows."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        before = _current(sluice, stage)
        if before.revision:
            sluice.delete_route(stage, revision=before.revision)
    if as_json:
        print_json({"stage": stage, "reset": bool(before.revision)})
    else:
        say(f"Stage {stage} sends everything to {DEFAULT}.")


def _show_comparisons(found: "Iterable[Comparison]") -> None:
    from rich.markup import escape

    from sluice.cli.output import console

    terminal, shown = console(), False
    for one in found:
        shown = True
        same = f"[dim]words {one.text_overlap:.0%}, sources {one.source_overlap:.0%} the same[/]"
        terminal.print(f"[bold]{escape(one.live.question)}[/]  {same}", soft_wrap=True)
        for name, side in (("live", one.live), (one.variant, one.shadow)):
            terminal.print(
                f"[dim]{escape(name)}, {side.timings.total_ms:,.0f} ms:[/] {escape(side.answer)}", soft_wrap=True
            )
        terminal.print()
    if not shown:
        terminal.print("[dim]No shadow has answered a query whose answer is kept.[/]")


def _current(sluice: "Client", stage: str) -> "Route":
    """The route as it is; that of nothing but `default` for a stage that nobody knows yet."""
    from sluice.api.routing import Route, Variant
    from sluice.client.errors import SluiceError

    try:
        return sluice.route(stage)
    except SluiceError as error:
        if error.code != "not-found":
            raise
        return Route(stage=stage, variants=(Variant(variant=DEFAULT, weight=1.0),))


def _pairs(texts: Iterable[str]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise typer.BadParameter(f"{name + equals + value!r} is not VARIANT=NUMBER, such as canary=10")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise typer.BadParameter("a variant is named twice")
    return [(name, value) for name, _, value in pairs]


def _percent(text: str) -> float:
    return 0.0 if text == OFF else _number(text, "percentage", 100)


def _number(text: str, what: str, most: float) -> float:
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise typer.BadParameter(f"{text!r} is no {what}: a number from 0 to {most:g}")
    return number


def _show(found: "Iterable[Route]") -> None:
    """Print the variants as a table, and the warnings to standard error."""
    from rich.markup import escape

    from sluice.cli.output import errors, print_table

    found = list(found)
    rows = [
        (
            route.stage,
            variant.variant,
            f"{variant.weight:g}" if variant.weight else "-",
            f"{variant.share:.3g} %",
            f"{variant.workers}" if variant.workers else "no worker",
            f"{variant.shadow:g} %" if variant.shadow else "-",
        )
        for route in found
        for variant in route.variants
    ]
    columns = ("stage", "variant", ">weight", ">share", ">workers", ">shadow")
    print_table(columns, rows, empty="No stage has a worker.")
    for route in found:
        for warning in route.warnings:
            errors().print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)
