"""Warnings of the cluster about a Job or a Pod, for what their status does not say."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from services.scheduler.commands.kubernetes.cluster import Cluster
from services.scheduler.commands.kubernetes.errors import Refusal
from services.scheduler.commands.kubernetes.views import EventView

__all__ = ["watch_events"]

log = logging.getLogger(__name__)

FIRST: Final = 1.0
LONGEST: Final = 30.0
"""Seconds between two looks: they grow while nothing new is found."""

LOOKED_AT: Final = 4
"""Objects whose events are read in one look."""


async def watch_events(
    cluster: Cluster, names: Callable[[], Iterable[str]], tell: Callable[[str, EventView], None]
) -> None:
    """Tell the last warning about each object that `names` returns, and again when it is repeated; for ever.

    Ends early where the scheduler's role may not read events. Raises Problem CLUSTER_UNAVAILABLE.
    """
    told: dict[str, str] = {}
    pause = FIRST
    while True:
        await asyncio.sleep(pause)
        asked = list(names())[:LOOKED_AT]
        pause = FIRST if not asked else min(pause * 1.5, LONGEST)
        for name in asked:
            try:
                warning = _last(await cluster.warnings(name))
            except Refusal as refusal:
                log.warning("cannot read why a command does not start: %s", refusal)
                return
            if warning is not None and told.get(name) != warning.version:
                told[name] = warning.version
                pause = FIRST
                tell(name, warning)


def _last(warnings: Iterable[EventView]) -> EventView | None:
    return max(warnings, key=lambda warning: warning.time, default=None)
