"""One connection to the broker, shared by all that a process does on it.

FastStream's broker owns the connection and carries typed control events; the stage runtime and the job plane use the
same connection through nats-py.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from faststream.nats import NatsBroker
from faststream.nats.broker.broker import UNRECOVERABLE_CONNECT_ERRORS
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError

from shared.nats.client import Connection, connect
from shared.nats.errors import is_storage_full
from shared.nats.topology import MissingStreamError, Topology
from shared.security.credentials import Credentials
from shared.service.settings import ServiceSettings

__all__ = ["Bus"]

log = logging.getLogger(__name__)


UNAVAILABLE: Final = 503
"""The broker's own code for JetStream that is not ready: it starts, or elects a leader."""

RETRY_SECONDS: Final = 0.5

TOPOLOGY_TIMEOUT: Final = 120.0
"""Seconds for others to make the streams that this process needs and may not make."""

REFUSED: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')
"""How the broker says that a credential may not do something; the client makes its words lower case."""

MOST_REFUSALS: Final = 100
"""Refused subjects that are logged, each once."""


class _Broker(NatsBroker):
    """A broker that can be stopped while its server is away."""

    leaving = False

    async def _connect(self) -> Client:
        connection = await connect(**self._connection_kwargs)
        self.config.connect(connection)
        return connection

    async def stop(self, *error: Any) -> None:
        self.leaving = True
        try:
            await super().stop(*error)
        except (NatsError, ExceptionGroup) as failure:
            log.warning("leaving the broker without a goodbye: %r", failure)
            if self._connection is not None:
                await self._connection.close()
                self._connection = None


class Bus:
    """The connection, the topology on it, and what is to be done after each reconnection."""

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        self._credentials = Credentials.of(settings)
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
            "closed_cb": self._closed,
            "error_cb": self._failed,
            "graceful_timeout": 5.0,
            "drain_timeout": 5,
            "logger": logging.getLogger("faststream"),
            **self._credentials.options,
        }
        self.broker = _Broker(settings.nats_url.split(","), **options)
        self.settings = settings
        self._repairs: list[Callable[[], Awaitable[None]]] = []
        self._started = asyncio.Event()
        self._lost = asyncio.Event()
        self._whole = False
        self._last_error = ""
        self._refused: dict[str, None] = {}
        self._topology: Topology | None = None
        self.waits_for = ""

    @property
    def client(self) -> Connection:
        return cast("Connection", self.broker.connection)

    @property
    def jetstream(self) -> JetStreamContext:
        return self._jetstream

    @property
    def topology(self) -> Topology:
        assert self._topology is not None, "the bus is not open yet"
        return self._topology

    @property
    def connected(self) -> bool:
        """Whether there is a connection, and after a reconnection all is repaired on it."""
        return self._whole and self.client.is_connected

    def after_reconnect(self, repair: Callable[[], Awaitable[None]]) -> None:
        """Call `repair` after each reconnection, once the topology is whole again."""
        self._repairs.append(repair)

    async def started(self) -> None:
        """The broker has connected, and its subscribers listen."""
        self._whole = True
        self._started.set()

    async def open(self) -> None:
        """Wait for the connection, then make sure of the topology.

        Raises nats errors if the broker refuses it, PermissionError if this credential may not do what it must, and
        MissingStreamError if what others make has not come after two minutes.
        """
        await self._started.wait()
        self._jetstream = self.client.jetstream(timeout=5.0)
        topology = Topology(self._jetstream, self.settings, self._credentials.ownership)
        give_up = time.monotonic() + TOPOLOGY_TIMEOUT
        while True:
            try:
                await topology.ensure()
                break
            except (NatsError, TimeoutError) as error:
                if isinstance(error, APIError) and error.code != UNAVAILABLE and not is_storage_full(error):
                    raise
                if self._refused and not isinstance(error, MissingStreamError):
                    raise PermissionError(self._advice(next(iter(self._refused)))) from error
                if isinstance(error, MissingStreamError) and time.monotonic() > give_up:
                    raise
                self.waits_for = _reason(error)
                log.warning("the broker is not ready: %s", self.waits_for)
                await asyncio.sleep(RETRY_SECONDS)
        self._topology = topology

    async def lost(self) -> None:
        """Wait until there will be no connection any more, and raise ConnectionError."""
        await self._lost.wait()
        raise ConnectionError(f"the broker refuses or has closed the connection: {self._last_error or 'no reason'}")

    async def _reconnected(self) -> None:
        log.info("connected to the broker again")
        self._last_error = ""
        ensure = [self._topology.ensure] if self._topology is not None else []
        for repair in (*ensure, *self._repairs):
            try:
                await repair()
            except (NatsError, TimeoutError, OSError):
                log.exception("cannot take up work again on this connection")
        self._whole = self._started.is_set()

    async def _disconnected(self) -> None:
        self._whole = False
        if not self.broker.leaving:
            log.warning("lost the connection to the broker")

    async def _closed(self) -> None:
        self._lost.set()

    def _advice(self, refusal: str) -> str:
        return (
            f"the broker does not let the user '{self._credentials.name}' {refusal}. Write the permissions again with "
            "`python -m shared.security.broker_config` and reload the broker, or set SLUICE_NATS_ROLE. "
            "See docs/broker.md."
        )

    async def _failed(self, error: Exception) -> None:
        if refusal := REFUSED.search(str(error)):
            what = f"{'publish' if refusal[1] == 'publish' else 'subscribe'} to {refusal[2]}"
            if what not in self._refused and len(self._refused) < MOST_REFUSALS:
                self._refused[what] = None
                log.error(self._advice(what))
            return
        if repr(error) != self._last_error:  # while the broker is away this comes again with every try
            self._last_error = repr(error)
            log.warning("broker connection: %r", error)
        if str(error).removeprefix("nats: ").strip("'").lower() in UNRECOVERABLE_CONNECT_ERRORS:
            self._lost.set()


def _reason(error: Exception) -> str:
    if isinstance(error, APIError) and is_storage_full(error):
        return (
            f"it has no room for its streams ({error.description}): make room on its disk or raise max_file_store, "
            "or set SLUICE_HISTORY_BYTES lower"
        )
    return str(error) or repr(error)
