"""What the terminal shows of `sluice up`: a live table while things start, lines afterwards and in a pipe."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sluice.local.member import Member, State

__all__ = ["View"]

DEFAULT_URL = "http://127.0.0.1:8080"
STYLES = {
    State.WAITING: "dim",
    State.STARTING: "cyan",
    State.READY: "green",
    State.UNREADY: "yellow",
    State.RESTARTING: "yellow",
    State.STOPPING: "cyan",
    State.STOPPED: "dim",
}


class View:
    """Shows the members; a terminal that has gone away is not an error."""

    def __init__(self, console: Console, *, lines_only: bool = False) -> None:
        self._console = console
        self._live: Live | None = None
        self._wants_live = console.is_terminal and not lines_only
        self._members: Sequence[Member] = ()
        self._settled = False

    def starting(self, members: Sequence[Member], data: Path) -> None:
        self._members = members
        self.say(f"[bold]Sluice[/] starts with its data in [cyan]{escape(str(data))}[/]")
        if self._wants_live:
            self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=8, transient=False)
            self._live.start()

    def changed(self, member: Member, line: str | None) -> None:
        if line is None or (self._live is not None and member.state is State.READY):
            return
        style = STYLES[member.state]
        stamp = f"[dim]{datetime.now().astimezone():%H:%M:%S}[/] " if self._settled else ""
        self.say(f"{stamp}[{style}]{escape(line)}[/]")

    def ready(self, url: str) -> None:
        self._end_live()
        self._settled = True
        self.say(f"\n[bold green]Sluice is ready[/] at [bold]{url}[/]   [dim]API: {url}/docs[/]\n")
        self.say("Next, in another terminal:")
        if url != DEFAULT_URL:
            self.say(f"  [cyan]export SLUICE_URL={url}[/]")
        if _asks_for_keys():
            self.say("  [cyan]export SLUICE_API_KEY=…[/]   [dim]the admin key, or one from `sluice keys create`[/]")
        self.say("  [cyan]sluice ingest ./docs[/]")
        self.say('  [cyan]sluice ask "What do these documents say about …?"[/]')
        if not _asks_for_keys():
            self.say("\n[dim]It asks for no API keys: let only this machine reach it, or set SLUICE_ADMIN_KEY.[/]")
        self.say("\n[dim]Ctrl-C stops it.[/]")

    def stopping(self) -> None:
        self._end_live()
        self.say("\nStopping; what is in flight is finished first (Ctrl-C again kills at once) …")

    def stopped(self, seconds: float, *, forced: bool) -> None:
        self.say(f"[bold]Killed[/] after {seconds:.1f} s." if forced else f"Stopped after {seconds:.1f} s.")

    def failed(self, name: str, reason: str, log: Path, tail: Sequence[str]) -> None:
        self._end_live()
        self.say(f"\n[bold red]{name} does not start[/]: it {escape(reason)}, each time. Its log ends so:")
        for line in tail or ["(the log is empty)"]:
            self.say(f"  [dim]{escape(line)}[/]")
        self.say(f"\nThe whole log is {escape(str(log))}; `sluice doctor` checks what Sluice needs.")

    def log_line(self, name: str, line: str) -> None:
        self.say(f"[cyan]{name:>9}[/] [dim]{escape(line)}[/]")

    def say(self, markup: str) -> None:
        with suppress(OSError):
            self._console.print(markup, soft_wrap=True, highlight=False)

    def _end_live(self) -> None:
        if self._live is not None:
            with suppress(OSError):
                self._live.stop()
            self._live = None

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=True, header_style="dim")
        for title, justify in (("service", "left"), ("state", "left"), ("s", "right"), ("memory", "right")):
            table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        table.add_column("", style="dim", no_wrap=True, overflow="ellipsis", ratio=1)
        for member in self._members:
            seconds = "" if member.state in (State.WAITING, State.READY) else _since(member.since)
            state = Text(f"{_mark(member.state)} {member.state}", style=STYLES[member.state])
            table.add_row(member.name, state, seconds, _memory(member.pid), Text(member.note))
        return table


def _mark(state: State) -> str:
    return {State.READY: "✓", State.RESTARTING: "!", State.UNREADY: "!", State.WAITING: " "}.get(state, "…")


def _since(moment: float) -> str:
    return f"{time.monotonic() - moment:.1f}"


def _memory(pid: int | None) -> str:
    """Resident memory; empty where the system does not tell."""
    if pid is None or not sys.platform.startswith("linux"):
        return ""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return f"{int(line.split()[1]) / 1024:,.0f} MB"
    except (OSError, ValueError):
        pass
    return ""


def _asks_for_keys() -> bool:
    """Whether the gateway has an admin key, by this environment."""
    return bool(os.environ.get("SLUICE_ADMIN_KEY") or os.environ.get("SLUICE_ADMIN_KEY_FILE"))
