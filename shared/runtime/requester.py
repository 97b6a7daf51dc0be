"""Asking stages from within a service: a query is submitted, and its events are read until it ends."""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import anyio
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from shared.contracts.envelope import Lane, Passage, Query, Stop, Vector
from shared.contracts.events import Failed, Result
from shared.contracts.problems import Problem, ProblemType
from shared.nats.client import Connection
from shared.nats.subjects import reply_subject
from shared.nats.topology import Topology
from shared.runtime.forward import forward
from shared.runtime.replies import Mailbox, open_mailbox

__all__ = ["Requester", "cancelled_unless"]

POLL_SECONDS: Final = 1.0
"""Seconds between looks at whether the broker came back without the queues it held in memory."""

ROOM_TIMEOUT: Final = 60.0
"""Seconds to wait for room in a stage's queue."""


@asynccontextmanager
async def cancelled_unless(complete: Callable[[], bool], mailbox: Mailbox) -> AsyncIterator[None]:
    """Submit a query and read its events in the block. Unless its answer is complete then, all stages are told to stop
    working on it."""
    try:
        yield
    finally:
        if not complete():
            with anyio.CancelScope(shield=True), suppress(NatsError):
                await mailbox.cancel()


class Requester:
    """Asks stages for results. Any number of requests may be under way at once; the caller bounds them.

    `name` is that of the reply subjects, as the credentials of the service allow it. A request is tried `tries` times,
    each for `seconds`: stages do the same work twice harmlessly, so a request that got lost is repeated.
    """

    def __init__(
        self,
        client: Connection,
        jetstream: JetStreamContext,
        topology: Topology,
        *,
        name: str,
        seconds: float,
        tries: int,
        lane: Lane = Lane.BATCH,
    ) -> None:
        self._client = client
        self._jetstream = jetstream
        self._topology = topology
        self._name = name
        self._seconds = seconds
        self._tries = tries
        self._lane = lane

    async def ask(
        self,
        stop: Stop,
        *then: Stop,
        tenant: str,
        collection: str = "",
        collection_id: str = "",
        principals: tuple[str, ...] = (),
        question: str = "",
        embedding: Vector | None = None,
        passages: tuple[Passage, ...] = (),
        seconds: float | None = None,
    ) -> Query:
        """The envelope as the last of these stages left it. A caller that is cancelled stops the work as well.

        `principals` are what whoever reads the answer carries: without any, documents with a list are not looked at.

        `seconds` is how long a worker may take, instead of the usual time. Raises the stage's Problem, or
        STAGE_UNAVAILABLE when no worker answered in time.
        """
        query_id, now = secrets.token_hex(16), time.time()
        seconds = seconds or self._seconds
        query = Query(
            id=query_id,
            tenant=tenant,
            lane=self._lane,
            asked_at=now,
            deadline=now + seconds,
            reply=reply_subject(self._name, query_id),
            joined=True,
            slip=(stop, *then),
            question=question,
            collection=collection,
            collection_id=collection_id,
            principals=principals,
            embedding=embedding,
            passages=passages,
        )
        answer: Query | None = None
        async with (
            open_mailbox(self._client, self._name, query_id) as mailbox,
            cancelled_unless(lambda: answer is not None, mailbox),
        ):
            for attempt in range(1, self._tries + 1):
                now = time.time()
                query = query.model_copy(update={"attempt": attempt, "asked_at": now, "deadline": now + seconds})
                await forward(self._jetstream, self._topology, query, room_timeout=ROOM_TIMEOUT)
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
        reconnections = self._client.stats["reconnects"]
        while query.remaining > 0 and reconnections == self._client.stats["reconnects"]:
            try:
                event = await mailbox.receive(min(POLL_SECONDS, max(0.01, query.remaining)))
            except TimeoutError:
                continue
            if isinstance(event, Result):
                return event.query
            if isinstance(event, Failed):
                raise Problem.from_details(event.problem)
        return None
