"""Putting a query on the queue of the next stop of its slip, with the broker's acknowledgement."""

import asyncio
import time
from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from shared.contracts.envelope import Query
from shared.contracts.problems import Problem, ProblemType
from shared.nats.client import max_payload
from shared.nats.errors import IN_PROCESS, QUEUE_FULL
from shared.nats.subjects import QUERIES, query_subject
from shared.nats.topology import Topology
from shared.stores.dead_letters import HEADERS
from shared.telemetry.messaging import sending
from shared.telemetry.tracing import inject_trace

__all__ = ["forward"]

UNAVAILABLE: Final = 503
"""The broker's own code for JetStream that is not ready: it starts, or elects a leader."""

ANSWER_TIMEOUT: Final = 2.0
ANSWER_GIVE_UP: Final = 8.0
"""Seconds without an acknowledgement after which a message is sent again, and after which it is given up."""

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.5


async def forward(jetstream: JetStreamContext, topology: Topology, query: Query, *, room_timeout: float = 0.0) -> None:
    """Returns once the broker has stored the query; storing it twice has no effect.

    Waits up to `room_timeout` seconds for room in a full queue. Raises Problem QUEUE_FULL after that,
    BROKER_UNAVAILABLE when the broker does not answer, and TOO_LARGE for an envelope that fits into no message.
    """
    stop = query.stop
    subject, message_id = query_subject(query), _message_id(query)
    with sending(
        f"query.{stop.stage}", subject=subject, message_id=message_id, conversation=query.id, tenant=query.tenant
    ) as span:
        headers = {"Nats-Msg-Id": message_id}
        inject_trace(headers)
        payload = query.encode()
        span.set_attribute("messaging.message.body.size", len(payload))
        _check_size(payload, max_payload(jetstream))
        give_up = time.monotonic() + room_timeout
        pause = FIRST_PAUSE
        while True:
            try:
                await _store(jetstream, topology, subject, payload, headers)
            except APIError as error:
                if error.err_code not in QUEUE_FULL:
                    raise
                if time.monotonic() + pause > give_up:
                    raise _queue_full(query) from None
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return


async def _store(
    jetstream: JetStreamContext, topology: Topology, subject: str, payload: bytes, headers: dict[str, str]
) -> None:
    """Publish until the broker answers: a cluster that elects a leader does not for some seconds."""
    give_up = time.monotonic() + ANSWER_GIVE_UP
    while True:
        try:
            await _publish(jetstream, topology, subject, payload, headers)
        except (NatsError, TimeoutError, OSError) as error:
            if isinstance(error, APIError) and not _passes(error):
                raise
            if time.monotonic() > give_up:
                raise Problem(
                    ProblemType.BROKER_UNAVAILABLE, "The message broker does not answer. Try again in a moment."
                ) from error
            await asyncio.sleep(FIRST_PAUSE if getattr(error, "err_code", None) == IN_PROCESS else LONGEST_PAUSE)
        else:
            return


def _passes(error: APIError) -> bool:
    return error.err_code == IN_PROCESS or (error.code == UNAVAILABLE and error.err_code not in QUEUE_FULL)


async def _publish(
    jetstream: JetStreamContext, topology: Topology, subject: str, payload: bytes, headers: dict[str, str]
) -> None:
    try:
        await jetstream.publish(subject, payload, timeout=ANSWER_TIMEOUT, headers=dict(headers), stream=QUERIES)
    except NoStreamResponseError:
        # The queues live in the broker's memory: after its restart whoever comes first makes them again.
        await topology.ensure()
        await jetstream.publish(subject, payload, timeout=ANSWER_TIMEOUT, headers=dict(headers), stream=QUERIES)


def _check_size(payload: bytes, limit: int) -> None:
    # The broker counts the headers too, and cuts the connection of a client that goes beyond its limit.
    if len(payload) + HEADERS > limit:
        raise Problem(
            ProblemType.TOO_LARGE,
            f"The query has grown to {len(payload):,} bytes, and the message broker takes {limit - HEADERS:,} at most. "
            "Ask for fewer passages, or for shorter ones.",
        )


def _message_id(query: Query) -> str:
    # The number of the hop tells two visits of one stage apart.
    return f"{query.id}:{len(query.trail)}.{query.stop.stage}:{query.attempt}"


def _queue_full(query: Query) -> Problem:
    return Problem(
        ProblemType.QUEUE_FULL,
        f"The queue of stage '{query.stop.stage}' is full for tenant '{query.tenant}'. Try again after a moment, "
        "or run more workers of this stage.",
        headers={"Retry-After": "1"},
        stage=query.stop.stage,
    )
