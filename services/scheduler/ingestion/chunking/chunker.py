"""Cuts the sections of a document into chunks that the embedding model reads whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path

from services.scheduler.ingestion.chunking.segments import Boundary, Window
from services.scheduler.ingestion.chunking.tables import TableHeaders
from services.scheduler.ingestion.chunking.tokens import TokenCounter, packaged_tokenizer, tokenizer_file
from services.scheduler.ingestion.parsing.document import Section

__all__ = ["MIN_TOKENS", "Chunk", "Chunker", "Chunking"]

CHUNKING_VERSION = 3
"""Raised whenever the same text and settings may give other chunks."""

MIN_TOKENS = 32
_CHARS_PER_TOKEN = 16  # text of unknown words counts few tokens: bounds what a chunk can weigh
_HEADING_SHARE = 4  # a heading takes at most a quarter of a chunk, and the header of a table another one
_HEADING_SEPARATOR = " > "


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """How large chunks are, in tokens of the embedding model: at most `max_tokens` with its special tokens, of which
    up to `overlap_tokens` are repeated from the chunk before. Raises ValueError for sizes that do not go together."""

    max_tokens: int = 256
    overlap_tokens: int = 32

    def __post_init__(self) -> None:
        if self.max_tokens < MIN_TOKENS or not 0 <= self.overlap_tokens <= self.max_tokens // 4:
            raise ValueError(f"max_tokens is at least {MIN_TOKENS}, overlap_tokens at most a quarter of it.")

    @property
    def fingerprint(self) -> str:
        return f"max={self.max_tokens};overlap={self.overlap_tokens}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage of a document. `position` counts from 0 in reading order; `page` counts from 1.

    `text` is all that is embedded, searched and quoted: the heading path on a line of its own and a blank
    line, where there is one, the header of the table that the chunk begins in, then a slice of the section as it is.
    `heading` is that first line, "" if none. `section` counts from 0; pages under one heading are one section.
    """

    position: int
    text: str
    page: int | None = None
    heading: str = ""
    section: int = 0


