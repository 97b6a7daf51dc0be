"""Requests over many texts, as queries that fit into the broker's messages, a few at a time."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from starlette.requests import Request

from services.gateway.http.problems import ClientLeftError, invalid_member
from services.gateway.http.sse import PING_SECONDS, client_disconnect
from services.gateway.queries.assembler import Ended
from services.gateway.queries.session import Queries
from shared.contracts.envelope import Passage, Query
from shared.groups import groups
from shared.tasks import task_group

__all__ = ["PORTION_BYTES", "Part", "ask_portions", "portions"]

PORTION_BYTES: Final = 128 * 1024
"""Bytes of text in one query, which come back with the result."""

AT_ONCE: Final = 4
"""Queries of one request that are in flight together, so that a large one leaves room for others."""


class Part(NamedTuple):
    """What came of one portion: its passages as the last stage left them, and the end of its query."""

    passages: Sequence[Passage]
    ended: Ended


def portions(texts: Sequence[str], *, member: str, most: int) -> Iterator[tuple[Passage, ...]]:
    """The texts in order, up to `most` of them a query, as passages whose `id` is the number of the text.

    Raises Problem INVALID_REQUEST, naming the `member` of the body, for a text that fits into no query.
    """

    def size(passage: Passage) -> int:
        length = len(passage.text.encode("utf-8", "replace"))
        if length > PORTION_BYTES:
            path = f"{member}[{passage.position}]"
            raise invalid_member(path, f"has {length:,} bytes; at most {PORTION_BYTES:,} are allowed")
        return length

    passages = (
        Passage(id=str(number), document_id="", document="", position=number, text=text)
        for number, text in enumerate(texts)
    )
    return groups(passages, size, most=most, most_size=PORTION_BYTES)


async def ask_portions(
    request: Request,
    queries: Queries,
    portions: Iterable[tuple[Passage, ...]],
    plan: Callable[[tuple[Passage, ...]], Query],
) -> list[Part]:
    """The results in the order of the portions. Raises the first Problem of a query, and then the others are stopped.

    `plan` writes the query of a portion when its turn comes, so that each has the whole timeout.
    """
    limit = asyncio.Semaphore(AT_ONCE)

    async def ask(portion: tuple[Passage, ...]) -> Part:
        await limit.acquire()
        if departure.happened:
            raise ClientLeftError
        async with queries.ask(plan(portion), departure, append_only=False) as session:
            while session.ended is None:
                await session.parts(PING_SECONDS)
        limit.release()  # not after a failure: no other query may start
        return Part(session.answer.sources, session.ended)

    async with client_disconnect(request.scope, request.receive) as departure, task_group() as tasks:
        started = [tasks.create_task(ask(portion)) for portion in portions]
    return [task.result() for task in started]
