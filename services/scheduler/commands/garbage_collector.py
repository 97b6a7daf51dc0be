"""Removes Kubernetes Jobs of cancelled commands from the cluster."""

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

__all__ = ["collect_garbage"]

log = logging.getLogger(__name__)

INTERVAL: Final = 60.0
"""Seconds between two looks."""


@asynccontextmanager
async def collect_garbage(
    settings: CommandSettings, job_store: JobStore, jetstream: JetStreamContext
) -> AsyncIterator[None]:
    """While the block runs, delete Kubernetes Jobs whose jobs were cancelled while no worker was there."""
    if not settings.kubernetes_enabled:
        yield
        return
    async with background(_keep_sweeping(settings, job_store, jetstream)):
        yield


async def _keep_sweeping(settings: CommandSettings, job_store: JobStore, jetstream: JetStreamContext) -> None:
    module = await asyncio.to_thread(importlib.import_module, "services.scheduler.commands.kubernetes")
    while True:
        await asyncio.sleep(INTERVAL)
        try:
            await module.sweep(settings, job_store, jetstream)
        except Exception as error:  # noqa: BLE001  (whatever it is, the next look may go well)
            log.warning("cannot look for Kubernetes Jobs that nobody wants: %s", error)
