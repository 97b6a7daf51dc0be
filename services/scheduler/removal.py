"""The job kinds `delete` and `drop`: take documents, or a whole collection, out of the index."""

from functools import partial

from services.scheduler.run import JobRun
from services.scheduler.stages import StageClient
from shared.envelope import Stop
from shared.indexing import IndexChange, IndexedDocumentRef
from shared.jobs import DeleteSpec, DropSpec, Job
from shared.records import Collections, Documents

__all__ = ["Removal"]

GROUP = 500
"""Documents that one commit removes."""


class Removal:
    def __init__(self, stages: StageClient, collections: Collections, documents: Documents) -> None:
        self._stages = stages
        self._collections = collections
        self._documents = documents

    async def delete(self, run: JobRun) -> None:
        """First from the index, then the records: a crash between the two is repaired by running again."""
        assert isinstance(run.spec, DeleteSpec)
        collection = await self._collections.get(run.job.tenant, run.spec.collection)
        done = 0
        for start in range(0, len(run.spec.documents), GROUP):
            group = run.spec.documents[start : start + GROUP]
            refs = tuple(IndexedDocumentRef(id=name, name="", revision=run.revision) for name in group)
            await self._change(run, IndexChange(table=collection.table, documents=refs))
            for document in group:
                await self._documents.delete(collection.table, document, run.revision)
            done += len(group)
            await run.report(partial(_with_deleted, deleted=done))

    async def drop(self, run: JobRun) -> None:
        assert isinstance(run.spec, DropSpec)
        await self._change(run, IndexChange(table=run.spec.table, drop=True))
        await self._documents.forget(run.spec.table)

    async def _change(self, run: JobRun, change: IndexChange) -> None:
        stop = Stop(stage="index", params=change.as_params())
        await self._stages.ask(stop, tenant=run.job.tenant, collection=change.table)


def _with_deleted(job: Job, *, deleted: int) -> Job:
    return job.model_copy(update={"progress": job.progress.model_copy(update={"deleted": deleted})})
