"""Clients of tenants that ask at a pace of their own, and of one that asks without end."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

__all__ = ["QueryClient", "flood", "paced"]

Ask = Callable[[], Awaitable[int]]


class QueryClient:
    """One connection that is kept. Asks one question at a time, and returns the status of the response."""

    def __init__(self, url: str, request: bytes) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        self._request = request
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __call__(self) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        return int(head[9:12])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


async def paced(ask: Ask, every: float, until: float, offset: float, seen: list[float]) -> int:
    """Ask every so many seconds; each answer is timed from the moment at which it was due. Returns the failures."""
    due, failed = time.perf_counter() + offset, 0
    while due < until:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        status = await ask()
        if status == 200:
            seen.append(time.perf_counter() - due)
        else:
            failed += 1
        due += every
    return failed


async def flood(ask: Ask, until: float) -> tuple[int, int]:
    """Ask again as soon as there is an answer; a refusal is obeyed for a second. Returns answers and refusals."""
    answers = refusals = 0
    while time.perf_counter() < until:
        if await ask() == 200:
            answers += 1
        else:
            refusals += 1
            await asyncio.sleep(1.0)
    return answers, refusals
