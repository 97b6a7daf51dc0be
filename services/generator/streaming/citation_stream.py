"""An answer's deltas on their way to the reader, with the citations cleaned."""

from collections.abc import Collection
from itertools import chain

from services.generator.engines.base import TextDelta
from services.generator.streaming.citations import CitationCleaner

__all__ = ["CitationStream"]

LONGEST_WAIT = 8
"""Deltas that wait at most for their text to be decided, so that it goes out together with its tokens."""


class CitationStream:
    """Takes an answer's deltas and gives those to show. Tokens and log-probabilities stay with their text.

    While text is held back because it may become a citation, its tokens are held back too, so that what has been
    shown at any time is text and the tokens of just this text. Where a citation was removed, or where text is cut
    within a token for long, the tokens only come near the text.
    """

    def __init__(self, sources: Collection[int]) -> None:
        self._cleaner = CitationCleaner(sources)
        self._waiting: list[TextDelta] = []
        self._text = ""

    @property
    def used(self) -> tuple[int, ...]:
        """Sources cited so far, counted from 1, in the order of their first mention."""
        return self._cleaner.used

    def resume(self, shown: str) -> None:
        """Go on after text that the reader has."""
        self._cleaner.resume(shown)

    def feed(self, delta: TextDelta) -> TextDelta | None:
        """What to show after this delta."""
        self._text += self._cleaner.feed(delta.text)
        self._waiting.append(delta)
        if delta.reasoning or delta.tool_calls:
            return self._merged()
        if not self._text or (delta.tokens and self._cleaner.holds and len(self._waiting) < LONGEST_WAIT):
            return None
        kept = self._waiting.pop() if self._cleaner.holds and len(self._waiting) > 1 else None
        shown = self._merged()
        if kept is not None:
            self._waiting.append(kept)
        return shown

    def flush(self) -> TextDelta | None:
        """What was held back, at the end of the answer."""
        self._text += self._cleaner.flush()
        return self._merged() if self._text or self._waiting else None

    def _merged(self) -> TextDelta:
        waiting, self._waiting = self._waiting, []
        text, self._text = self._text, ""
        return TextDelta(
            text=text,
            reasoning="".join(delta.reasoning for delta in waiting),
            tool_calls=tuple(chain.from_iterable(delta.tool_calls for delta in waiting)),
            logprobs=tuple(chain.from_iterable(delta.logprobs for delta in waiting)),
            tokens=tuple(chain.from_iterable(delta.tokens for delta in waiting)),
        )
