"""TCP proxies between services and the broker, which can be told to lose, hold up or delay what passes.

Reads JSON lines from standard input and answers each with one. First {"links": {name: port of the broker}}, answered
with the ports to connect to; then {"names": [...], "mode": "open" | "cut" | "hole" | "delay", "seconds": ...}.
"""

import asyncio
import json
import sys
from typing import Any

import uvloop

HIGH = 2**20


class Link:
    """All connections that one service has to one node of the broker."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.mode = "open"
        self.delay = 0.0
        self.sides: set[Side] = set()
        self.opened = asyncio.Event()
        self.opened.set()

    def turn(self, mode: str, seconds: float) -> None:
        """`cut` breaks connections and takes none; `hole` keeps them, and nothing passes until it is open again."""
        self.mode, self.delay = mode, seconds if mode == "delay" else 0.0
        if mode == "hole":
            self.opened.clear()
        else:
            self.opened.set()
        for side in list(self.sides):
            if mode == "cut":
                side.abort()
            elif mode != "hole" and side.other is not None and side.other not in self.sides:
                side.transport.close()  # the other end went while nothing passed
            else:
                side.attend()


class Side(asyncio.Protocol):
    """One end of a connection; what it receives it writes to `other`."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.other: Side | None = None
        self.transport: Any = None
        self.stuffed = False
        self.due = 0.0
        self.early = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(HIGH)
        self.link.sides.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.link.sides.discard(self)
        if self.other is not None and self.other.transport is not None and self.link.mode != "hole":
            self.other.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early += data  # uvloop may read once before it pauses
        elif self.link.delay or self.due:
            self._later(data)
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.stuffed = True
        if self.other is not None:
            self.other.attend()

    def resume_writing(self) -> None:
        self.stuffed = False
        if self.other is not None:
            self.other.attend()

    def attend(self) -> None:
        """Read, or do not, as the link's mode and the room on the other side say."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.other is None or self.other.stuffed or self.link.mode == "hole":
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def abort(self) -> None:
        self.transport.abort()

    def _later(self, data: bytes) -> None:
        # What was received later is never sent earlier.
        loop = asyncio.get_running_loop()
        self.due = max(self.due, loop.time() + self.link.delay)
        loop.call_at(self.due, self._write, data, self.due)

    def _write(self, data: bytes, due: float) -> None:
        if self.due == due and not self.link.delay:
            self.due = 0.0
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)


class Incoming(Side):
    """A service's end: what it says waits until there is a connection to the broker."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.link.mode == "cut":
            transport.abort()
            return
        transport.pause_reading()
        self.joining = asyncio.get_running_loop().create_task(self._join())

    async def _join(self) -> None:
        await self.link.opened.wait()
        other = Side(self.link)
        other.other = self  # the broker speaks first
        try:
            await asyncio.get_running_loop().create_connection(lambda: other, "127.0.0.1", self.link.port)
        except OSError:
            self.transport.abort()
            return
        self.other = other
        if self.early:
            other.transport.write(self.early)
        if self.transport.is_closing():
            other.transport.abort()
        else:
            self.attend()
            other.attend()


async def main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    links: dict[str, Link] = {}
    while line := await reader.readline():
        said = json.loads(line)
        answer: dict[str, int] = {}
        for name, port in said.get("links", {}).items():
            link = links[name] = Link(port)
            server = await loop.create_server(lambda link=link: Incoming(link), "127.0.0.1", 0, backlog=128)
            answer[name] = server.sockets[0].getsockname()[1]
        for name in said.get("names", ()):
            links[name].turn(said["mode"], said.get("seconds", 0.0))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


uvloop.run(main())
