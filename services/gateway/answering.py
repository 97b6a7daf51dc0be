"""Responses that carry the answer to a query: as one JSON object, or as server-sent events.

Both listen for the client's leaving from the first moment, and stop all work on the query when it does.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import anyio
from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.answers import Ended, NewSources, NewText
from services.gateway.models import AnswerBody, DoneBody, SourcesBody, Timings, sources_from
from services.gateway.problems import ClientLeftError, problem_body
from services.gateway.queries import Flight, Queries
from services.gateway.sse import PING_SECONDS, Channel, until_gone
from shared.envelope import Query
from shared.problems import Problem
from shared.telemetry import trace_id

__all__ = ["JsonAnswer", "StreamedAnswer"]

EARLY_HEADERS: Final = 5.0
"""Seconds that a stream waits for its first event before its response starts.

What goes wrong within that time is a plain problem response with its own status. After it the client and the proxies
on the way learn that the request is in work, and a problem comes as an event.
"""

LAST_WORDS: Final = 2.0
"""Seconds for the final event to reach a client that does not read."""


async def _nothing_more() -> None: ...


class JsonAnswer(Response):
    """The whole answer at once. Raises the Problem with which the query ended, or ClientLeftError.

    `submitted` is called once the query is on its queue.
    """

    def __init__(
        self, queries: Queries, query: Query, submitted: Callable[[], Awaitable[None]] = _nothing_more
    ) -> None:
        super().__init__()
        self._queries = queries
        self._query = query
        self._submitted = submitted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._queries.ask(self._query, partial(until_gone, receive), standing=False) as flight:
            await self._submitted()
            while flight.ended is None:
                await flight.parts(PING_SECONDS)
        assert flight.ended is not None
        answer = flight.answer
        done = _done(flight, flight.ended)
        body = AnswerBody(**dict(done), answer=answer.text, sources=sources_from(answer.sources))
        await Response(to_json(body), media_type="application/json")(scope, receive, send)


class StreamedAnswer(Response):
    """The answer as it comes. Raises the Problem with which the query ended before its first event."""

    def __init__(self, queries: Queries, query: Query) -> None:
        super().__init__()
        self._queries = queries
        self._query = query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  (ASGI)
        channel = Channel(send)
        try:
            async with self._queries.ask(self._query, partial(until_gone, receive), standing=True) as flight:
                while flight.ended is None:
                    await _pass_on(flight, channel)
        except ClientLeftError:
            if not channel.started:
                raise
            return
        except Problem as problem:
            if not channel.started:
                raise
            with anyio.move_on_after(LAST_WORDS):
                await channel.event("error", problem_body(problem))
                await channel.close()
            return
        await channel.close()


async def _pass_on(flight: Flight, channel: Channel) -> None:
    parts = await flight.parts(PING_SECONDS if channel.started else EARLY_HEADERS)
    if not parts:
        await channel.ping()
    for part in parts:
        match part:
            case NewText(text):
                await channel.event("delta", to_json({"text": text}))
            case NewSources(passages):
                await channel.event("sources", to_json(SourcesBody(id=flight.query.id, sources=sources_from(passages))))
            case Ended():
                await channel.event("done", to_json(_done(flight, part)))


def _done(flight: Flight, ended: Ended) -> DoneBody:
    timings = Timings(total_ms=flight.elapsed_ms, first_delta_ms=flight.first_delta_ms, stages=ended.trail)
    return DoneBody(id=flight.query.id, usage=ended.usage, timings=timings, engine=ended.engine, trace_id=trace_id())
