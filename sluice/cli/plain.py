"""Plain text on a terminal. Much of it was written by others, who must not command the terminal with it."""

import re
from typing import Final

import typer

__all__ = ["CONTROLS", "printable", "say"]

CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters but tab and end of line."""


def printable(text: str) -> str:
    """The text with a replacement character in the place of each control character but tab and end of line.

    The reason of a cancel and the last line of a command reach the terminal of whoever looks at the job. A terminal
    obeys the escape sequences in them: it writes over other lines, changes its title, and answers questions.
    """
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def say(text: str, *, err: bool = False) -> None:
    """Print a line."""
    typer.echo(printable(text), err=err)
