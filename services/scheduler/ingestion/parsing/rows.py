"""Rows of cells as text in which each row is understood on its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from services.scheduler.ingestion.parsing.columns import WIDEST, are_names, find_names, is_number, named

__all__ = ["fill_spans", "is_wide", "keyed", "record", "table_text"]

LONGEST_RECORD = 480
"""Characters: about what fits into a chunk. The key of a longer row is repeated."""
LONGEST_HEADER = 160
LONGEST_KEY = 100

_MOST_CELLS = 200_000
_KEY_COLUMNS = 3
_EMPTY = "-"
_SENTENCE_END = re.compile(r"(?<=[.!?;\u3002]) ")


def table_text(rows: Sequence[Sequence[str]], header_rows: int = 0) -> str:
    """The rows as lines with " | " between cells, the names of the columns first.

    `header_rows` is how many rows the document itself calls header; with 0 it is found out. A header that does not look
    like one has a rule below it, so that chunks repeat it. A table too wide for that becomes paragraphs of records.
    """
    table = [[" ".join(cell.split()) for cell in row] for row in rows]
    table = [row for row in table if any(row)]
    if not table:
        return ""
    width = max(map(len, table))
    header_rows = min(header_rows, len(table) - 1)
    names = _joined(table[:header_rows], width) if header_rows else find_names(table)
    body = table[header_rows:] if header_rows else table[1:] if names else table
    if names and is_wide([names, *body]):
        return "\n\n".join(record(named(names, width), row) for row in body)
    lines = [_line(row, width) for row in body]
    if names:
        rule = [] if are_names(names) else [" | ".join(["---"] * width)]
        lines = [_line(names, width), *rule, *lines]
    return "\n".join(lines)


def _line(row: Sequence[str], width: int) -> str:
    """All cells, a hyphen for an empty one: a line that begins or ends with a bar would lose a column."""
    cells = [*row, *[""] * (width - len(row))]
    return " | ".join(cell.replace("|", "\\|") or _EMPTY for cell in cells)


def is_wide(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a row does not fit into a chunk together with the header, which is the first row."""
    return _length(rows[0]) > LONGEST_HEADER or max(map(_length, rows[1:]), default=0) > LONGEST_RECORD


def record(names: Sequence[str], row: Sequence[str]) -> str:
    """A row as lines "column: value", empty values left out.

    One that is longer than a chunk is several paragraphs, each of which begins with the row's key.
    """
    values = [" ".join(cell.split()) for cell in row]
    if len(values) > WIDEST:
        return " | ".join(filter(None, values))
    lines: list[tuple[str, str]] = []
    for index, value in enumerate(values):
        if value:
            lines.append((names[index] if index < len(names) else f"column {index + 1}", value))
    return keyed(lines)


def keyed(lines: Sequence[tuple[str, str]]) -> str:
    """Lines "name: value" in paragraphs of about LONGEST_RECORD characters that begin with the key.

    That is the first line that is short and, where there is such a one among the first, no number.
    """
    texts = [f"{name}: {value}" if name else value for name, value in lines]
    if sum(map(len, texts)) <= LONGEST_RECORD or len(lines) < 2:
        return "\n".join(texts)
    key = _key(lines)
    paragraphs, current, size = [], list(key), len("".join(key))
    for index, (name, value) in enumerate(lines):
        if key and texts[index] == key[0]:
            continue
        for piece in _pieces(value, LONGEST_RECORD - len("".join(key)) - len(name)):
            text = f"{name}: {piece}" if name else piece
            if size + len(text) > LONGEST_RECORD and size > LONGEST_RECORD // 4:
                paragraphs.append("\n".join(current))
                current, size = list(key), len("".join(key))
            current.append(text)
            size += len(text)
    return "\n\n".join([*paragraphs, "\n".join(current)])


def _key(lines: Sequence[tuple[str, str]]) -> list[str]:
    """The line that says which row it is; none where the first ones are all long."""
    short = [(name, value) for name, value in lines[:_KEY_COLUMNS] if len(name) + len(value) <= LONGEST_KEY]
    words = [line for line in short if not is_number(line[1])]
    return [f"{name}: {value}" if name else value for name, value in (words or short)[:1]]


def fill_spans(rows: Sequence[Sequence[tuple[str, int, int]]], header_rows: int = 0) -> list[list[str]]:
    """Cells of (text, columns, rows) on a grid, with the text of a merged cell in each row that it covers.

    It is also in each column that it covers, in the rows of the header and in the first one. A table that would become
    too large stays as it is.
    """
    if all(across == down == 1 for row in rows for _, across, down in row):
        return [[text for text, _, _ in row] for row in rows]
    places = sum(min(max(across, 1), WIDEST) * min(max(down, 1), len(rows)) for row in rows for _, across, down in row)
    if places > _MOST_CELLS:
        return [[text for text, _, _ in row] for row in rows]
    waiting: dict[int, tuple[str, int]] = {}  # by column: a text from above, and for how many more rows
    filled: list[list[str]] = []
    for number, row in enumerate(rows):
        line: list[str] = []
        repeated = number < max(header_rows, 1)
        carried, waiting = waiting, {}
        cells = iter(row)
        while True:
            _take_carried(line, carried, waiting)
            cell = next(cells, None)
            if cell is None:
                break
            text, across, down = cell
            for place in range(min(max(across, 1), WIDEST)):
                shown = text if repeated or not place else ""
                if down > 1:
                    waiting[len(line)] = (shown, down - 1)
                line.append(shown)
        for column in sorted(carried):
            line += [""] * (column - len(line))
            _take_carried(line, carried, waiting)
        filled.append(line)
    return filled


def _take_carried(line: list[str], carried: dict[int, tuple[str, int]], waiting: dict[int, tuple[str, int]]) -> None:
    while (above := carried.pop(len(line), None)) is not None:
        text, left = above
        if left > 1:
            waiting[len(line)] = (text, left - 1)
        line.append(text)


def _joined(header: Sequence[Sequence[str]], width: int) -> list[str]:
    """One name a column from several rows of header."""
    names = []
    for column in range(width):
        parts = [row[column] for row in header if column < len(row) and row[column]]
        names.append(" ".join(dict.fromkeys(parts)))
    return names


def _length(row: Sequence[str]) -> int:
    return sum(map(len, row)) + 3 * len(row)


def _pieces(value: str, size: int) -> Iterator[str]:
    """The value in pieces of about `size` characters, cut at sentences where there are some, else at words."""
    size = max(size, LONGEST_KEY)
    if len(value) <= size:
        yield value
        return
    piece = ""
    for sentence in _SENTENCE_END.split(value):
        for part in [sentence] if len(sentence) <= size else _words(sentence, size):
            if piece and len(piece) + len(part) >= size:
                yield piece
                piece = ""
            piece = f"{piece} {part}" if piece else part
    if piece:
        yield piece


def _words(text: str, size: int) -> Iterator[str]:
    start = 0
    while len(text) - start > size:
        cut = text.rfind(" ", start + 1, start + size)
        stop = cut if cut > start else start + size
        yield text[start:stop]
        start = stop + 1 if cut > start else stop
    yield text[start:]
