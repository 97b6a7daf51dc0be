"""Counts the answers of this gateway in memory, and writes the counts now and then.

A broker that is away delays no answer: what is not written stays in memory until it is. A process that is killed loses
what it has counted since the last write.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

from nats.errors import Error as NatsError

from services.gateway.usage.models import UsageRecord, UsageRow
from services.gateway.usage.store import UsageStore
from shared.contracts.events import Usage
from shared.service.bus import Bus

__all__ = ["INTERVAL", "MOST_ROWS", "OTHER", "UsageRecorder", "today", "write_regularly"]

log = logging.getLogger(__name__)

INTERVAL: Final = 10.0
"""Seconds between two writes."""

MOST_ROWS: Final = 1000
"""Keys times models that one record tells apart, so that it fits into a message of the broker."""

OTHER: Final = "(other)"
"""The key and the model of all rows beyond these."""

LONGEST_NAME: Final = 100
"""Characters of a key or a model that are kept."""


def today() -> date:
    """The day in UTC."""
    return datetime.now(UTC).date()


@dataclass(slots=True)
class _Record:
    """A record that grows. The `id` is new for each, so that a clock that is set back overwrites nothing."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    rows: dict[tuple[str, str], UsageRow] = field(default_factory=dict)
    answers: int = 0
    written: int = 0


class UsageRecorder:
    """The usage that this gateway has counted: all of today, and of days before what is not written yet."""

    def __init__(self, clock: Callable[[], date] = today) -> None:
        self._clock = clock
        self._records: dict[tuple[str, date], _Record] = {}
        self._writing = asyncio.Lock()

    def record(self, tenant: str, key: str, model: str, usage: Usage) -> None:
        """Count one answer."""
        owner = tenant, self._clock()
        record = self._records.get(owner)
        if record is None:
            record = self._records[owner] = _Record()
        place = _name(key), _name(model)
        if place not in record.rows and len(record.rows) >= MOST_ROWS:
            place = OTHER, OTHER
        row = record.rows.get(place) or UsageRow(key=place[0], model=place[1])
        record.rows[place] = row.with_answer(usage)
        record.answers += 1

    async def write(self, store: UsageStore) -> bool:
        """Write the records that have changed, and forget those of days before. Returns whether all are written; what
        the broker does not take is tried again the next time."""
        complete = True
        async with self._writing:  # an older state never overwrites a newer one
            for (tenant, day), record in list(self._records.items()):
                answers = record.answers
                if answers > record.written:
                    try:
                        await store.put(tenant, day, record.id, UsageRecord(rows=tuple(record.rows.values())))
                    except (NatsError, TimeoutError, OSError) as error:
                        log.warning("usage is not written yet", extra={"reason": str(error) or type(error).__name__})
                        if isinstance(error, TimeoutError):
                            return False  # the other records would wait as long
                        complete = False
                        continue
                    record.written = answers
                if record.written == record.answers and day != self._clock():
                    del self._records[tenant, day]
        return complete


def _name(text: str) -> str:
    """A name at a length that leaves room for all others, without what JSON writes in more bytes."""
    return "".join(filter(str.isprintable, text[:LONGEST_NAME]))


async def write_regularly(recorder: UsageRecorder, store: UsageStore, bus: Bus, interval: float = INTERVAL) -> None:
    """Write every `interval` seconds while the broker is there. Ends when it is cancelled."""
    while True:
        await asyncio.sleep(interval)
        if bus.connected:
            await recorder.write(store)
