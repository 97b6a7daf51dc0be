"""One connection to the broker, shared by all that a process does on it.

FastStream's broker owns the connection and carries typed control events; the stage runtime and the job plane use the
same connection through nats-py.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from faststream.nats import NatsBroker
from faststream.security import SASLPlaintext
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from shared.settings import ServiceSettings
from shared.topology import Topology

__all__ = ["Bus"]

log = logging.getLogger(__name__)


class Bus:
    """The connection, the topology on it, and what is to be done after each reconnection."""

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        security = None
        if settings.nats_user and settings.nats_password:
            security = SASLPlaintext(settings.nats_user, settings.nats_password.get_secret_value())
        # A broker that is not there yet, or no longer, is waited for: the service stays up and says it is not ready.
        options: dict[str, Any] = {
            "name": f"{service}/{settings.instance}",
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.2,
            "ping_interval": 5,
            "max_outstanding_pings": 2,
            "pending_size": 8 * 2**20,
            "reconnected_cb": self._reconnected,
            "disconnected_cb": self._disconnected,
            "error_cb": self._failed,
            "graceful_timeout": 5.0,
            "logger": logging.getLogger("faststream"),
            "security": security,
        }
        self.broker = NatsBroker(settings.nats_url.split(","), **options)
        self.settings = settings
        self._repairs: list[Callable[[], Awaitable[None]]] = []
        self._started = asyncio.Event()
        self._topology: Topology | None = None

    @property
    def client(self) -> Client:
        return self.broker.connection

    @property
    def jetstream(self) -> JetStreamContext:
        return self._jetstream

    @property
    def topology(self) -> Topology:
        assert self._topology is not None, "the bus is not open yet"
        return self._topology

    @property
    def connected(self) -> bool:
        return self._started.is_set() and self.client.is_connected

    def after_reconnect(self, repair: Callable[[], Awaitable[None]]) -> None:
        """Call `repair` after each reconnection, once the topology is whole again."""
        self._repairs.append(repair)

    async def started(self) -> None:
        """Tell the bus that its broker has connected and its subscribers listen."""
        self._started.set()

    async def open(self) -> None:
        """Wait for the connection, then make sure of the topology. Raises nats errors if the broker refuses it."""
        await self._started.wait()
        self._jetstream = self.client.jetstream(timeout=5.0)
        self._topology = Topology(self._jetstream, self.settings)
        await self._topology.ensure()

    async def _reconnected(self) -> None:
        log.info("connected to the broker again")
        if self._topology is None:
            return
        try:
            await self._topology.ensure()
        except (NatsError, TimeoutError):
            log.exception("cannot make sure of the topology")
        for repair in self._repairs:
            await repair()

    async def _disconnected(self) -> None:
        log.warning("lost the connection to the broker")

    async def _failed(self, error: Exception) -> None:
        log.warning("broker connection: %r", error)
