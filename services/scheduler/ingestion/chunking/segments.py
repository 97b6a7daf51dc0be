"""A window of a text as words, with their positions, token counts and the boundary after each."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from enum import IntEnum
from itertools import accumulate

from services.scheduler.ingestion.chunking.tokens import TokenCounter

__all__ = ["Boundary", "Window"]

WINDOW_CHARS = 65_536
LONGEST_WORD = 48
"""Longer words (links, base64, Chinese sentences) are cut into pieces of at most this many characters."""

# White space for Python and for tokenizers alike: they disagree on control characters.
_GAP = re.compile("([ \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+)")
# Around these every BERT tokenizer splits, so a cut there changes no token.
_WIDE_STOPS = "\u3002\uff01\uff1f"  # the full stops, exclamation and question marks of Chinese and Japanese
_PUNCTUATION = f"!-/:-@\\[-`{{-~\u3001\uff0c\uff1a\uff1b{_WIDE_STOPS}"
_PIECE = re.compile(f"[{_PUNCTUATION}]|[^{_PUNCTUATION}]+")
_STOPS, _CLOSERS = ".!?\u2026", "\"'\u201d\u2019\u00bb)]"
_SENTENCE_END = re.compile(f"[{_STOPS}][{re.escape(_CLOSERS)}]*\\Z|[{_WIDE_STOPS}]\\Z")
_LAST = frozenset(_STOPS + _CLOSERS + _WIDE_STOPS)
_PARAGRAPH = re.compile("\n[^\n]*\n")


class Boundary(IntEnum):
    """How much a text is interrupted after a word."""

    WORD = 0
    LINE = 1
    SENTENCE = 2
    PARAGRAPH = 3


class Window:
    """The words of text[start : start + WINDOW_CHARS]. `starts` and `ends` are places in the whole text.

    `totals[k]` is the number of tokens before word k. A word that the window cuts off is left out, unless the
    window is `final`, so that what is found does not depend on where windows end.
    """

    def __init__(self, text: str, start: int, counter: TokenCounter) -> None:
        self._text = text
        leading = _GAP.match(text, start)
        start = leading.end() if leading else start
        raw = text[start : start + WINDOW_CHARS]
        self.final = start + WINDOW_CHARS >= len(text)
        parts = _GAP.split(raw)
        if not parts[-1]:
            del parts[-2:]
        self._soft: list[int] = []
        if any(len(part) > LONGEST_WORD for part in parts[::2]):
            parts = self._cut_long(parts)
        if not self.final and parts and not _GAP.match(raw, len(raw) - 1) and len(parts) > 1:
            del parts[-2:]
        bounds = list(accumulate(map(len, parts), initial=start))
        self.words, self._gaps = parts[::2], parts[1::2]
        self.starts, self.ends = bounds[:-1:2], bounds[1::2]
        self.totals = list(accumulate(counter.of_words(self.words), initial=0))

    def __len__(self) -> int:
        return len(self.words)

    def slice(self, first: int, stop: int) -> str:
        """The text from words[first] up to the place `stop`."""
        return self._text[self.starts[first] : stop]

    def reach(self, first: int, tokens: int, chars: int) -> int:
        """The largest `end` so that words[first:end] have at most that many tokens and characters."""
        by_tokens = bisect_right(self.totals, self.totals[first] + tokens, first) - 1
        return min(by_tokens, bisect_right(self.ends, self.starts[first] + chars, first))

    def through(self, place: int) -> int:
        """How many words end at or before this place of the text."""
        return bisect_right(self.ends, place)

    def tokens(self, first: int, end: int) -> int:
        """The sum of the tokens of words[first:end]."""
        return self.totals[end] - self.totals[first]

    def boundary(self, index: int) -> Boundary:
        """The boundary between words[index - 1] and words[index]."""
        gap = self._gaps[index - 1]
        if "\n" in gap and _PARAGRAPH.search(gap):
            return Boundary.PARAGRAPH
        word = self.words[index - 1]
        if word[-1] in _LAST and (gap or word in _WIDE_STOPS) and _SENTENCE_END.search(word):
            return Boundary.SENTENCE
        return Boundary.LINE if "\n" in gap else Boundary.WORD

    def is_exact(self, first: int, end: int) -> bool:
        """Whether no word was cut within words[first:end] at a place where a tokenizer would not split."""
        return bisect_left(self._soft, first) == bisect_left(self._soft, end - 1)

    def _cut_long(self, parts: list[str]) -> list[str]:
        """`parts` with long words cut into pieces that have empty gaps between them."""
        cut: list[str] = []
        done = 0
        for index in range(0, len(parts), 2):
            if len(parts[index]) <= LONGEST_WORD:
                continue
            cut += parts[done:index]
            for piece in _PIECE.findall(parts[index]):
                for place in range(0, len(piece), LONGEST_WORD):
                    if place:
                        self._soft.append(len(cut) // 2 - 1)
                    cut += (piece[place : place + LONGEST_WORD], "")
            cut.pop()
            done = index + 1
        return cut + parts[done:]
