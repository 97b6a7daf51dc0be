"""Putting a query on the queue of the next stop of its slip, with the broker's acknowledgement."""

import asyncio
import time
from contextlib import suppress
from typing import Final

from nats.errors import ConnectionReconnectingError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from shared.contracts.envelope import Query
from shared.contracts.problems import Problem, ProblemType
from shared.nats.client import is_connected, max_payload
from shared.nats.errors import IN_PROCESS, QUEUE_FULL
from shared.nats.subjects import QUERIES, query_subject
from shared.nats.topology import Topology
from shared.stores.dead_letters import HEADERS
from shared.telemetry.messaging import sending
from shared.telemetry.tracing import inject_trace

__all__ = ["forward", "message_id", "recover"]

UNAVAILABLE: Final = 503
"""The broker's own code for JetStream that is not ready: it starts, or elects a leader."""

ANSWER_TIMEOUT: Final = 1.0
"""Seconds without an acknowledgement after which a message is sent again."""

SHORTEST_PATIENCE: Final = 1.0
"""Seconds in which a message is sent again, however near its query's deadline is."""

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.5
SHORT_PAUSE: Final = 0.1
"""Seconds before a message is sent again that no node of the broker took: one elects a leader, or starts."""

REPAIR_TIMEOUT: Final = 0.5
"""Seconds for the queues to be made again before the message is tried again all the same."""


async def forward(
    jetstream: JetStreamContext, topology: Topology, query: Query, *, room_timeout: float = 0.0, known_as: str = ""
) -> int:
    """Returns once the broker has stored the query, and under which number; storing it twice has no effect.

    `known_as` is the id of the message, where the next stop is one of several that the query may go to from here.
    Waits up to `room_timeout` seconds for room in a full queue, and until the query's deadline for a broker that is
    away. Raises Problem QUEUE_FULL and BROKER_UNAVAILABLE after that, and TOO_LARGE for an envelope that fits into no
    message.
    """
    stop = query.stop
    subject, known_as = query_subject(query), known_as or message_id(query)
    with sending(
        f"query.{stop.stage}", subject=subject, message_id=known_as, conversation=query.id, tenant=query.tenant
    ) as span:
        headers = {"Nats-Msg-Id": known_as}
        inject_trace(headers)
        payload = query.encode()
        span.set_attribute("messaging.message.body.size", len(payload))
        _check_size(payload, max_payload(jetstream))
        give_up = time.monotonic() + room_timeout
        pause = FIRST_PAUSE
        while True:
            try:
                return await _store(jetstream, topology, subject, payload, headers, patience=query.remaining)
            except APIError as error:
                if error.err_code not in QUEUE_FULL:
                    raise
                if time.monotonic() + pause > give_up:
                    raise _queue_full(query) from None
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)


async def _store(
    jetstream: JetStreamContext,
    topology: Topology,
    subject: str,
    payload: bytes,
    headers: dict[str, str],
    *,
    patience: float,
) -> int:
    """Publish until the broker answers: it may be away, and a cluster that elects a leader says nothing for seconds."""
    give_up = time.monotonic() + max(patience, SHORTEST_PATIENCE)
    while True:
        try:
            if not is_connected(jetstream):
                # nats-py would keep each copy, and send them all as soon as there is a connection.
                raise ConnectionReconnectingError
            ack = await jetstream.publish(
                subject, payload, timeout=ANSWER_TIMEOUT, headers=dict(headers), stream=QUERIES
            )
        except (NatsError, TimeoutError, OSError) as error:
            if isinstance(error, APIError) and not _passes(error):
                raise
            if time.monotonic() > give_up:
                detail = "The message broker does not answer. Try again in a moment."
                raise Problem(ProblemType.BROKER_UNAVAILABLE, detail, headers={"Retry-After": "1"}) from error
            await recover(topology, error)
        else:
            return int(ack.seq)


async def recover(topology: Topology, error: Exception) -> None:
    """Wait a moment, and have the queues made again where the broker may have lost them."""
    if getattr(error, "err_code", None) == IN_PROCESS:
        await asyncio.sleep(FIRST_PAUSE)
        return
    if isinstance(error, NoStreamResponseError | NotFoundError):
        # They live in the broker's memory, and whoever comes first makes them again. Or they only have no leader now:
        # then nobody answers this either.
        with suppress(NatsError, TimeoutError, OSError):
            async with asyncio.timeout(REPAIR_TIMEOUT):
                await topology.ensure_queries()
                return
    await asyncio.sleep(SHORT_PAUSE)


def _passes(error: APIError) -> bool:
    return error.err_code == IN_PROCESS or (error.code == UNAVAILABLE and error.err_code not in QUEUE_FULL)


def _check_size(payload: bytes, limit: int) -> None:
    # The broker counts the headers too, and cuts the connection of a client that goes beyond its limit.
    if len(payload) + HEADERS > limit:
        raise Problem(
            ProblemType.TOO_LARGE,
            f"The query has grown to {len(payload):,} bytes, and the message broker takes {limit - HEADERS:,} at most. "
            "Ask for fewer passages, or for shorter ones.",
        )


def message_id(query: Query) -> str:
    """The id of the message by which a query reaches the head of its slip: that of a control, before it is resolved.

    So it is the same whichever way the query takes, and a redelivery that decides otherwise adds no second way.
    """
    # The number of the hop tells two visits of one stage apart, and the branch those that are on their way at once.
    branch = f"{query.branch}:" if query.branch else ""
    return f"{query.id}:{branch}{len(query.trail)}.{query.stop.stage}:{query.attempt}"


def _queue_full(query: Query) -> Problem:
    return Problem(
        ProblemType.QUEUE_FULL,
        f"The queue of stage '{query.stop.stage}' is full for tenant '{query.tenant}'. Try again after a moment, "
        "or run more workers of this stage.",
        headers={"Retry-After": "1"},
        stage=query.stop.stage,
    )
