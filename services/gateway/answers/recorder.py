"""Keeps answers in the background, so that no query waits for it.

What there is no room for, and what the broker does not take, is left out and counted: an answer that is not kept is
worth less than one that comes late.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import anyio
from nats.errors import Error as NatsError
from prometheus_client import Counter

from services.gateway.answers.redaction import Redactor, redact, redacted
from services.gateway.answers.store import AnswerStore
from services.gateway.settings import GatewaySettings
from shared.contracts.problems import Problem, ProblemType
from shared.tasks import task_group
from sluice.api.feedback import KeptAnswer
from sluice.api.models import Source

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
TRIES: Final = 3
PAUSE: Final = 1.0
"""Tries to write an answer, and seconds between two of them."""

LONGEST_SOURCE: Final = 8000
LONGEST_TURN: Final = 8000
MOST_TURNS: Final = 20
"""Characters of each source and of each turn, and turns, that are kept."""

LARGEST: Final = 512 * 1024
"""Bytes of one answer; the broker takes messages of 1 MiB."""

LAST_WRITES: Final = 2.0
"""Seconds that the end of the process gives to answers that are not written yet."""


class AnswerRecorder:
    """The answers of this gateway on their way to the broker."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._enabled = settings.keep_answers
        self._tenants = settings.kept_tenants
        self._redactor: Redactor | None = settings.redactor
        # Its own threads, as a slow redactor would hold up whatever else waits for one.
        self._threads = ThreadPoolExecutor(WRITERS, "redactor")
        self._waiting: asyncio.Queue[tuple[str, KeptAnswer]] = asyncio.Queue(ROOM)

    def keeps(self, tenant: str) -> bool:
        """Whether answers of this tenant are kept."""
        return self._enabled and (not self._tenants or tenant in self._tenants)

    def keep(self, tenant: str, answer: KeptAnswer) -> None:
        """Write an answer soon, unless too many wait already."""
        try:
            self._waiting.put_nowait((tenant, answer))
        except asyncio.QueueFull:
            OUTCOMES.labels("no-room").inc()

    async def written(self) -> None:
        """Wait until what waits now is written, or has failed."""
        await self._waiting.join()

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
        async with task_group() as tasks:
            writers = [tasks.create_task(self._write(store)) for _ in range(WRITERS if self._enabled else 0)]
            try:
                yield
                if writers:
                    with anyio.move_on_after(LAST_WRITES):
                        await self.written()
            finally:
                for writer in writers:
                    writer.cancel()
                self._threads.shutdown(wait=False, cancel_futures=True)

    async def _write(self, store: AnswerStore) -> None:
        while True:
            tenant, answer = await self._waiting.get()
            try:
                OUTCOMES.labels(await self._written(store, tenant, answer)).inc()
            except Exception:
                # Of what cannot be redacted nothing is kept.
                log.exception("an answer is not kept", extra={"answer": answer.id})
                OUTCOMES.labels("failed").inc()
            finally:
                self._waiting.task_done()

    async def _written(self, store: AnswerStore, tenant: str, answer: KeptAnswer) -> str:
        answer = answer.model_copy(update={"messages": answer.messages[-MOST_TURNS:]})
        if self._redactor is not None:
            answer = await self._in_thread(redact, answer, self._redactor)
        # Only then: half of an address at the end of a text would not be known as one.
        answer = _bounded(answer)
        if len(answer.model_dump_json(exclude_defaults=True).encode()) > LARGEST:
            return "too-large"
        for left in reversed(range(TRIES)):
            try:
                await store.put(tenant, answer)
            except (NatsError, TimeoutError, OSError) as error:
                if not left:
                    log.warning("an answer is not kept", extra={"reason": str(error) or type(error).__name__})
                    return "failed"
                await asyncio.sleep(PAUSE)
            else:
                break
        return "kept"


def _bounded(answer: KeptAnswer) -> KeptAnswer:
    """The answer with the beginnings of long texts."""
    turns = tuple(
        {"role": turn.get("role"), "content": str(turn.get("content") or "")[:LONGEST_TURN]} for turn in answer.messages
    )
    return answer.model_copy(update={"messages": turns, "sources": tuple(map(_source, answer.sources))})


def _source(source: Source) -> Source:
    return source.model_copy(update={"text": source.text[:LONGEST_SOURCE], "context": ()})
