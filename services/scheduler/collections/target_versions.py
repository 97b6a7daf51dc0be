"""Which versions of a collection a change of its documents must reach: the live one, whichever that is in the end.

A switch first makes the new version follow the live one and then copies what differs. So a job either ends before that
copy was begun, and what it did is copied, or it looks at the versions after that, and finds the new one too. Nothing
that a job has done gets lost, and no lock is needed.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.scheduler.ingestion.models import Target
from services.scheduler.jobs.job_context import JobContext
from shared.contracts.problems import Problem, ProblemType
from shared.stores.collections import Collections

__all__ = ["TargetVersions", "target_versions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetVersions:
    """One version to change. It comes up again until it is `done`, or need not be changed any more."""

    target: Target
    reached: set[str]

    @property
    def is_live(self) -> bool:
        return self.target.table == self.target.collection.table

    def done(self) -> None:
        self.reached.add(self.target.table)


async def target_versions(collections: Collections, context: JobContext) -> AsyncIterator[TargetVersions]:
    """The versions that a job must change, one after another, as they are when each comes up.

    Raises Problem COLLECTION_NOT_FOUND.
    """
    reached: set[str] = set()
    collection = await collections.get(context.tenant, context.job.collection)
    first = collection.id
    while left := [version for version in collection.changing if version.table not in reached]:
        yield TargetVersions(target=Target(collection=collection, version=left[0], job=context.job.id), reached=reached)
        collection = await collections.get(context.tenant, context.job.collection)
        if collection.id != first:
            raise Problem(ProblemType.COLLECTION_NOT_FOUND, f"The collection '{collection.name}' was deleted.")
