"""What clients and the network do to a platform: slow readers, a flood, poison, and messages that come twice."""

import asyncio
import random
from contextlib import suppress
from typing import Any, Final

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from shared.nats.client import connect
from tests.chaos.expected_answers import DIE, FAIL, LONG
from tests.chaos.http import RefusedError
from tests.chaos.load import FLOODER, TENANTS, Load
from tests.chaos.query_client import QueryClient, is_stream, read_events

__all__ = ["duplicates", "flood", "poison_queries", "slow_readers"]

READERS: Final = 4
READER_TIMEOUT: Final = 6.0
SMALL: Final = 4096
"""Bytes that a slow reader's connection holds."""

FLOOD_CONNECTIONS: Final = 80
FLOOD_QUERIES: Final = 800
FLOOD_TIMEOUT: Final = 20.0
POISON_TIMEOUT: Final = 30.0

TWICE: Final = 0.2
"""The share of messages that come again."""

LATER: Final = 3.0


async def slow_readers(query_client: QueryClient, load: Load) -> None:
    """Clients that read their long answers too slowly, or stop to read at all, until the deadline."""

    async def read(number: int) -> None:
        gateway = await query_client.balancer.choose()
        try:
            connection = await query_client.balancer.fresh(gateway, SMALL)
        except RefusedError:
            return
        asked = query_client.begin(load.question(LONG), TENANTS[number % 3], gateway, "slow-reader", READER_TIMEOUT)

        async def pause(event: int) -> None:
            await asyncio.sleep(0.003 if number % 2 else (READER_TIMEOUT + 1.0) * (event == 2))

        async with query_client.recorded(asked, connection):
            reply = await query_client.send(connection, asked, stream=True)
            if is_stream(reply):
                await read_events(connection, asked, query_client.judge, pause)
            else:
                asked.outcome = "left"
        connection.close()
        if asked.outcome == "lost":
            asked.outcome = "left"  # a gateway closes the connection of who does not read

    async with asyncio.TaskGroup() as tasks:
        for number in range(READERS):
            tasks.create_task(read(number))


async def flood(query_client: QueryClient, load: Load) -> None:
    """One tenant asks far more at once than there is room for."""
    left = iter(range(FLOOD_QUERIES))

    async def some() -> None:
        for _ in left:
            await query_client.ask(load.question("a", FLOODER), FLOODER, "flood", FLOOD_TIMEOUT)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(FLOOD_CONNECTIONS):
            tasks.create_task(some())


async def poison_queries(query_client: QueryClient, load: Load, *, deadly: bool) -> None:
    """A query that fails at each try; a deadly one takes its worker with it each time."""
    word = DIE if deadly else FAIL
    asked = await query_client.ask(load.question(word), TENANTS[0], word, POISON_TIMEOUT)
    if asked.outcome == "answer":
        asked.fault = "a poison query was answered"


async def duplicates(url: str, seconds: float, seed: int) -> int:
    """Publish some of what goes to stages and to the job queue again, later and so in another order.

    One half has the same message id, which the broker knows; the other has another one, and is delivered twice.
    Returns how many there were.
    """
    dice, made = random.Random(seed), 0
    client = await connect(url, max_reconnect_attempts=3, error_cb=_ignore)
    tasks: set[asyncio.Task[None]] = set()

    async def again(message: Msg, pause: float, headers: dict[str, Any]) -> None:
        await asyncio.sleep(pause)
        with suppress(NatsError, OSError):
            await client.publish(message.subject, message.data, headers=headers)

    async def hear(message: Msg) -> None:
        nonlocal made
        headers = dict(message.headers or {})
        if message.subject.startswith("job.") and not message.subject.startswith("job.delete."):
            return
        if "Chaos" in headers or dice.random() > TWICE:
            return
        if dice.random() < 0.5:
            headers["Nats-Msg-Id"] = f"again-{headers.get('Nats-Msg-Id', '')}"
        made += 1
        tasks.add(asyncio.create_task(again(message, dice.uniform(0, LATER), {**headers, "Chaos": "again"})))

    await client.subscribe("query.>", cb=hear)
    await client.subscribe("job.>", cb=hear)
    await asyncio.sleep(seconds)
    await asyncio.gather(*list(tasks))
    with suppress(NatsError, OSError, TimeoutError):
        await client.flush()
    await client.close()
    return made


async def _ignore(_: Exception) -> None:
    """A broker that another fault has struck is no news."""
