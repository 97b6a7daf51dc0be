"""A load of answers, and what came of it: the same code for the bare engine and for the platform."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

__all__ = ["MODEL", "QUESTION", "Answer", "Ask", "load"]

MODEL = "tiny"
QUESTION = "Tell of lamp {} and of all its years."

Answer = tuple[float, int]
"""Seconds to the first text, and tokens."""

Ask = Callable[[int], Awaitable[Answer]]


async def load(ask: Ask, concurrent: int, total: int) -> dict[str, float]:
    """Keep so many answers in work until all have ended."""
    numbers = iter(range(total))
    first: list[float] = []
    tokens = 0

    async def client() -> None:
        nonlocal tokens
        for number in numbers:
            began, count = await ask(number)
            first.append(began)
            tokens += count

    start = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrent):
            tasks.create_task(client())
    seconds = time.perf_counter() - start
    return {"tokens_per_s": tokens / seconds, "first_ms": statistics.median(first) * 1e3}
