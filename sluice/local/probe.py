"""Whether a service says that it is ready."""

import asyncio
import json
from typing import Final
from urllib.parse import urlsplit

__all__ = ["HttpProbe"]

TIMEOUT: Final = 2.0

LARGEST: Final = 64 * 1024
"""Bytes of an answer that are read."""


class HttpProbe:
    """Asks `GET /readyz` on a connection of its own each time: one that a dead process left is never waited for.

    Plain HTTP/1.0: each service is asked every second for as long as the platform runs, and with an HTTP client the
    questions were most of what an idle supervisor does.
    """

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)

    async def __call__(self) -> str | None:
        """None when ready, else the service's own reason, or that there was no answer."""
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await self._ask()
        except TimeoutError:
            return "no answer in time"
        except OSError:
            return "no answer"
        head, _, body = answer.partition(b"\r\n\r\n")
        try:
            status = int(head.split(None, 2)[1])
        except (ValueError, IndexError):
            return "no answer"
        return None if 200 <= status < 300 else _reason(status, body)

    async def _ask(self) -> bytes:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        try:
            writer.write(f"GET /readyz HTTP/1.0\r\nHost: {self._address.netloc}\r\n\r\n".encode())
            answer = b""
            while len(answer) < LARGEST and (more := await reader.read(LARGEST)):
                answer += more
            return answer
        finally:
            writer.close()


def _reason(status: int, body: bytes) -> str:
    try:
        problem = json.loads(body)
        return str(problem.get("detail") or problem.get("title") or status)
    except (ValueError, AttributeError):
        return f"HTTP {status}"
