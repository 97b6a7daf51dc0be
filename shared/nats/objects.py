"""Reading from the broker's object stores, within a bound of time.

nats-py reads an object through a consumer of the broker's, and waits for ever for the rest where a restart of the
broker has taken the consumer away.

An object of a tenant's has a name that begins with the tenant, so that whoever opens it can check whose it is.
"""

import asyncio
from io import BufferedIOBase
from typing import Final

from nats.js.errors import ObjectNotFoundError
from nats.js.object_store import ObjectStore

__all__ = ["check_owner", "owned_name", "read_object"]

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


def owned_name(tenant: str, name: str) -> str:
    """The name of an object of a tenant's; without a tenant, of nobody's."""
    return f"{tenant}/{name}" if tenant else name


def check_owner(tenant: str, name: str) -> str:
    """The object's name. Raises ObjectNotFoundError where it is that of another tenant.

    Objects of an earlier version have no owner in their names.
    """
    owner, slash, _ = name.partition("/")
    if slash and owner != tenant:
        raise ObjectNotFoundError
    return name
