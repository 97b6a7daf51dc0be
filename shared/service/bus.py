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
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError

from shared.nats.client import Connection, connect, is_refusal
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

USELESS: Final = ("invalid client protocol", "secure connection - tls required")
"""What the broker says to a first connection that will not be better the next time, beside a refused password."""


class _Broker(NatsBroker):
    """A broker that can be stopped while its server is away, and whose connection is never given up."""

    leaving = False
    reached = False
    """Whether there has been a connection."""

    dialled: dict[str, Any]
    """What the connection is given besides FastStream's options, and instead of them."""

    async def _connect(self) -> Client:
        # FastStream's own callback for errors would raise some of them, which ends the task that reconnects.
        connection = await connect(**{**self._connection_kwargs, **self.dialled})
        self.reached = True
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
            # A node that is cut off says nothing: it is noticed after three of these seconds.
            "ping_interval": 2,
            "max_outstanding_pings": 2,
            "pending_size": 8 * 2**20,
            "reconnected_cb": self._reconnected,
            "disconnected_cb": self._disconnected,
            "closed_cb": self._closed,
            "graceful_timeout": 5.0,
            "drain_timeout": 5,
            "logger": logging.getLogger("faststream"),
            **self._credentials.options,
        }
        self.broker = _Broker(settings.nats_url.split(","), **options)
        self.broker.dialled = {
            "error_cb": self._failed,
            "passwords": self._credentials.passwords,
            "trust": self._credentials.trust,
        }
        self.settings = settings
        self._repairs: list[Callable[[], Awaitable[None]]] = []
        self._started = asyncio.Event()
        self._lost = asyncio.Event()
        self._whole = False
        self._away_since: float | None = None
        self._last_error = ""
        self._told: set[str] = set()
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

    @property
    def away(self) -> float:
        """Seconds since the connection was lost; 0 once there is one again, and all is repaired on it."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    def after_reconnect(self, repair: Callable[[], Awaitable[None]]) -> None:
        """Call `repair` after each reconnection, once the queues of queries are there again."""
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
        log.info("connected to the broker again, after %.1f s", self.away)
        self._last_error = ""
        self._told.clear()
        topology = self._topology
        # What queries need comes first: the rest is on the broker's disk and there, unless the disk was lost.
        first, last = ([topology.ensure_queries], [topology.ensure]) if topology is not None else ([], [])
        for repair in (*first, *self._repairs, *last):
            try:
                await repair()
            except (NatsError, TimeoutError, OSError) as error:
                log.warning("the broker is not ready yet: %r", error)
        self._whole = self._started.is_set()
        self._away_since = None

    async def _disconnected(self) -> None:
        self._whole = False
        if self._away_since is None:
            self._away_since = time.monotonic()
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
        self._last_error = repr(error)
        if is_refusal(error):
            again = ": it is read again at each try" if self.broker.reached else ""
            self._warn_once(f"the broker refuses the password of '{self._credentials.name}'{again} ({error})")
        else:
            self._warn_once(f"broker connection: {error!r}")
        if not self.broker.reached and (is_refusal(error) or any(reason in str(error).lower() for reason in USELESS)):
            self._lost.set()
            raise error

    def _warn_once(self, what: str) -> None:
        """Log what is the same with every try while the broker is away."""
        if what not in self._told:
            self._told.add(what)
            log.warning(what)


def _reason(error: Exception) -> str:
    if isinstance(error, APIError) and is_storage_full(error):
        return (
            f"it has no room for its streams ({error.description}): make room on its disk or raise max_file_store, "
            "or set SLUICE_HISTORY_BYTES lower"
        )
    return str(error) or repr(error)
