"""Removes what commands have left running in the cluster though nobody wants it any more."""

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nats.js import JetStreamContext

from services.scheduler.commands.settings import CommandSettings
from shared.stores.jobs.store import JobStore
from shared.tasks import background

__all__ = ["no_orphans"]

log = logging.getLogger(__name__)

INTERVAL: Final = 60.0
"""Seconds between two looks."""


@asynccontextmanager
async def no_orphans(settings: CommandSettings, board: JobStore, jetstream: JetStreamContext) -> AsyncIterator[None]:
    """While the block runs, delete Kubernetes Jobs whose jobs were cancelled while no worker could hear of it."""
    if not settings.kubernetes_enabled:
        yield
        return
    async with background(_keep_sweeping(settings, board, jetstream)):
        yield


async def _keep_sweeping(settings: CommandSettings, board: JobStore, jetstream: JetStreamContext) -> None:
    module = await asyncio.to_thread(importlib.import_module, "services.scheduler.commands.kubernetes")
    while True:
        await asyncio.sleep(INTERVAL)
        try:
            await module.sweep(settings, board, jetstream)
        except Exception as error:  # noqa: BLE001  (whatever it is, the next look may go well)
            log.warning("cannot look for Kubernetes Jobs that nobody wants: %s", error)
