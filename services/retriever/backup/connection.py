"""The connections of a backup: to the broker as its user, and to the index."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from faststream.nats.security import parse_security
from nats.errors import Error as NatsError
from nats.errors import NoServersError
from nats.js import JetStreamContext

from services.retriever.backup.errors import BackupError
from services.retriever.backup.settings import BackupSettings
from shared.nats.client import Connection, connect
from shared.security.credentials import Credentials

__all__ = ["broker"]


@asynccontextmanager
async def broker(settings: BackupSettings) -> AsyncGenerator[tuple[Connection, JetStreamContext], None]:
    """A connection that ends with the block. Raises BackupError where there is none to be had."""
    refusals: list[str] = []

    async def failed(error: Exception) -> None:
        refusals.append(str(error))

    options: dict[str, Any] = dict(Credentials.of(settings).options)
    options |= parse_security(options.pop("security"))
    try:
        client = await connect(
            settings.nats_url.split(","),
            name="backup",
            connect_timeout=5,
            max_reconnect_attempts=2,
            allow_reconnect=True,
            error_cb=failed,
            **options,
        )
    except (NatsError, NoServersError, OSError, TimeoutError) as error:
        reason = refusals[-1] if refusals else repr(error)
        raise BackupError(f"the broker at {settings.nats_url} cannot be reached: {reason}") from None
    try:
        yield client, client.jetstream(timeout=30.0)
    except (NatsError, TimeoutError) as error:
        hint = f"; {refusals[-1]}" if refusals else ""
        raise BackupError(f"the broker failed: {error or type(error).__name__}{hint}") from error
    finally:
        await client.close()
