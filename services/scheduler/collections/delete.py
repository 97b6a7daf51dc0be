"""The job kinds `delete` and `drop`: remove documents, or whole indexes, from the retriever."""

from functools import partial

from services.scheduler.collections.target_versions import target_versions
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.ingestion.models import MovedOnError
from services.scheduler.ingestion.originals import Originals
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, job_kind
from shared.contracts.collections import Collection, CollectionVersion, Owner, VersionState
from shared.contracts.envelope import Stop
from shared.contracts.indexing import IndexChange
from shared.contracts.jobs import DeleteSpec, DropSpec
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.requester import Requester
from shared.stores.collections import Collections
from shared.stores.documents import Documents

__all__ = ["DeleteJob", "drop_index"]


class DeleteJob:
    def __init__(
        self,
        *,
        stages: Requester,
        indexer: Indexer,
        collections: Collections,
        documents: Documents,
        originals: Originals,
    ) -> None:
        self._stages = stages
        self._indexer = indexer
        self._collections = collections
        self._documents = documents
        self._originals = originals

    async def delete(self, context: JobContext) -> None:
        """Remove documents from whichever version is live when the job ends."""
        assert isinstance(context.spec, DeleteSpec)
        documents = [(document, context.revision) for document in context.spec.documents]
        async for version in target_versions(self._collections, context):
            try:
                async for done in self._indexer.remove(version.target, documents):
                    if version.is_live:
                        context.progress(deleted=done)
                    if done < len(documents):  # the end of the job shows the rest
                        await context.show()
            except MovedOnError:
                continue
            version.done()

    async def drop(self, context: JobContext) -> None:
        """Remove a whole collection, or one version that nobody uses any more."""
        assert isinstance(context.spec, DropSpec)
        if context.spec.version is None:
            await self._drop_collection(context, context.spec)
        else:
            await self._drop_version(context, context.spec)

    async def _drop_collection(self, context: JobContext, spec: DropSpec) -> None:
        owner = Owner(tenant=context.tenant, collection=spec.id or spec.table)
        originals: list[str] = []
        tables = (spec.table, *spec.others)
        for table in tables:
            await drop_index(self._stages, owner, table)
            records = await self._documents.list(table, owner=owner)
            originals += [record.original for record in records if record.original]
        await self._originals.forget(owner, originals)
        for table in tables:
            await self._documents.forget(table, owner=owner)

    async def _drop_version(self, context: JobContext, spec: DropSpec) -> None:
        """Raises Problem CONFLICT for a version that is in use."""
        try:
            collection = await self._collections.get(context.tenant, spec.collection)
        except Problem:
            collection = None
        using = collection.on(spec.table) if collection is not None else ()
        version = next((one for one in using if one.name == spec.version), None)
        if version is not None and version.state is not VersionState.LEAVING:
            raise Problem(ProblemType.CONFLICT, f"The version '{version.name}' of '{spec.collection}' is in use.")
        if collection is not None and len(using) > (version is not None):
            # Of the versions that share a table, the last one to go takes it along.
            left = await self._collections.update(collection, partial(_without, version=version))
            if left.on(spec.table):
                return
        # Of a collection that is gone only the tenant is known.
        owner = Owner(tenant=context.tenant) if collection is None or version is None else collection.owner
        await drop_index(self._stages, owner, spec.table)
        records = await self._documents.list(spec.table, owner=owner)
        await self._documents.forget(spec.table, owner=owner)
        if collection is None or version is None:
            return
        for record in records:
            if record.original:
                await self._originals.release(collection, record.id, record.original)
        await self._collections.update(collection, partial(_without, version=version))


async def drop_index(stages: Requester, owner: Owner, table: str) -> None:
    """Remove an index; one that is not there is no error."""
    stop = Stop(stage="index", params=IndexChange(table=table, drop=True).as_params())
    await stages.ask(stop, tenant=owner.tenant, collection=table, collection_id=owner.collection)


def _without(collection: Collection, *, version: CollectionVersion | None) -> Collection:
    return collection if version is None or collection.find(version.name) is None else collection.without(version.name)


@job_kind(DeleteSpec)
def delete(dependencies: JobDependencies) -> JobFunction:
    return _removal(dependencies).delete


@job_kind(DropSpec)
def drop(dependencies: JobDependencies) -> JobFunction:
    return _removal(dependencies).drop


def _removal(dependencies: JobDependencies) -> DeleteJob:
    return DeleteJob(
        stages=dependencies.stages,
        indexer=dependencies.indexer,
        collections=dependencies.collections,
        documents=dependencies.documents,
        originals=dependencies.originals,
    )
