"""How a service's HTTP server reads a connection: uvicorn's own way, with bounds on what is not a request's body.

httptools goes on collecting a head that never ends, and trailers and chunk extensions after it, so that one client
could take all of a service's memory; and it waits for the rest for ever. Trailers are dropped: among the headers, where
uvicorn puts them, they could still say who the client is. And each
request's scope has a `Departure`, by which an app hears that the client has left: ASGI's own way is to wait for it,
which takes a task a request.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncio import Protocol

__all__ = ["DEPARTURE", "LONGEST_HEAD", "Departure", "http_protocol"]

DEPARTURE: Final = "sluice.departure"
"""Where in a request's scope its departure is."""

LONGEST_HEAD: Final = 64 * 1024
"""Bytes of a request's first line and headers, apart from those that came at once with the first of them; and of what
stands between two pieces of its body, or after the last."""

HEAD_SECONDS: Final = 15.0
"""Seconds in which a head must be complete, from the connection or the first byte on."""

REFUSAL: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 50\r\nconnection: close\r\n\r\n"
    b"The headers of the request have more than 64 KiB.\n"
)

TOO_LATE: Final = (
    b"HTTP/1.1 408 Request Timeout\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 39\r\nconnection: close\r\n\r\n"
    b"The headers of the request are too late"
)


class Departure:
    """The client's leaving before it has its whole response."""

    __slots__ = ("_listeners", "happened")

    def __init__(self) -> None:
        self.happened = False
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this when the client leaves; at once if it has."""
        self._listeners.append(listener)
        if self.happened:
            listener()

    def forget(self, listener: Callable[[], None]) -> None:
        self._listeners.remove(listener)

    def happen(self) -> None:
        """The client has left."""
        if not self.happened:
            self.happened = True
            for listener in tuple(self._listeners):
                listener()


def http_protocol(head_seconds: float = HEAD_SECONDS) -> "type[Protocol] | str":
    """What uvicorn calls `http`; where httptools is not installed its other parser, which has bounds of its own."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
    except ImportError:
        return "auto"

    class Bounded(HttpToolsProtocol):
        _head: int | None = None
        """Bytes of the head that is on its way; None between a head and the next request."""
        _responding: RequestResponseCycle | None = None
        _reading = False
        """Whether the body of a request is on its way."""
        _between = 0
        """Bytes since the last piece of the body."""
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._begin_timer()

        def on_message_begin(self) -> None:
            self._head = 0
            self._began = True
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._head is not None:  # otherwise it is a trailer
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._head = None
            self._reading, self._between = True, 0
            self._end_timer()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._moved = True
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._reading = False
            super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self._reading and not self.transport.is_closing():
                self._begin_timer()  # nobody reads the rest of the body

        def data_received(self, data: bytes) -> None:
            self._began = self._moved = False
            super().data_received(data)
            if self.transport.is_closing():
                return
            if self._head is not None:
                self._head += 0 if self._began else len(data)
            elif self._reading:
                self._between = 0 if self._moved else self._between + len(data)
            if max(self._head or 0, self._between) > LONGEST_HEAD:
                self._refuse(REFUSAL)
            elif self.cycle is None or self.cycle.response_complete:
                self._begin_timer()

        def _begin_timer(self) -> None:
            if self._timer is None:
                self._timer = self.loop.call_later(head_seconds, self._late)

        def _end_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _late(self) -> None:
            self._timer = None
            if not self.transport.is_closing():
                self._refuse(TOO_LATE if self._head is not None else b"")

        def _refuse(self, response: bytes) -> None:
            self._drop()
            if response:
                self.transport.write(response)
            self.transport.close()

        def send_400_response(self, msg: str) -> None:
            self._drop()
            super().send_400_response(msg)

        def eof_received(self) -> Any:
            self._drop()
            super().eof_received()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_timer()
            self._drop()
            super().connection_lost(exc)

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
            # Of requests that came at once, `cycle` is the last, and not the one that is answered now.
            self._responding = cycle
            cycle.scope[DEPARTURE] = Departure()  # type: ignore[typeddict-unknown-key]
            super()._start_asgi_task(cycle, app)

        def _drop(self) -> None:
            """The transport closes now and says so a moment later: in between nothing may be written to it."""
            for cycle in (self.cycle, self._responding):
                if cycle is not None and not cycle.response_complete:
                    cycle.disconnected = True
                    cycle.message_event.set()
                    if isinstance(departure := cycle.scope.get(DEPARTURE), Departure):
                        departure.happen()

    return Bounded
