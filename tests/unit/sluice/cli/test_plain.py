"""What others have written does not command the terminal of who looks at it."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

import sluice
from sluice.cli.output import console, errors, print_json, print_table
from sluice.cli.plain import say

HOSTILE = "before\x1b]0;title\x07\x1b[2J\x9b31m\x08\x7f\rafter"
COMMANDS = re.compile(r"[\x07\x08\x0d\x7f-\x9f]|\x1b(?!\[[0-9;]*m)")
"""All control characters of a terminal, and all escape sequences but colours."""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> tuple[Console, io.StringIO]:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown, written = console(), io.StringIO()
    shown.file = written
    return shown, written


def table() -> Table:
    made = Table()
    made.add_column(escape(HOSTILE))
    made.add_row(escape(HOSTILE))
    return made


@pytest.mark.parametrize(
    "what", [f"[red]{escape(HOSTILE)}[/]", Text(HOSTILE), table()], ids=["markup", "text", "table"]
)
def test_a_terminal_shows_control_characters_and_does_not_obey_them(
    what: object, terminal: tuple[Console, io.StringIO]
) -> None:
    shown, written = terminal
    shown.print(what)
    assert not COMMANDS.search(written.getvalue())
    assert "before" in written.getvalue()
    assert "after" in written.getvalue()


def test_styles_still_colour_a_terminal(terminal: tuple[Console, io.StringIO]) -> None:
    shown, written = terminal
    shown.print("[red]broken[/]")
    assert written.getvalue() == "\x1b[31mbroken\x1b[0m\n"


def test_a_live_display_still_moves_the_cursor(terminal: tuple[Console, io.StringIO]) -> None:
    shown, written = terminal
    with Live(escape(HOSTILE), console=shown, auto_refresh=False) as live:
        live.refresh()
    assert "\x1b[?25l" in written.getvalue()
    assert "\x1b]0;" not in written.getvalue()
    assert "\x1b[2J" not in written.getvalue()


def test_lines_rows_and_json_hold_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    say(HOSTILE, err=True)
    errors().print(escape(HOSTILE))
    print_table(["name", "reason"], [["one", "two\tand\nthree" + HOSTILE]], empty="none")
    printed = capsys.readouterr()
    assert not COMMANDS.search(printed.out + printed.err)
    row = printed.out.splitlines()[-1]
    assert row.split("\t")[0] == "one"
    assert row.split("\t")[1].startswith("two and three")

    print_json({"reason": HOSTILE})
    printed = capsys.readouterr()
    assert not COMMANDS.search(printed.out)
    assert json.loads(printed.out) == {"reason": HOSTILE}


def test_a_line_keeps_its_tabs_and_the_ends_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\ttwo\r\nthree ä €")
    assert capsys.readouterr().out == "one\ttwo\nthree ä €\n"


def test_the_command_line_prints_in_no_other_way() -> None:
    folder = Path(sluice.__file__).parent
    ways = re.compile(r"typer\.echo\(|click\.echo\(|(?<![A-Za-z_])Console\(")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if ways.search(path.read_text())}
    assert found == {"cli/plain.py"}
