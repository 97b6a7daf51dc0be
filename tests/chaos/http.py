"""A small HTTP/1.1 client: it costs a tenth of a full one, and shows exactly what came on the wire."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Connection", "Event", "LostError", "RefusedError", "Reply"]

Event = tuple[str, Any]
"""The name of a server-sent event, and its data."""


class RefusedError(Exception):
    """Nobody listens."""


class LostError(Exception):
    """The connection broke before the response was complete. `silent`: not a byte of the response had come."""

    def __init__(self, *, silent: bool) -> None:
        super().__init__("silent" if silent else "in the middle")
        self.silent = silent


@dataclass(slots=True)
class Reply:
    """A response whose body is still to be read."""

    status: int
    headers: dict[str, str]

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def chunked(self) -> bool:
        return self.headers.get("transfer-encoding", "") == "chunked"

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


class Connection:
    """One connection, for one request at a time; its response must be read to the end before the next."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, *, receive_buffer: int | None = None) -> "Connection":
        """Raises RefusedError. With a small buffer the server feels it soon when nothing is read."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or 2**18)
        except OSError:
            sock.close()
            raise RefusedError from None
        except BaseException:
            sock.close()
            raise
        return cls(reader, writer)

    @property
    def ended(self) -> bool:
        """Whether the other side has closed it."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """Send a request and read the head of its response. Raises LostError."""
        payload = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(payload)}"]
        head += ["content-type: application/json"] if payload else []
        head += [f"{name}: {value}" for name, value in (headers or {}).items()]
        try:
            self._writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + payload)
            raw = await self._reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError) as error:
            raise LostError(silent=not getattr(error, "partial", b"")) from None
        lines = raw.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:] if line)
        return Reply(int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs})

    async def whole(self, reply: Reply) -> bytes:
        """The body. Raises LostError."""
        try:
            if not reply.chunked:
                return await self._reader.readexactly(int(reply.headers.get("content-length", "0")))
            return b"".join([chunk async for chunk in self._chunks()])
        except (OSError, asyncio.IncompleteReadError):
            raise LostError(silent=False) from None

    async def events(self) -> AsyncIterator[Event]:
        """The server-sent events of a chunked body up to its end. Raises LostError."""
        rest = b""
        try:
            async for chunk in self._chunks():
                *blocks, rest = (rest + chunk).split(b"\n\n")
                for block in blocks:
                    if not block.startswith(b":"):
                        fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
                        yield fields["event"], json.loads(fields["data"])
        except (OSError, asyncio.IncompleteReadError):
            raise LostError(silent=False) from None
        if rest:
            raise LostError(silent=False)

    def close(self) -> None:
        self._writer.transport.abort()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            chunk = await self._reader.readexactly(size + 2)
            if not size:
                return
            yield chunk[:-2]
