"""The job kind `permit`: who may see documents, in all versions of a collection.

Queries may ask any version, so all are changed, the live one first. A copy that is made meanwhile looks at the live
version's list again once it is written: see `Indexer.write`.
"""

from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.ingestion.models import Permissions, Target
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, job_kind
from shared.contracts.collections import Collection, CollectionVersion, VersionState
from shared.contracts.jobs import PermitSpec
from shared.stores.collections import Collections

__all__ = ["PermitJob"]


class PermitJob:
    """One per process."""

    def __init__(self, *, indexer: Indexer, collections: Collections) -> None:
        self._indexer = indexer
        self._collections = collections

    async def __call__(self, context: JobContext) -> None:
        """A document that is not there is no error. Raises Problem COLLECTION_NOT_FOUND, or one that may pass."""
        assert isinstance(context.spec, PermitSpec)
        spec = context.spec
        permissions = Permissions.given(spec.allowed, context.revision) or Permissions()
        collection = await self._collections.get(context.tenant, spec.collection)
        reached: set[str] = set()
        while left := _unreached(collection, reached):
            target = Target(collection=collection, version=left[0], job=context.job.id)
            done = await self._indexer.permit(target, spec.documents, permissions)
            if target.table == collection.table:
                context.outputs["documents"] = done
            reached.add(target.table)
            collection = await self._collections.get(context.tenant, spec.collection)


def _unreached(collection: Collection, reached: set[str]) -> list[CollectionVersion]:
    """The versions whose tables are still to be changed, the live one first."""
    versions = (collection.live, *collection.versions)
    return [one for one in versions if one.state is not VersionState.LEAVING and one.table not in reached]


@job_kind(PermitSpec)
def permit(dependencies: JobDependencies) -> JobFunction:
    return PermitJob(indexer=dependencies.indexer, collections=dependencies.collections)
