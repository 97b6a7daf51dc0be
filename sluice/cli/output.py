"""How the command line prints: tables, JSON, sizes, and errors with their exit status."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from sluice.cli.plain import CONTROLS, printable
from sluice.units import ago, counted, file_size, moment, took

if TYPE_CHECKING:
    from sluice.client import Client

__all__ = [
    "ago",
    "console",
    "counted",
    "download",
    "errors",
    "explain",
    "file_size",
    "moment",
    "print_json",
    "print_table",
    "took",
]

UNREACHABLE = 3

UNESCAPED = re.compile(r"[\x7f-\x9f]")
"""Control characters that JSON allows within a text."""


class _SafeConsole(Console):
    """A console whose text commands no terminal: only styles and live displays write escape sequences."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)  # before its width is measured

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not CONTROLS.search(segment.text):
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


def console() -> Console:
    return _SafeConsole(highlight=False)


def errors() -> Console:
    return _SafeConsole(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print a model, or a list or mapping of models, as one JSON value. Times are in ISO 8601."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False)
    sys.stdout.write(UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows under dim headings (a heading that begins with ">" is for numbers), or the line `empty`.

    In a pipe nothing is cut off: one line a row, columns apart by tabs, no headings.
    """
    shown = [[str(cell) for cell in row] for row in rows]
    terminal = console()
    if not terminal.is_terminal:
        for row in shown:
            sys.stdout.write("\t".join(re.sub(r"[\t\n]", " ", printable(cell)) for cell in row) + "\n")
        return
    if not shown:
        terminal.print(f"[dim]{escape(empty)}[/]")
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in shown:
        table.add_row(*(escape(cell) for cell in row))
    terminal.print(table)


def download(client: "Client", name: str, output: Path | None) -> None:
    """Write a file of jobs to a path, else to one called like it; to standard output for `-`."""
    if str(output) == "-":
        sys.stdout.buffer.write(client.artifact(name))
        return
    path = output or Path(name.rpartition("/")[2])
    size = client.save_artifact(name, path)
    sys.stdout.write(f"{path}: {file_size(size)}\n")


def explain(error: Exception) -> int:
    """Print an error for a person; the exit status it calls for. An unexpected error is raised again."""
    from sluice.client.errors import SluiceError, UnreachableError

    if not isinstance(error, SluiceError):
        raise error
    errors().print(f"[bold red]{escape(str(error))}[/]", soft_wrap=True)
    return UNREACHABLE if isinstance(error, UnreachableError) else 1


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return to_jsonable_python(value.model_dump())
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
