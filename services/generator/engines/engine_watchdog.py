"""Ends a generator whose engine has died, so that its supervisor restarts it."""

import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, runtime_checkable

import anyio

from shared.service.service import Service

__all__ = ["EngineProcess", "watch_engine"]

log = logging.getLogger(__name__)


@runtime_checkable
class EngineProcess(Protocol):
    """An engine that runs in a process of its own and can die there."""

    async def lost(self) -> None:
        """Return once the engine has died for good."""


@asynccontextmanager
async def watch_engine(service: Service, engine: object) -> AsyncIterator[None]:
    """Stop the service when the engine dies inside the context. It returns its queries and exits with 1."""
    async with anyio.create_task_group() as tasks:
        if isinstance(engine, EngineProcess):
            tasks.start_soon(_stop_service, engine, service)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def _stop_service(engine: EngineProcess, service: Service) -> None:
    await engine.lost()
    log.critical("the engine has died; this process exits")
    service.failed = True
    signal.raise_signal(signal.SIGTERM)
