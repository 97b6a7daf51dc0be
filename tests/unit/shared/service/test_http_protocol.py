"""What a service's HTTP server makes of bytes that are not a request in time."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from shared.service.http_protocol import LONGEST_HEAD, http_protocol
from tests.harness.growth import LINEAR

pytestmark = pytest.mark.anyio

Scope = dict[str, Any]
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def echo(scope: Scope, receive: Callable[[], Awaitable[Scope]], send: Callable[[Scope], Awaitable[None]]) -> None:
    """Answers with the headers as they are once the body has been read; `/early` answers before."""
    body = b""
    while scope["path"] != "/early":
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            break
    names = [name.decode() for name, _ in scope["headers"]]
    answer = json.dumps({"headers": names, "body": len(body)}).encode()
    length = str(len(answer)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": answer})


@asynccontextmanager
async def serving(head_seconds: float = 60.0) -> AsyncIterator[int]:
    config = uvicorn.Config(
        echo, http=http_protocol(head_seconds), ws="none", port=0, lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign, assignment]
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  (uvicorn offers no event)
        await asyncio.sleep(0)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = server.force_exit = True
    await task


class _no_signals:  # noqa: N801  (in place of a method)
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield reader, writer
    writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """The status and the body of an answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


async def sent_until_closed(piece: bytes, start: bytes) -> int:
    """How many bytes a connection takes before the server ends it, at most 64 MB."""
    async with serving() as port, connected(port) as (reader, writer):
        writer.write(start)
        sent = 0
        try:
            while sent < 64 * 2**20 and not reader.at_eof():
                writer.write(piece)
                sent += len(piece)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        return sent


async def test_a_trailer_is_no_header_of_the_request() -> None:
    async with serving() as port, connected(port) as (reader, writer):
        writer.write(CHUNKED + b"5\r\nhello\r\n0\r\nX-API-Key: secret\r\nAuthorization: Bearer x\r\n\r\n")
        assert await answer(reader) == (200, {"headers": ["host", "transfer-encoding"], "body": 5})
        writer.write(CHUNKED + b"0\r\n\r\n")
        assert await answer(reader) == (200, {"headers": ["host", "transfer-encoding"], "body": 0})


@pytest.mark.parametrize(
    ("piece", "start"),
    [
        (b"X-Trailer: " + b"a" * 1000 + b"\r\n", CHUNKED + b"0\r\n"),
        (b"a" * 1000, CHUNKED + b"0\r\nX-Trailer: "),
        (b"a" * 1000, CHUNKED + b"5;extension="),
        (b"X-Header: " + b"a" * 1000 + b"\r\n", b"GET / HTTP/1.1\r\n"),
        (b"a" * 1000, b"GET /"),
    ],
    ids=["trailers", "a trailer", "a chunk extension", "headers", "a path"],
)
async def test_what_never_ends_is_ended(piece: bytes, start: bytes) -> None:
    # What fills the sockets' own buffers was sent too.
    assert await sent_until_closed(piece, start) < LINEAR * LONGEST_HEAD * 4


async def test_a_body_may_be_long_and_come_in_small_pieces() -> None:
    async with serving() as port, connected(port) as (reader, writer):
        pieces = 20_000
        writer.write(CHUNKED + b"8;x=y\r\n12345678\r\n" * pieces + b"0\r\n\r\n")
        assert (await answer(reader))[1]["body"] == 8 * pieces


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", b""), (b"GET / HTTP/1.1\r\nHost:", b"408"), (b"\r\n\r\n", b"")],
    ids=["none", "half", "no"],
)
async def test_a_head_that_does_not_come_is_not_waited_for(sent: bytes, status: bytes) -> None:
    async with serving(head_seconds=0.05) as port, connected(port) as (reader, writer):
        writer.write(sent)
        said = await reader.read()
        assert said.split(b" ", 2)[1:2] == ([status] if status else [])


async def test_nor_is_the_second_head_of_a_connection_or_a_body_that_nobody_reads() -> None:
    async with serving(head_seconds=0.05) as port:
        async with connected(port) as (reader, writer):
            writer.write(CHUNKED + b"0\r\n\r\n")
            assert (await answer(reader))[0] == 200
            writer.write(b"GET / HTTP/1.1\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        async with connected(port) as (reader, writer):
            writer.write(CHUNKED.replace(b"/echo", b"/early") + b"5\r\nhello\r\n")
            assert (await answer(reader))[0] == 200
            assert await reader.read() == b""


async def test_a_request_may_take_longer_than_its_head() -> None:
    async with serving(head_seconds=0.05) as port, connected(port) as (reader, writer):
        writer.write(CHUNKED)
        for _ in range(4):
            await asyncio.sleep(0.03)
            writer.write(b"1\r\na\r\n")
        writer.write(b"0\r\n\r\n")
        assert (await answer(reader))[1]["body"] == 4
