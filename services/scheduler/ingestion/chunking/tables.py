"""The tables of a text, as parsers leave them: a row is a line, with bars between its cells."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["TableHeaders"]

FEWEST_ROWS: Final = 3
"""Lines of equally many cells, the header among them, that make a table."""

_ROW = re.compile(r"^.*\|.*$", re.MULTILINE)
_BAR = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\s*\|?\s*:?-+[-\s|:]*\Z")
_NUMBER = re.compile(r"[-+]?[\d.,\s%]+\Z")


@dataclass(frozen=True, slots=True)
class _Table:
    """Where the rows after the header begin and end."""

    start: int
    end: int
    header: str


class TableHeaders:
    """The header of the table that a place of a text is in.

    The header is the first row, with the rule below it where there is one, as short as a rule can be. Without a rule it
    must look like one: names that are distinct, not empty and not numbers.
    """

    def __init__(self, text: str) -> None:
        self._tables = list(_tables(text)) if "|" in text else []
        self._starts = [table.start for table in self._tables]

    def at(self, place: int) -> str:
        """The lines of the header, each with its line end; empty before the second row of a table and outside."""
        found = bisect_right(self._starts, place) - 1
        return self._tables[found].header if found >= 0 and place < self._tables[found].end else ""


def _tables(text: str) -> Iterator[_Table]:
    block: list[re.Match[str]] = []
    for line in _ROW.finditer(text):
        if block and (line.start() != block[-1].end() + 1 or _width(line[0]) != _width(block[-1][0])):
            yield from _table(block)
            block = []
        block.append(line)
    yield from _table(block)


def _table(block: Sequence[re.Match[str]]) -> Iterator[_Table]:
    if len(block) < FEWEST_ROWS:
        return
    cells = _cells(block[0][0])
    ruled = _RULE.match(block[1][0]) is not None
    if len(cells) < 2 or not (ruled or _are_names(cells)):
        return
    start = block[1 + ruled].start()
    rule = f"|{'-|' * len(cells)}\n" if ruled else ""
    yield _Table(start, block[-1].end(), f"{block[0][0]}\n{rule}")


def _cells(line: str) -> list[str]:
    """The cells of a row, with or without a bar at its edges."""
    line = line.strip().removeprefix("|")
    return [cell.strip() for cell in _BAR.split(line[:-1] if line.endswith("|") and line[-2:] != "\\|" else line)]


def _width(line: str) -> int:
    return len(_cells(line))


def _are_names(cells: Sequence[str]) -> bool:
    return all(cell and not _NUMBER.match(cell) for cell in cells) and len(set(cells)) == len(cells)
