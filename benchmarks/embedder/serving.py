"""A server's loop without its HTTP: clients that each send one text and wait for its vector."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol

from shared.runtime.batching import Batcher

__all__ = ["serve"]

FIXED: Final = 32
FILL_SECONDS: Final = 0.01
"""How long a server with fixed batches waits for more texts: Ray Serve's default."""

Embed = Callable[[Sequence[str]], Any]


class Server(Protocol):
    async def submit(self, text: str, /) -> Any: ...

    def running(self) -> AbstractAsyncContextManager[Any]: ...


class FixedBatches:
    """Waits for 32 texts or 10 ms, then computes what has come."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._waiting: asyncio.Queue[tuple[str, asyncio.Future[Any]]] = asyncio.Queue()

    async def submit(self, text: str) -> Any:
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self._waiting.put((text, result))
        return await result

    @asynccontextmanager
    async def running(self) -> Any:
        work = asyncio.create_task(self._work())
        try:
            yield
        finally:
            work.cancel()

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            deadline = asyncio.get_running_loop().time() + FILL_SECONDS
            while len(batch) < FIXED:
                try:
                    async with asyncio.timeout_at(deadline):
                        batch.append(await self._waiting.get())
                except TimeoutError:
                    break
            vectors = await asyncio.to_thread(self._embed, [text for text, _ in batch])
            for (_, result), vector in zip(batch, vectors, strict=True):
                result.set_result(vector)


def sluice(embed: Embed) -> Server:
    """As the embedder's stage does: at once, whatever has come meanwhile."""

    async def run(texts: Sequence[str]) -> list[Any]:
        return list(await asyncio.to_thread(embed, texts))

    batcher: Batcher[str, Any] = Batcher(run, name="serve", max_items=256, max_cost=256, cost=lambda _: 1)
    return batcher


async def serve(
    embed: Embed, texts: Iterator[str], *, loop: str, clients: int, seconds: float
) -> dict[str, float | list[float]]:
    """Texts per second, and milliseconds of each, with so many clients."""
    server: Server = FixedBatches(embed) if loop == "fixed" else sluice(embed)
    took: list[float] = []
    async with server.running():
        began = time.perf_counter()

        async def client() -> None:
            while (sent := time.perf_counter()) - began < seconds:
                await server.submit(next(texts))
                took.append((time.perf_counter() - sent) * 1e3)

        await asyncio.gather(*(client() for _ in range(clients)))
        passed = time.perf_counter() - began
    return {"per_second": len(took) / passed, "ms": took}
