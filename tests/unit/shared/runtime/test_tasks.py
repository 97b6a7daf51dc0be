"""Work beside other work ends when it should."""

import asyncio

import pytest

from shared.tasks import background

pytestmark = pytest.mark.anyio


async def test_work_that_drops_its_first_cancellation_ends_all_the_same() -> None:
    dropped = 0
    started = asyncio.Event()

    async def deaf_once() -> None:
        nonlocal dropped
        started.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if dropped:
                    raise
                dropped += 1

    async with background(deaf_once()):
        await started.wait()
    assert dropped == 1


async def test_an_error_of_the_work_is_raised_at_the_end_of_the_block() -> None:
    started = asyncio.Event()

    async def broken() -> None:
        started.set()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with background(broken()):
            await started.wait()
