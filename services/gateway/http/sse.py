"""Server-sent events, and the disconnection of their client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from starlette.types import Receive, Scope, Send

from shared.service.http_protocol import DEPARTURE, Departure
from shared.tasks import background

__all__ = ["PING_SECONDS", "Channel", "Event", "client_disconnect"]

PING_SECONDS: Final = 15.0
"""Seconds of silence after which a comment tells proxies and clients that the stream lives."""

HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Event(NamedTuple):
    """`data` is JSON in one line. Readers take an event without a name as `message`."""

    data: bytes
    name: str = ""


class Channel:
    """A stream of events to one client. Its response starts with the first event or ping.

    `send` waits while the client's connection is full, so no events pile up for a slow reader.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, *events: Event) -> None:
        """Send events in one chunk: each chunk has a cost of its own."""
        if events:
            await self._write(b"".join(map(_encode, events)))

    async def event(self, name: str, data: bytes) -> None:
        """`data` is JSON in one line."""
        await self.send(Event(data, name))

    async def ping(self) -> None:
        await self._write(b": ping\n\n")

    async def close(self) -> None:
        if self.started:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, body: bytes) -> None:
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


def _encode(event: Event) -> bytes:
    head = b"event: %b\n" % event.name.encode() if event.name else b""
    return b"%bdata: %b\n\n" % (head, event.data)


@asynccontextmanager
async def client_disconnect(scope: Scope, receive: Receive) -> AsyncIterator[Departure]:
    """The departure of a request's client, on any server. The request's body must have been read."""
    departure: Departure | None = scope.get(DEPARTURE)
    if departure is not None:
        yield departure
        return
    departure = Departure()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        departure.happen()

    async with background(watch()):
        yield departure
