"""An answer is looked at sentence by sentence before it is sent: personal data is removed, and a model may end it."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from services.generator.engines.base import TextDelta
from services.generator.streaming.sentence_stream import SentenceStream
from shared.contracts.moderation import Moderation
from shared.personal_data import without

__all__ = ["AnswerStoppedError", "Judge", "Moderator", "Send"]

Send = Callable[[TextDelta], Awaitable[None]]

Judge = Callable[[str], Awaitable[bool]]
"""Whether a sentence may be sent."""

BREAK: Final = re.compile(r"\s(?=\S*$)")
"""The last white space: no word is cut where a sentence is too long to be held back."""


class AnswerStoppedError(Exception):
    """The next sentence must not be sent."""


class Moderator:
    """Between the writing of an answer and its reader.

    Tokens and log-probabilities would tell what was removed, and reasoning is not looked at: none of them is sent.
    """

    def __init__(self, moderation: Moderation, send: Send, judge: Judge) -> None:
        self._moderation = moderation
        self._send = send
        self._judge = judge
        self._sentences = SentenceStream()
        self._held = ""
        self.pieces = 0

    async def send(self, delta: TextDelta) -> None:
        """Take in a piece, and send what is complete. Raises AnswerStoppedError."""
        self.pieces += 1
        plain = replace(delta, reasoning="", logprobs=(), tokens=())
        self._held += delta.text
        for sentence in self._sentences.feed(plain):
            await self._pass(sentence)
        if len(self._held) > self._moderation.hold_back:
            await self._cut()

    async def flush(self) -> None:
        """Send what is held back, at the end of the answer. Raises AnswerStoppedError."""
        for sentence in self._sentences.flush():
            await self._pass(sentence)

    async def _cut(self) -> None:
        """Look at the beginning of a sentence that is too long, up to its last word."""
        (whole,) = self._sentences.flush()
        at = found.start() if (found := BREAK.search(whole.text)) else len(whole.text)
        await self._pass(replace(whole, text=whole.text[:at]))
        for sentence in self._sentences.feed(TextDelta(text=whole.text[at:])):
            await self._pass(sentence)

    async def _pass(self, piece: TextDelta) -> None:
        self._held = self._held[len(piece.text) :]
        text = without(piece.text, self._moderation.remove)
        if self._moderation.model and text.strip() and not await self._judge(text.strip()):
            raise AnswerStoppedError
        if text or piece.tool_calls:
            await self._send(replace(piece, text=text))
