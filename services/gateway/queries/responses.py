"""The answer to a query as one JSON object, or as server-sent events.

Both stop all work on the query as soon as the client disconnects. An `AnswerFormatter` gives the answer its form: each
face of the API has its own.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.answers.service import keep_answer
from services.gateway.context import charge_tokens
from services.gateway.http.problems import ClientLeftError
from services.gateway.http.sse import PING_SECONDS, Channel, Event, client_disconnect
from services.gateway.queries.assembler import Ended, Part
from services.gateway.queries.session import Queries, QuerySession
from shared.contracts.envelope import Query
from shared.contracts.problems import Problem

__all__ = ["AnswerFormatter", "StreamedAnswer", "answer", "whole_answer"]

EARLY_HEADERS: Final = 5.0
"""Seconds that a stream waits for its first event before its response starts.

What goes wrong within that time is a plain problem response with its own status. After it the client and the proxies
on the way learn that the request is in work, and a problem comes as an event.
"""

LAST_WORDS: Final = 2.0
"""Seconds for the final event to reach a client that does not read."""


class AnswerFormatter(Protocol):
    """How one answer is told; it may keep what it has said so far."""

    def whole(self, session: QuerySession, ended: Ended) -> bytes:
        """The complete answer as JSON."""

    def part(self, session: QuerySession, part: Part) -> Iterable[Event]:
        """The events for the next part of a streamed answer, the last of which is `Ended`."""

    def problem(self, problem: Problem) -> Event:
        """The last event of a stream that breaks off."""


async def answer(
    request: Request,
    queries: Queries,
    query: Query,
    formatter: AnswerFormatter,
    *,
    streamed: bool,
    collection: str | None = None,
) -> Response:
    """The answer in the form that the client asks for, which may be kept as one from this collection.

    Raises as `whole_answer` does.
    """
    if streamed:
        return StreamedAnswer(queries, query, formatter, collection)
    return await whole_answer(request, queries, query, formatter, collection=collection)


async def whole_answer(
    request: Request,
    queries: Queries,
    query: Query,
    formatter: AnswerFormatter,
    submitted: Callable[[], Awaitable[None]] | None = None,
    *,
    collection: str | None = None,
) -> Response:
    """The whole answer as JSON. `submitted` is called once the query is on its queue.

    Raises the Problem with which the query ended, or ClientLeftError.
    """
    async with (
        client_disconnect(request.scope, request.receive) as departure,
        queries.ask(query, departure, append_only=False) as session,
    ):
        if submitted is not None:
            await submitted()
        while session.ended is None:
            await session.parts()
        _account(request.scope, session, collection)
    return Response(formatter.whole(session, session.ended), media_type="application/json")


def _account(scope: Scope, session: QuerySession, collection: str | None) -> None:
    """Count the tokens of an answer, also of one that broke off; nothing where there is none. Keep a complete one."""
    usage = session.usage
    if session.ended is not None:
        charge_tokens(scope, session.ended.model, usage)
        keep_answer(scope, session, session.ended, collection)
    elif usage.completion_tokens:
        charge_tokens(scope, "", usage)


class StreamedAnswer(Response):
    """The answer as it comes. Raises the Problem with which the query ended before its first event."""

    def __init__(
        self, queries: Queries, query: Query, formatter: AnswerFormatter, collection: str | None = None
    ) -> None:
        super().__init__()
        self._queries = queries
        self._query = query
        self._formatter = formatter
        self._collection = collection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        channel = Channel(send)
        try:
            async with (
                client_disconnect(scope, receive) as departure,
                self._queries.ask(self._query, departure, append_only=True) as session,
            ):
                try:
                    while session.ended is None:
                        await self._pass_on(session, channel)
                finally:
                    _account(scope, session, self._collection)
        except ClientLeftError:
            if not channel.started:
                raise
            return
        except Problem as problem:
            if not channel.started:
                raise
            with anyio.move_on_after(LAST_WORDS):
                await channel.send(self._formatter.problem(problem))
                await channel.close()
            return
        await channel.close()

    async def _pass_on(self, session: QuerySession, channel: Channel) -> None:
        parts = await session.parts(PING_SECONDS if channel.started else EARLY_HEADERS)
        if not parts:
            await channel.ping()
        await channel.send(*(event for part in parts for event in self._formatter.part(session, part)))