class Chunker:
    """Cuts sections into chunks of at most `max_tokens` tokens of the model, special tokens included.

    A chunk never spans sections. It is filled with whole paragraphs; a cut falls at the last paragraph that
    leaves it at least half full, else sentence, else line, else word, and within a word only where the word
    alone is too long. Up to `overlap_tokens` tokens are repeated from the chunk before: whole sentences (or
    lines) where they fit, and parts of a sentence only where the cut was within one. Every character of a
    section that is not white space is in some chunk, in order. The same input always gives the same chunks.

    The heading path stands in front of each chunk because a passage is often not understood, and so not
    found, without it; a long path loses its outermost headings first.
    """

    def __init__(self, tokenizer: Path | None = None, *, max_tokens: int = 256, overlap_tokens: int = 32) -> None:
        """`tokenizer` is a tokenizer.json or a model folder; None takes that of the packaged model."""
        chunking = Chunking(max_tokens=max_tokens, overlap_tokens=overlap_tokens)
        self._counter = TokenCounter(tokenizer_file(tokenizer) if tokenizer else packaged_tokenizer())
        self._resize(chunking)
        self.method = f"chunking={CHUNKING_VERSION};tokenizer={self._counter.digest[:16]}"
        """Equal methods promise equal chunks for equal sections and equal sizes."""

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints promise equal chunks for equal sections."""
        return f"{self.method};{self._chunking.fingerprint}"

    def resized(self, chunking: Chunking) -> Chunker:
        """Another one with the same tokenizer, which is loaded only once."""
        other = copy(self)
        other._resize(chunking)
        return other

    def _resize(self, chunking: Chunking) -> None:
        self._chunking = chunking
        self._max_tokens = chunking.max_tokens
        self._overlap = chunking.overlap_tokens

    def chunk(self, sections: Iterable[Section]) -> Iterator[Chunk]:
        """The chunks of a document, made as they are asked for."""
        position, number = 0, -1
        path: tuple[str, ...] = ()
        heading = ""
        for section in sections:
            if number < 0 or section.heading != path or section.page is None:
                number += 1
            if section.heading != path:
                path, heading = section.heading, self._heading(section.heading)
            for text in self._texts(section.text, f"{heading}\n\n" if heading else ""):
                yield Chunk(position=position, text=text, page=section.page, heading=heading, section=number)
                position += 1

    def _heading(self, path: tuple[str, ...]) -> str:
        """The innermost headings that fit a quarter of a chunk; the start of the last one if it does not."""
        budget = self._max_tokens // _HEADING_SHARE
        for first in range(len(path)):
            line = " ".join(_HEADING_SEPARATOR.join(path[first:]).split())
            if len(line) <= budget * _CHARS_PER_TOKEN and self._tokens(line) <= budget:
                return line
        line = " ".join(path[-1].split())[: budget * _CHARS_PER_TOKEN] if path else ""
        while line and self._tokens(line) > budget:
            line = line[: len(line) * 3 // 4].rstrip()
        return line

    def _tokens(self, text: str) -> int:
        return self._counter.of_text(text) - self._counter.special

    def _texts(self, text: str, prefix: str) -> Iterator[str]:
        """The prefix, a table's header where one is missing, and a slice of `text` each; a slice starts at or before
        the end of the one before it."""
        headers = TableHeaders(text)
        window, first, covered = Window(text, 0, self._counter), 0, 0
        while first < len(window):
            start = window.starts[first]
            lead = prefix + self._affordable(headers.at(start))
            budget = self._max_tokens - self._counter.special - (self._tokens(lead) if lead else 0)
            end = self._end(window, first, window.through(covered), budget)
            if first and end == len(window) and not window.final:
                # More may fit than the window shows: look again through one that starts here.
                window, first = Window(text, window.starts[first], self._counter), 0
                continue
            first, end, covered = self._fit(window, first, end, budget, lead, covered)
            # What starts further on may be in no table any more.
            yield (lead if window.starts[first] == start else prefix) + text[window.starts[first] : covered]
            if end < len(window) and covered == window.ends[end - 1]:
                first = self._next(window, first, end, budget)
            else:
                window, first = Window(text, covered, self._counter), 0

    def _affordable(self, header: str) -> str:
        """The header of a table, unless it takes too much of a chunk."""
        budget = self._max_tokens // _HEADING_SHARE
        return header if len(header) <= budget * _CHARS_PER_TOKEN and self._tokens(header) <= budget else ""

    def _end(self, window: Window, first: int, floor: int, budget: int) -> int:
        """Where a chunk from words[first] ends: beyond `floor`, within the budget if that is possible."""
        end = self._reach(window, first, budget)
        if end <= floor:
            return floor + 1
        if end == len(window):
            return end
        best, strongest = end, Boundary.WORD
        for candidate in range(end, max(floor, self._reach(window, first, budget // 2)), -1):
            boundary = window.boundary(candidate)
            if boundary > strongest:
                best, strongest = candidate, boundary
            if boundary is Boundary.PARAGRAPH:
                break
        return best

    def _reach(self, window: Window, first: int, budget: int) -> int:
        return window.reach(first, budget, budget * _CHARS_PER_TOKEN)

    def _fit(
        self, window: Window, first: int, end: int, budget: int, prefix: str, covered: int
    ) -> tuple[int, int, int]:
        """The chunk (first word, end word, end place) shrunk until it has at most max_tokens tokens.

        Where the words fit and their sum is exact, there is nothing to encode and nothing to shrink.
        """
        stop = window.ends[end - 1]
        exact = self._counter.additive and window.is_exact(first, end)
        if exact and window.tokens(first, end) <= budget:
            return first, end, stop
        floor = window.through(covered)
        while (tokens := self._counter.of_text(prefix + window.slice(first, stop))) > self._max_tokens:
            if end - 1 > max(floor, first):
                fair = first + (end - first) * self._max_tokens // tokens
                end = min(end - 1, max(floor + 1, first + 1, fair))
                stop = window.ends[end - 1]
            elif first < floor:
                first = floor
            elif stop - window.starts[first] > 1:
                stop -= (stop - window.starts[first]) // 2
            else:
                break  # no tokenizer makes more tokens of one character than MIN_TOKENS leaves room for
        return first, end, stop

    def _next(self, window: Window, first: int, end: int, budget: int) -> int:
        """Where the chunk after words[first:end] starts: `end`, or before it by the overlap."""
        if not self._overlap:
            return end  # also where the last words have no tokens
        cut = window.boundary(end)
        accepted = min(cut, Boundary.SENTENCE) or Boundary.LINE
        start = furthest = end
        for candidate in range(end - 1, first, -1):
            if window.tokens(candidate, end) > self._overlap:
                break
            furthest = candidate
            if window.boundary(candidate) >= accepted:
                start = candidate
        if start == end and cut is Boundary.WORD:
            start = furthest
        return start if self._reach(window, start, budget) > end else end
