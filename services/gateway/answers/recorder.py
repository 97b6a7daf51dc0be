"""Keeps answers, as they may be kept: redacted, and of a bounded size."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar

from prometheus_client import Counter

from services.gateway.answers.redaction import Redactor, redact, redacted
from services.gateway.answers.store import AnswerStore
from services.gateway.background import BackgroundWriter, persistently
from services.gateway.settings import GatewaySettings
from shared.contracts.problems import Problem, ProblemType
from sluice.api.feedback import KeptAnswer
from sluice.api.queries import Source

__all__ = ["AnswerRecorder"]

log = logging.getLogger(__name__)

T = TypeVar("T")

OUTCOMES = Counter(
    "sluice_gateway_answers_kept_total",
    "Answers that were to be kept, by what became of it: kept, no-room, too-large or failed.",
    ("outcome",),
)

ROOM: Final = 500
"""Answers that wait to be written."""

WRITERS: Final = 8

LONGEST_SOURCE: Final = 8000
LONGEST_TURN: Final = 8000
MOST_TURNS: Final = 20
"""Characters of each source and of each turn, and turns, that are kept."""

LARGEST: Final = 512 * 1024
"""Bytes of one answer; the broker takes messages of 1 MiB."""


class AnswerRecorder:
    """The answers of this gateway on their way to the broker."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._enabled = settings.keep_answers
        self._tenants = settings.kept_tenants
        self._redactor: Redactor | None = settings.redactor
        # Its own threads, as a slow redactor would hold up whatever else waits for one.
        self._threads = ThreadPoolExecutor(WRITERS, "redactor")
        writers = WRITERS if self._enabled else 0
        self._writer = BackgroundWriter[tuple[str, KeptAnswer]](
            "an answer", room=ROOM, writers=writers, outcomes=OUTCOMES
        )

    def keeps(self, tenant: str) -> bool:
        """Whether answers of this tenant are kept."""
        return self._enabled and (not self._tenants or tenant in self._tenants)

    def keep(self, tenant: str, answer: KeptAnswer) -> None:
        """Write an answer soon, unless too many wait already."""
        self._writer.put((tenant, answer))

    async def written(self) -> None:
        """Wait until what waits now is written, or has failed."""
        await self._writer.written()

    async def redacted(self, text: str) -> str:
        """A text as it may be kept. Raises Problem INTERNAL where the redactor fails."""
        if self._redactor is None:
            return text
        try:
            return await self._in_thread(redacted, text, self._redactor)
        except Exception:
            log.exception("the redactor has failed")
            detail = "The gateway's SLUICE_REDACTOR has failed, so nothing was kept. Its log says more."
            raise Problem(ProblemType.INTERNAL, detail) from None

    async def _in_thread(self, redacting: Callable[[T, Redactor], T], given: T, redactor: Redactor) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, redacting, given, redactor)

    @asynccontextmanager
    async def running(self, store: AnswerStore) -> AsyncIterator[None]:
        """Write for as long as the block runs, and a moment longer what waits at its end."""
        try:
            async with self._writer.running(partial(self._write, store)):
                yield
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _write(self, store: AnswerStore, kept: tuple[str, KeptAnswer]) -> str:
        """Of what cannot be redacted nothing is kept."""
        tenant, answer = kept
        answer = answer.model_copy(update={"messages": answer.messages[-MOST_TURNS:]})
        if self._redactor is not None:
            answer = await self._in_thread(redact, answer, self._redactor)
        # Only then: half of an address at the end of a text would not be known as one.
        answer = _bounded(answer)
        if len(answer.model_dump_json(exclude_defaults=True).encode()) > LARGEST:
            return "too-large"
        await persistently(partial(store.put, tenant, answer))
        return "kept"


def _bounded(answer: KeptAnswer) -> KeptAnswer:
    """The answer with the beginnings of long texts."""
    turns = tuple(
        {"role": turn.get("role"), "content": str(turn.get("content") or "")[:LONGEST_TURN]} for turn in answer.messages
    )
    return answer.model_copy(update={"messages": turns, "sources": tuple(map(_source, answer.sources))})


def _source(source: Source) -> Source:
    return source.model_copy(update={"text": source.text[:LONGEST_SOURCE], "context": ()})
