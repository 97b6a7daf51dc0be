"""How a service's HTTP server reads a connection: uvicorn's own way, with a bound on the head of a request.

httptools goes on collecting a head that never ends, so that one client could take all of a service's memory. And each
request's scope has a `Departure`, by which an app hears that the client has left: ASGI's own way is to wait for it,
which takes a task a request.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncio import Protocol

__all__ = ["DEPARTURE", "LONGEST_HEAD", "Departure", "http_protocol"]

DEPARTURE: Final = "sluice.departure"
"""Where in a request's scope its departure is."""

LONGEST_HEAD: Final = 64 * 1024
"""Bytes of a request's first line and headers, apart from those that came at once with the first of them."""

REFUSAL: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 50\r\nconnection: close\r\n\r\n"
    b"The headers of the request have more than 64 KiB.\n"
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


def http_protocol() -> "type[Protocol] | str":
    """What uvicorn calls `http`; where httptools is not installed its other parser, which has a bound of its own."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
    except ImportError:
        return "auto"

    class Bounded(HttpToolsProtocol):
        _head: int | None = None
        """Bytes of the head that is on its way; None between a head and the next request."""
        _responding: RequestResponseCycle | None = None

        def on_message_begin(self) -> None:
            self._head = 0
            self._began = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._head = None
            super().on_headers_complete()

        def data_received(self, data: bytes) -> None:
            self._began = False
            super().data_received(data)
            if self._head is None or self._began:
                return
            self._head += len(data)
            if self._head > LONGEST_HEAD and not self.transport.is_closing():
                self._drop()
                self.transport.write(REFUSAL)
                self.transport.close()

        def send_400_response(self, msg: str) -> None:
            self._drop()
            super().send_400_response(msg)

        def eof_received(self) -> Any:
            self._drop()
            super().eof_received()

        def connection_lost(self, exc: Exception | None) -> None:
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
