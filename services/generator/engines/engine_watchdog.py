"""A generator whose engine has died ends too, so that whatever runs it starts it anew."""

import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, runtime_checkable

import anyio

from shared.service.service import Service

__all__ = ["EngineProcess", "tied"]

log = logging.getLogger(__name__)


@runtime_checkable
class EngineProcess(Protocol):
    """An engine that can die under the process that uses it."""

    async def lost(self) -> None:
        """Return once the engine is gone and will not come back."""


@asynccontextmanager
async def tied(service: Service, engine: object) -> AsyncIterator[None]:
    """While inside, the engine's death is the service's: it gives its queries back and exits with 1."""
    async with anyio.create_task_group() as tasks:
        if isinstance(engine, EngineProcess):
            tasks.start_soon(_end_with, engine, service)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def _end_with(engine: EngineProcess, service: Service) -> None:
    await engine.lost()
    log.critical("the engine has died: this process ends")
    service.failed = True
    signal.raise_signal(signal.SIGTERM)
