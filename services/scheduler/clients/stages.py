"""Calls stages on the batch lane and waits for their results."""

import secrets
import time
from contextlib import suppress
from typing import Final

import anyio
from nats.errors import Error as NatsError

from shared.contracts.envelope import Lane, Passage, Query, Stop
from shared.contracts.events import Failed, Result
from shared.contracts.problems import Problem, ProblemType
from shared.nats.subjects import reply_subject
from shared.runtime.forward import forward
from shared.runtime.replies import Mailbox, open_mailbox
from shared.service.bus import Bus

__all__ = ["StageClient"]

LISTEN: Final = 1.0
"""Seconds between looks at whether the broker came back without the queues it held in memory."""

ROOM_PATIENCE: Final = 60.0
"""Seconds to wait for room in a stage's queue."""


class StageClient:
    """Any number of requests may be under way at once; the caller bounds them."""

    def __init__(self, bus: Bus, *, asker: str, seconds: float, tries: int) -> None:
        self._bus = bus
        self._asker = asker
        self._seconds = seconds
        self._tries = tries
        self._reconnections = 0
        bus.after_reconnect(self._reconnected)

    async def ask(
        self,
        stop: Stop,
        *then: Stop,
        tenant: str,
        collection: str = "",
        question: str = "",
        passages: tuple[Passage, ...] = (),
        seconds: float | None = None,
    ) -> Query:
        """The envelope as the last of these stages left it. They do the same work twice harmlessly, so a lost request
        is repeated.

        `seconds` is how long a worker may take. Whoever stops waiting stops the work as well. Raises the stage's
        Problem, or STAGE_UNAVAILABLE when no worker answered in time.
        """
        query_id = secrets.token_hex(16)
        seconds = seconds or self._seconds
        query = Query(
            id=query_id,
            tenant=tenant,
            lane=Lane.BATCH,
            asked_at=time.time(),
            deadline=time.time() + seconds,
            reply=reply_subject(self._asker, query_id),
            joined=True,
            slip=(stop, *then),
            question=question,
            collection=collection,
            passages=passages,
        )
        async with open_mailbox(self._bus.client, self._asker, query_id) as mailbox:
            try:
                return await self._submit(mailbox, query, seconds)
            except BaseException:
                with anyio.CancelScope(shield=True), suppress(NatsError):
                    await mailbox.cancel()
                raise

    async def _submit(self, mailbox: Mailbox, query: Query, seconds: float) -> Query:
        for attempt in range(1, self._tries + 1):
            now = time.time()
            query = query.model_copy(update={"attempt": attempt, "asked_at": now, "deadline": now + seconds})
            await forward(self._bus.jetstream, self._bus.topology, query, patience=ROOM_PATIENCE)
            answer = await self._listen(mailbox, query)
            if answer is not None:
                return answer
        raise Problem(
            ProblemType.STAGE_UNAVAILABLE,
            f"No worker of the stage '{query.stop.stage}' answered within {self._tries * seconds:.0f} s. "
            "Is one running? `sluice status` shows.",
        )

    async def _listen(self, mailbox: Mailbox, query: Query) -> Query | None:
        """The answer, or None when it is time to ask again."""
        reconnections = self._reconnections
        while query.remaining > 0 and reconnections == self._reconnections:
            try:
                event = await mailbox.receive(min(LISTEN, max(0.01, query.remaining)))
            except TimeoutError:
                continue
            if isinstance(event, Result):
                return event.query
            if isinstance(event, Failed):
                raise Problem.from_details(event.problem)
        return None

    async def _reconnected(self) -> None:
        self._reconnections += 1
