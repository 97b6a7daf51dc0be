"""Counts how the questions of canaries end at this gateway, and writes the counts now and then.

A broker that is away delays no answer. A process that is killed loses what it has counted since the last write.
"""

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nats.errors import Error as NatsError

from services.gateway.queries.assembler import Ended, PartLostError
from services.gateway.queries.session import QuerySession
from shared.contracts.canaries import CanaryCounts, VersionCounts
from shared.contracts.envelope import Query
from shared.contracts.problems import Problem, ProblemType
from shared.service.bus import Bus
from shared.stores.canaries import CanaryStore
from sluice.api.feedback import Feedback

__all__ = ["CanaryRecorder"]

log = logging.getLogger(__name__)

INTERVAL: Final = 2.0
"""Seconds between two writes."""

MOST_CANARIES: Final = 1000
"""Canaries that a gateway remembers; those that were counted last stay."""

OURS: Final = frozenset({ProblemType.INDEX_DAMAGED, ProblemType.COLLECTION_EMPTY, ProblemType.MODEL_NOT_FOUND})
"""Problems with the status of a client's fault that can come from the version that was asked."""

NOBODYS: Final = frozenset({ProblemType.BROKER_UNAVAILABLE, ProblemType.INDEX_UNAVAILABLE, ProblemType.STORAGE_FULL})
"""Problems that say nothing of the version."""


LATE: Final = frozenset(
    {ProblemType.DEADLINE_EXCEEDED, ProblemType.STAGE_UNAVAILABLE, ProblemType.QUEUE_FULL, ProblemType.ENGINE_BUSY}
)
"""Problems of a copy that had to wait."""


@dataclass(slots=True)
class _Canary:
    counts: CanaryCounts
    changes: int = 0
    written: int = 0


class CanaryRecorder:
    """The counts of this gateway, by tenant and job of the canary."""

    def __init__(self) -> None:
        # New for each process: one that starts again does not overwrite what it has counted before.
        self._id = secrets.token_hex(8)
        self._canaries: OrderedDict[tuple[str, str], _Canary] = OrderedDict()

    def ended(self, session: QuerySession, problem: Problem | None) -> None:
        """Count a question that has ended, if it was part of a canary. One that this gateway itself has given up says
        nothing of the version."""
        query, ended = session.query, session.ended
        if not query.canary:
            return
        if ended is not None:
            seconds, declined = session.elapsed_ms / 1e3, ended.answerable is False
            self._change(
                query.tenant,
                query.canary,
                query.collection_version,
                lambda counts: counts.with_answer(seconds, declined=declined),
            )
        elif problem is not None and problem is not session.problem and _is_ours(problem):
            self._change(query.tenant, query.canary, query.collection_version, VersionCounts.with_failure)

    def shadow_ended(self, query: Query, ended: Ended | None, problem: Problem | None) -> None:
        """Count the end of a copy of a question for the version in the shadow. Its time says nothing: it waits behind
        readers' questions, and so does one that is late."""
        if ended is not None:
            declined = ended.answerable is False
            self._change(
                query.tenant,
                query.canary,
                query.collection_version,
                lambda counts: counts.with_shadow(declined=declined),
            )
        elif problem is not None and _is_ours(problem) and problem.kind not in LATE:
            self._change(query.tenant, query.canary, query.collection_version, VersionCounts.with_failure)

    def rated(self, tenant: str, before: Feedback | None, after: Feedback) -> None:
        """Count a rating that is new, or that was taken back, of an answer that was part of a canary."""
        old, new, kept = "" if before is None else before.rating, after.rating, after.kept
        if kept.canary and old != new:
            up, down = ((new == side) - (old == side) for side in ("up", "down"))
            self._change(
                tenant, kept.canary, kept.collection_version, lambda counts: counts.with_rating(up=up, down=down)
            )

    async def write_regularly(self, store: CanaryStore, bus: Bus, interval: float = INTERVAL) -> None:
        """Write every `interval` seconds while the broker is there. Ends when it is cancelled."""
        while True:
            await asyncio.sleep(interval)
            if bus.connected:
                await self.write(store)

    async def write(self, store: CanaryStore) -> None:
        """Write the counts that have changed. What the broker does not take is tried again the next time."""
        for (tenant, job), canary in list(self._canaries.items()):
            changes = canary.changes
            if changes == canary.written:
                continue
            try:
                await store.put(tenant, job, self._id, canary.counts)
            except (NatsError, TimeoutError, OSError) as error:
                log.warning("counts of a canary are not written yet: %s", str(error) or type(error).__name__)
                return
            canary.written = changes

    def _change(self, tenant: str, job: str, version: str, change: Callable[[VersionCounts], VersionCounts]) -> None:
        canary = self._canaries.setdefault((tenant, job), _Canary(CanaryCounts()))
        self._canaries.move_to_end((tenant, job))
        versions = canary.counts.versions
        canary.counts = CanaryCounts(versions={**versions, version: change(canary.counts.of(version))})
        canary.changes += 1
        if len(self._canaries) > MOST_CANARIES:
            self._canaries.popitem(last=False)


def _is_ours(problem: Problem) -> bool:
    kind = problem.kind
    if isinstance(problem, PartLostError):
        return False  # lost with a connection, or for a reader who does not read
    return kind in OURS or (kind.status >= 500 and kind not in NOBODYS)
