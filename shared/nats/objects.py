"""Reading from the broker's object stores, within a bound of time.

nats-py reads an object through a consumer of the broker's, and waits for ever for the rest where a restart of the
broker has taken the consumer away.
"""

import asyncio
from io import BufferedIOBase
from typing import Final

from nats.js.object_store import ObjectStore

__all__ = ["read_object"]

READ_TIMEOUT: Final = 20.0
SLOWEST: Final = 2**20
"""Seconds that reading may take, and another for so many bytes."""


async def read_object(
    store: ObjectStore, name: str, into: BufferedIOBase | None = None, *, timeout: float = READ_TIMEOUT
) -> bytes:
    """The object's bytes; none where they are written `into` a file.

    Raises ObjectNotFoundError, TimeoutError and other nats errors.
    """
    info = await store.get_info(name)
    async with asyncio.timeout(timeout + (info.size or 0) / SLOWEST):
        return (await store.get(name, writeinto=into)).data or b""
