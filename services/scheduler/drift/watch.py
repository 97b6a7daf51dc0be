"""Follows the log of payloads from its oldest on. Each scheduler does, so each shows the same."""

import asyncio
import logging
from typing import Final

import numpy as np
from anyio import to_thread
from nats.errors import Error as NatsError

from services.scheduler.drift.monitor import DriftMonitors
from services.scheduler.drift.settings import DriftSettings
from shared.stores.payload_log import PayloadLog

__all__ = ["watch_drift"]

log = logging.getLogger(__name__)

PAUSE: Final = 5.0
"""Seconds after an error of the broker."""


async def watch_drift(payloads: PayloadLog, settings: DriftSettings) -> None:
    """Until it is cancelled. Where the broker is away it goes on from the payload after the last that it has seen."""
    monitors = DriftMonitors(settings.drift_reference_rows, settings.drift_window_rows)
    last, told = 0, False
    while True:
        try:
            async for portion in payloads.follow(last + 1):
                last, told = portion[-1].revision, False
                try:
                    await to_thread.run_sync(monitors.add, [stored.record for stored in portion])
                except (ValueError, ArithmeticError, np.linalg.LinAlgError):
                    log.exception("payloads cannot be compared")
        except (NatsError, TimeoutError, OSError) as error:
            if not told:
                log.warning("the log of payloads cannot be read: %r", error)
            told = True
            await asyncio.sleep(PAUSE)
