"""The log of a Pod, each line once, also across lost connections."""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import Final

from services.scheduler.commands.kubernetes.cluster import PAUSE, Cluster
from services.scheduler.commands.kubernetes.errors import CONNECTION, Refusal, RetryLimit
from services.scheduler.commands.log import CommandLog, Lines

__all__ = ["follow_log"]

GONE: Final = 404
NOT_STARTED: Final = 400

MARGIN: Final = 60
"""Seconds that are read again after a stream broke off: what is known already is passed over."""

_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")


async def follow_log(
    cluster: Cluster, pod: str, index: int | None, finished: Callable[[], bool], log: CommandLog
) -> None:
    """Read a Pod's log into `log` until the container has ended, as `finished` says.

    Raises Problem CLUSTER_UNAVAILABLE.
    """
    place = _Place(log, index)
    retry_limit = cluster.retry_limit()
    while True:
        # What was asked for after the container had ended is all of it; before, the stream may have been cut.
        final = finished()
        try:
            await _read(cluster, pod, place, retry_limit, final, finished)
        except Refusal as refusal:
            if refusal.status == GONE:
                return
            if not refusal.passing and (final or refusal.status != NOT_STARTED):
                log.note(f"the log of Pod {pod} cannot be read: {refusal.message}")
                return
            await retry_limit.rest(refusal)
        except CONNECTION as error:
            await retry_limit.rest(error)
        else:
            if final:
                return
            await asyncio.sleep(PAUSE)


async def _read(
    cluster: Cluster, pod: str, place: "_Place", retry_limit: RetryLimit, final: bool, finished: Callable[[], bool]
) -> None:
    """Read one stream to its end, or until it is silent though the container has ended."""
    lines = Lines()
    async with aclosing(cluster.log(pod, since_seconds=place.since)) as stream:
        place.resume()
        async for data in stream:
            retry_limit.reset()
            for line in lines.feed(data):
                place.take(line)
            if not data and not final and finished():
                return
    if final:
        for line in lines.end():
            place.take(line)


class _Place:
    """How far a log has been read. Lines of the same time differ by their number."""

    def __init__(self, log: CommandLog, index: int | None) -> None:
        self._log = log
        self._index = index
        self._last = (0, 0)
        self._count = 0
        self._heard = time.monotonic()
        self._known = 0
        self._skipping = False

    @property
    def since(self) -> int | None:
        """How many seconds back to read; None: all. Neither clock alone need be right: the greater distance counts."""
        if self._last == (0, 0):
            return None
        ago = max(time.monotonic() - self._heard, time.time() - self._last[0])
        return int(ago) + MARGIN

    def resume(self) -> None:
        """What follows comes from a new stream, and may begin with what is known."""
        self._known = self._count
        self._skipping = self._last != (0, 0)

    def take(self, line: str) -> None:
        found = _STAMP.match(line)
        if found is None:  # the rest of a line that was too long
            if not self._skipping:
                self._log.line(line, index=self._index)
            return
        seconds, fraction, zone = found.groups()
        zone = "+00:00" if zone == "Z" else zone
        stamp = int(datetime.fromisoformat(seconds + zone).timestamp()), int((fraction or "").ljust(9, "0"))
        if self._skipping:
            if stamp < self._last:
                return
            if stamp == self._last and self._known > 0:
                self._known -= 1
                return
            self._skipping = False
        self._count = self._count + 1 if stamp == self._last else 1
        self._last = stamp
        self._heard = time.monotonic()
        self._log.line(line[found.end() :], index=self._index)
