"""Chunks of a text back into the text: what a chunk repeats of the one before it, and several as one.

A chunk begins with its heading on a line of its own and a blank line, where it has one, and with the header of the
table that it begins in. Then it may repeat the end of the chunk before.
"""

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["belong_together", "heading_of", "join_chunks", "overlap"]

CERTAIN: Final = 16
"""Characters in common that are no coincidence, wherever words begin."""

_RULE = re.compile(r"\s*\|?\s*:?-+[-\s|:]*\Z")
_ENDS = re.compile(r"[.!?…:;。！？][\"'”’»)\]」』）]*\Z")  # noqa: RUF001  (punctuation of many scripts)


def heading_of(chunk: str) -> str:
    """The first line, if a blank line and more text follow it; else empty."""
    first, blank, rest = chunk.partition("\n\n")
    return first if blank and rest and "\n" not in first else ""


def belong_together(before: str, after: str) -> bool:
    """Whether two chunks that follow each other show that they are of one section: by their heading, or because the
    second repeats the end of the first. For chunks whose sections are not known."""
    heading = heading_of(before)
    return bool(heading and heading == heading_of(after)) or overlap(before, _without_heading(before, after)) > 0


def overlap(before: str, after: str) -> int:
    """How many characters of the start of `after` repeat the end of `before`; whole words, unless there are many."""
    probe = after[:CERTAIN]
    start = before.find(probe, max(0, len(before) - len(after))) if len(probe) == CERTAIN else -1
    while start >= 0:
        if after.startswith(before[start:]):
            return len(before) - start
        start = before.find(probe, start + 1)
    for size in range(min(CERTAIN - 1, len(before), len(after)), 0, -1):
        whole = not _is_within_word(before, len(before) - size) and not _is_within_word(after, size)
        if whole and before.endswith(after[:size]):
            return size
    return 0


def join_chunks(chunks: Sequence[str]) -> str:
    """Chunks of one section that follow each other as one text, without what chunking has repeated."""
    joined: list[str] = []
    previous = ""
    for chunk in chunks:
        if joined:
            body = _without_table_header(previous, _without_heading(previous, chunk))
            repeated = overlap(previous, body)
            if rest := body[repeated:]:
                joined += ["" if repeated else _gap(previous, rest), rest]
        else:
            joined.append(chunk)
        previous = chunk
    return "".join(joined)


def _without_heading(before: str, chunk: str) -> str:
    heading = heading_of(before)
    return chunk.removeprefix(f"{heading}\n\n") if heading else chunk


def _without_table_header(before: str, body: str) -> str:
    """Without a first row that `before` has too, and the rule below it."""
    first, _, rest = body.partition("\n")
    if "|" not in first or first not in before.split("\n"):
        return body
    second, _, after = rest.partition("\n")
    return after if _RULE.match(second) else rest


def _gap(before: str, after: str) -> str:
    """What stood between them, as far as that can be told: rows of a table stay together."""
    is_row = "|" in before.rpartition("\n")[2] and "|" in after.partition("\n")[0]
    return "\n\n" if _ENDS.search(before) and not is_row else "\n"


def _is_within_word(text: str, place: int) -> bool:
    return 0 < place < len(text) and text[place - 1].isalnum() and text[place].isalnum()
