"""HTTP load that costs little: a closed loop of clients, each on a connection of its own that it keeps.

It writes requests that are bytes already and looks only for the ends of responses, so that on few cores the load takes
little from what it measures.
"""

import asyncio
import gc
import json
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

__all__ = ["Load", "Response", "bodies", "load", "post"]

END_OF_HEAD = b"\r\n\r\n"
END_OF_CHUNKS = b"\r\n0\r\n\r\n"

CHECKED = 16
"""Connections whose first answer is checked: enough to see a wrong one, too few to slow the load."""

Check = Callable[["Response"], None]
"""Raises AssertionError for a wrong answer."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    head: bytes
    body: bytes
    """Without its framing: the chunks of a chunked body are joined."""

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Load:
    """What a load saw: seconds from the request to the whole response, and to the first byte of its body."""

    seconds: float = 0.0
    whole: "array[float]" = field(default_factory=lambda: array("d"))
    first: "array[float]" = field(default_factory=lambda: array("d"))
    failed: int = 0
    """Responses whose status is not 200; `whole` and `first` are without them."""

    def summary(self) -> dict[str, float]:
        return {
            "answers": len(self.whole),
            "failed": self.failed,
            "seconds": self.seconds,
            "per_second": len(self.whole) / self.seconds,
            "p50_ms": percentile(self.whole, 0.50) * 1e3,
            "p99_ms": percentile(self.whole, 0.99) * 1e3,
            "first_p50_ms": percentile(self.first, 0.50) * 1e3,
            "first_p99_ms": percentile(self.first, 0.99) * 1e3,
        }


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


def post(url: str, body: bytes, content_type: str = "application/json", headers: dict[str, str] | None = None) -> bytes:
    """A POST request as it goes over the wire."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Type: {content_type}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += [f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + END_OF_HEAD + body


def bodies(url: str, objects: Iterable[object]) -> Iterator[bytes]:
    """POST requests with these objects as JSON, for `load`."""
    for each in objects:
        yield post(url, json.dumps(each).encode())


class _Client(asyncio.Protocol):
    """One connection: writes the next request as soon as the response to the last one has ended."""

    def __init__(self, requests: Iterator[bytes], result: Load, check: Check | None) -> None:
        self._requests = requests
        self._until = 0.0
        self._result = result
        self._check = check
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def begin(self, until: float) -> None:
        """Ask, as long as it is not later than `until`."""
        self._until = until
        self._ask()

    def _ask(self) -> None:
        request = next(self._requests, None) if time.perf_counter() < self._until else None
        if request is None:
            self._transport.close()
            if not self.ended.done():
                self.ended.set_result(None)
            return
        self._buffer = b""
        self._body_at = 0
        self._length = -1
        self._first = 0.0
        self._began = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = buffer = self._buffer + data if self._buffer else data
        if not self._body_at:
            at = buffer.find(END_OF_HEAD)
            if at < 0:
                return
            self._body_at = at + 4
            self._length = _content_length(buffer[:at])
        if not self._first and len(buffer) > self._body_at:
            self._first = time.perf_counter()
        # No line of JSON or of an event is a 0 alone, so such a line can only be the last chunk.
        left = self._body_at + self._length - len(buffer)
        if left <= 0 if self._length >= 0 else buffer.endswith(END_OF_CHUNKS):
            self._answered(time.perf_counter())

    def _answered(self, now: float) -> None:
        try:
            if self._buffer[9:12] == b"200":
                self._result.whole.append(now - self._began)
                self._result.first.append(self._first - self._began)
                if self._check is not None:
                    self._check(self._response())
                    self._check = None
            else:
                self._result.failed += 1
            self._ask()
        except Exception as error:  # noqa: BLE001  (whoever waits for the load gets it)
            self._transport.close()
            self.ended.set_exception(error)

    def _response(self) -> Response:
        head, body = self._buffer[: self._body_at], self._buffer[self._body_at :]
        return Response(int(head[9:12]), head, body if self._length >= 0 else b"".join(_chunks(body)))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error or ConnectionError("the server closed the connection"))


def _content_length(head: bytes) -> int:
    """-1 where the response is chunked."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return -1


def _chunks(body: bytes) -> Iterator[bytes]:
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].split(b";")[0], 16)
        if size == 0:
            return
        yield body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2


async def load(
    url: str,
    requests: Iterable[bytes],
    *,
    concurrent: int,
    seconds: float = float("inf"),
    check: Check | None = None,
) -> Load:
    """Keep so many requests in work, until they run out or the time is over; answers in work then are waited for.

    The URL says where to connect; `requests` come from `post` or `bodies`. The check sees the first answer of each of
    the first connections. A connection that the server closes ends the load with an error.
    """
    parts = urlsplit(url)
    result = Load()
    each = iter(requests)
    loop = asyncio.get_running_loop()
    gc.collect()
    gc.disable()  # nothing here makes cycles, and a collection would add to latencies
    clients = [_Client(each, result, check if number < CHECKED else None) for number in range(concurrent)]
    try:
        for client in clients:
            await loop.create_connection(lambda client=client: client, parts.hostname, parts.port)  # type: ignore[misc]
        began = time.perf_counter()
        for client in clients:
            client.begin(began + seconds)
        await asyncio.gather(*(client.ended for client in clients))
    finally:
        gc.enable()
    result.seconds = time.perf_counter() - began
    return result
