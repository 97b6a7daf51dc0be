"""The newest jobs of a tenant, without reading all of its history each time."""

import bisect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from nats.js import JetStreamContext

from shared.contracts.jobs.job import Job, JobState
from shared.nats.subjects import JOB_STATUS
from shared.nats.view import BucketView, BucketViews

__all__ = ["IndexedJob", "JobIndex", "JobList"]

MOST: Final = 100_000
"""Jobs that are remembered, of all tenants together, and of one tenant at most; some 500 bytes each."""

NO_LABELS: Final[dict[str, str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedJob:
    """What jobs are chosen by. `principals` are who the job looks at documents as, and `sees_everything` says whether
    it may look at all of the tenant."""

    id: str
    created_at: float
    state: JobState
    kind: str
    collection: str
    parent: str | None
    principals: tuple[str, ...] | None
    sees_everything: bool = False
    labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job) -> "IndexedJob":
        return cls(
            id=job.id,
            created_at=job.created_at,
            state=job.state,
            kind=sys.intern(job.kind),
            collection=sys.intern(job.collection),
            parent=job.options.parent,
            principals=job.options.principals,
            sees_everything=job.options.sees_everything,
            labels=job.options.labels or NO_LABELS,
        )


class JobList(BucketView[IndexedJob]):
    """The jobs of a tenant in order of their creation. Of very many, it knows the newest ones."""

    def __init__(self, jetstream: JetStreamContext, keys: str, most: int) -> None:
        super().__init__(jetstream, JOB_STATUS, keys, lambda data: IndexedJob.of(Job.model_validate_json(data)))
        self._tenant = keys.partition(".")[0]
        self._most = most
        self._ordered: list[tuple[float, str]] = []
        """Their times of creation and keys, oldest first."""

    def newest(self, after: IndexedJob | None = None) -> Iterator[IndexedJob]:
        """Newest first, as they are now: what changes meanwhile does not matter. `after` begins behind that job."""
        end = len(self._ordered)
        if after is not None:
            end = bisect.bisect_left(self._ordered, (after.created_at, f"{self._tenant}.{after.id}"))
        return (self._records[key] for _, key in reversed(self._ordered[:end]) if key in self._records)

    def get(self, job: str) -> IndexedJob | None:
        return self._records.get(f"{self._tenant}.{job}")

    def forget(self, job: IndexedJob) -> None:
        """It has expired."""
        self._set(f"{self._tenant}.{job.id}", None)

    def _set(self, key: str, record: IndexedJob | None) -> None:
        known = self._records.get(key)
        if known is not None and (record is None or record.created_at != known.created_at):
            del self._ordered[bisect.bisect_left(self._ordered, (known.created_at, key))]
            known = None
        if record is not None and known is None:
            bisect.insort(self._ordered, (record.created_at, key))
        super()._set(key, record)
        if len(self._ordered) > self._most:
            _, oldest = self._ordered.pop(0)
            super()._set(oldest, None)


class JobIndex:
    """The first look at a tenant reads its jobs, and each later one what has changed. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext, *, most: int = MOST) -> None:
        self._tenants = BucketViews(lambda keys: JobList(jetstream, keys, most), most=most)

    async def of(self, tenant: str) -> JobList:
        return await self._tenants.look(f"{tenant}.>")
