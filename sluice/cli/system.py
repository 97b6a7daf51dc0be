"""`sluice status`, `sluice doctor` and `sluice version`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli.options import AsJson, Data, Url, client
from sluice.cli.plain import say

if TYPE_CHECKING:
    from rich.console import Console

    from sluice.api.status import ServiceStatus, Status
    from sluice.local.doctor import Finding

__all__ = ["doctor", "status", "version"]


def status(url: Url = None, as_json: AsJson = False) -> None:
    """Show the services, what waits and what is in flight."""
    from sluice.cli.output import print_json

    with client(url) as sluice:
        found = sluice.status()
        address = sluice.url
    print_json(found) if as_json else _print_status(found, address)


def version(url: Url = None, as_json: AsJson = False) -> None:
    """Print the version of this command line, and of the Sluice it talks to where one answers."""
    from sluice.cli.output import print_json
    from sluice.client.errors import SluiceError
    from sluice.release import VERSION

    server: str | None = None
    try:
        with client(url, timeout=3.0) as sluice:
            server = sluice.status().version
    except SluiceError:
        pass
    if as_json:
        print_json({"client": VERSION, "server": server})
    else:
        say(f"sluice {VERSION}" + (f", server {server}" if server else ""))


def doctor(
    data: Data = ".sluice",
    port: Annotated[int, typer.Option(help="The port that `sluice up` would use.")] = 8080,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong and what to do; exit status 1 if anything is."""
    import os

    from sluice.cli.output import console, print_json
    from sluice.local.doctor import Place, Verdict, examine

    place = Place(data=Path(data).absolute(), port=port, url=url or os.environ.get("SLUICE_URL"))
    terminal = console()
    findings = []
    for finding in examine(place):
        findings.append(finding)
        if not as_json:
            _print_finding(terminal, finding)
    wrong = sum(finding.verdict is Verdict.WRONG for finding in findings)
    if as_json:
        print_json({"ok": not wrong, "checks": [finding.as_dict() for finding in findings]})
    else:
        terminal.print(f"\n[bold red]{wrong} to mend.[/]" if wrong else "\n[bold green]All is well.[/]")
    raise typer.Exit(1 if wrong else 0)


def _print_finding(terminal: "Console", finding: "Finding") -> None:
    from rich.markup import escape

    from sluice.local.doctor import Verdict

    marks = {
        Verdict.GOOD: "[green]✓[/]",
        Verdict.NOTE: "[cyan]·[/]",
        Verdict.DOUBTFUL: "[yellow]![/]",
        Verdict.WRONG: "[red]✗[/]",
    }
    terminal.print(f"{marks[finding.verdict]} {finding.name:<14} {escape(finding.message)}", soft_wrap=True)
    if finding.remedy:
        terminal.print(f"  {'':<14} [bold]→[/] {escape(finding.remedy)}", soft_wrap=True)


def _print_status(found: "Status", address: str) -> None:
    from rich.markup import escape

    from sluice.cli.output import ago, console, counted, print_table

    terminal = console()
    broker = f"NATS {found.broker.version}" if found.broker.version else "NATS"
    terminal.print(f"[bold]Sluice {found.version}[/] at {address} on {broker}", soft_wrap=True)
    heading = "\n[bold]{}[/]"
    terminal.print(heading.format("Services"))
    rows = [
        (s.service, s.instance, "ready" if s.ready else "NOT READY", _serves(s), ago(s.started_at))
        for s in found.services
    ]
    print_table(("service", "instance", "state", "serves", "started"), rows, empty="No service answers.")
    terminal.print(heading.format("Queues"))
    queues = [(f"{q.stage}/{q.variant}", q.lane, f"{q.waiting:,}", f"{q.in_flight:,}") for q in found.queues]
    queues.append(("jobs", "", f"{found.jobs.waiting:,}", f"{found.jobs.in_flight:,}"))
    print_table(("queue", "lane", ">waiting", ">in flight"), queues, empty="")
    if found.warnings:
        warnings = "\n".join(escape(warning) for warning in found.warnings)
        terminal.print(f"\n[yellow]{warnings}[/]\nSee `sluice routes`", soft_wrap=True)
    if found.dead_letters:
        terminal.print(f"\n[yellow]{counted(found.dead_letters, 'dead letter')}[/]: see `sluice dead-letters`")


def _serves(service: "ServiceStatus") -> str:
    return ", ".join(
        f"{s.stage}/{s.variant} ({s.lane_in_flight.interactive}+{s.lane_in_flight.batch} in flight)"
        for s in service.stages
    )
