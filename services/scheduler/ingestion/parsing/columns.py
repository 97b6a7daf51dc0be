"""Where a table begins in rows of cells, and what its columns are called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "LOOKED_AT",
    "WIDEST",
    "TableShape",
    "are_names",
    "evidence",
    "find_names",
    "find_shape",
    "is_number",
    "named",
]

WIDEST = 1_000
"""Columns; a wider row is not understood through their names."""
LOOKED_AT = 200
"""Rows that are looked at."""

_NUMBER = re.compile(r"[-+]?[\d.,\s%]+\Z")
_YEAR = re.compile(r"(?:1[89]|20|21)\d\d\Z")
_DATED = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}")


@dataclass(frozen=True, slots=True)
class TableShape:
    """`start` rows stand above the table; `names` are its columns', None where it has no header."""

    start: int
    names: list[str] | None

    @property
    def body(self) -> int:
        """The first row of data."""
        return self.start + (self.names is not None)


def find_shape(rows: Sequence[Sequence[str]]) -> TableShape:
    """The shape of a table with a title or notes above it.

    These are the rows that are narrower than the table: of one cell, or of one that is not empty where the table has
    three columns or more. `rows` are not blank; the first LOOKED_AT decide.
    """
    rows = rows[:LOOKED_AT]
    widths = Counter(len(row) for row in rows if len(row) > 1)
    if not widths:
        return TableShape(0, find_names(rows))
    if max(widths) > WIDEST:
        return TableShape(0, None)
    width = max(widths, key=lambda one: (widths[one], one))
    start = 0
    for row in rows[:-1]:
        if not _is_above(row, width):
            break
        start += 1
    if start == len(rows) - 1:
        start = 0
    names = find_names(rows[start:])
    if names is not None and len(names) == width - 1 > 1:
        names = ["", *names]  # R writes no name for the column of row names
    return TableShape(start, names)


def find_names(rows: Sequence[Sequence[str]]) -> list[str] | None:
    """The first row, where it holds the names of the columns; else None.

    Distinct words are names. So are words beside empty cells, years and words that are there twice, if the rows below
    differ from them: a column of numbers below a word, or no cell that comes again in its column.
    """
    if not rows:
        return None
    first, below = [cell.strip() for cell in rows[0]], rows[1:LOOKED_AT]
    if are_names(first):
        return first
    words = [cell for cell in first if cell and not _NUMBER.match(cell)]
    if not words or not below or 2 * len([cell for cell in first if not cell]) > len(first):
        return None
    if any(_NUMBER.match(cell) and not _YEAR.match(cell) for cell in first if cell):
        return None
    return first if evidence(first, below) > 0 else None


def are_names(cells: Sequence[str]) -> bool:
    """Names are distinct, not empty and not numbers."""
    return all(cell and not _NUMBER.match(cell) for cell in cells) and len(set(cells)) == len(cells)


def is_number(cell: str) -> bool:
    return _NUMBER.match(cell) is not None


def named(names: Sequence[str] | None, width: int) -> list[str]:
    """One distinct name for each of `width` columns."""
    given = list(names or ())[:width]
    seen: Counter[str] = Counter()
    distinct = []
    for index in range(width):
        name = (given[index] if index < len(given) else "") or f"column {index + 1}"
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct


def _is_above(row: Sequence[str], width: int) -> bool:
    return len(row) == 1 or (width > 2 and sum(bool(cell.strip()) for cell in row) <= 1)


def evidence(first: Sequence[str], below: Sequence[Sequence[str]]) -> int:
    """How much speaks for a header; one point that nothing speaks against it."""
    points, repeated = 0, False
    for index, cell in enumerate(first):
        values = [row[index].strip() for row in below if index < len(row) and row[index].strip()]
        repeated = repeated or bool(cell and cell in values)
        if cell and not _NUMBER.match(cell) and values:
            numbers = sum(bool(_NUMBER.match(value) or _DATED.match(value)) for value in values)
            points += numbers > 0.8 * len(values)
    return points + (not repeated)
