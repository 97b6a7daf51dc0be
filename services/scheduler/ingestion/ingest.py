"""The job kind `ingest`: documents that were uploaded, or that a source lists, into the index of a collection.

A document is known by its name and its version by the hash of its bytes: one that is in the index already in this
version is skipped, so running a job again after a crash does only what was not done.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from nats.js.errors import ObjectNotFoundError
from nats.js.object_store import ObjectStore

from services.scheduler.collections.target_versions import target_versions
from services.scheduler.ingestion.indexer import Indexer, discard
from services.scheduler.ingestion.models import IncomingDocument, MovedOnError, Outcome, Permissions, Target, Written
from services.scheduler.ingestion.progress import ProgressReport
from services.scheduler.ingestion.sources import Source, open_source
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, job_kind
from services.scheduler.settings import SchedulerSettings
from shared.contracts.jobs import DocumentRef, IngestSpec
from shared.contracts.problems import Problem, ProblemType
from shared.nats.objects import check_owner, read_object
from shared.stores.collections import Collections
from shared.stores.documents import Documents

__all__ = ["IngestJob"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    """What a job brings. `origin` is the source that it has listed whole, if it is to remove what is not there."""

    documents: Sequence[IncomingDocument]
    revision: int
    origin: str = ""


class IngestJob:
    """One per process."""

    def __init__(
        self,
        *,
        indexer: Indexer,
        collections: Collections,
        documents: Documents,
        uploads: ObjectStore,
        settings: SchedulerSettings,
    ) -> None:
        self._indexer = indexer
        self._collections = collections
        self._documents = documents
        self._uploads = uploads
        self._settings = settings

    async def __call__(self, context: JobContext) -> None:
        """Raises Problem COLLECTION_NOT_FOUND, what a source says, or one that may pass; a document's own problem is
        only reported."""
        assert isinstance(context.spec, IngestSpec)
        await self._collections.get(context.tenant, context.spec.collection)
        report = ProgressReport(context, len(context.spec.uploaded))
        async with report.reporting():
            delivery = await self._delivery(context, context.spec)
            async for version in target_versions(self._collections, context):
                report.begin(len(delivery.documents), counting=version.is_live)
                try:
                    await self._bring(delivery, version.target, report)
                except MovedOnError:
                    continue
                version.done()
        context.outputs.update(report.counts)
        for ref in context.spec.uploaded:
            with suppress(ObjectNotFoundError):
                await discard(self._uploads, check_owner(context.tenant, ref.object))

    async def _delivery(self, context: JobContext, spec: IngestSpec) -> _Delivery:
        uploaded = [self._uploaded(context, ref) for ref in spec.uploaded]
        if spec.source is None:
            return _Delivery(documents=uploaded, revision=context.revision)
        source = open_source(spec.source, self._settings)
        listed = await _listed(context, spec, source)
        if spec.prune and not listed:
            raise Problem(
                ProblemType.SOURCE_REFUSED,
                f"{source.origin} holds no document at all. That may be a mistake, so nothing was removed; "
                "delete the documents if it is none.",
            )
        origin = source.origin if spec.prune else ""
        return _Delivery(documents=[*uploaded, *listed], revision=context.revision, origin=origin)

    def _uploaded(self, context: JobContext, ref: DocumentRef) -> IncomingDocument:
        return IncomingDocument(
            name=ref.name,
            load=partial(self._upload, context.tenant, ref),
            size=ref.bytes,
            revision=context.revision,
            job=context.job.id,
            sha256=ref.sha256,
            media_type=ref.media_type,
            metadata=ref.metadata,
            permissions=Permissions.given(ref.allowed, context.revision),
        )

    async def _upload(self, tenant: str, ref: DocumentRef) -> bytes:
        try:
            return await read_object(self._uploads, check_owner(tenant, ref.object))
        except ObjectNotFoundError:
            raise Problem(ProblemType.NOT_FOUND, "The uploaded file is no longer kept. Upload it again.") from None

    async def _bring(self, delivery: _Delivery, target: Target, report: ProgressReport) -> None:
        """Write what differs, then remove what is gone. Raises MovedOnError."""

        def written(document: IncomingDocument, done: Written) -> None:
            # What an earlier try of this job has written counts as written by it.
            mine = done.outcome is not Outcome.SUPERSEDED and done.job == target.job
            chunks = done.chunks if mine else 0
            report.add(indexed=int(mine), skipped=int(not mine), chunks=chunks, size=document.size)
            report.warn(document.name, done.warnings if mine else ())

        def failed(document: IncomingDocument, problem: Problem) -> None:
            report.fail(document.name, problem)

        await self._indexer.write(target, delivery.documents, written=written, failed=failed)
        if not delivery.origin:
            return
        there = {document.name for document in delivery.documents}
        gone = [
            (record.id, delivery.revision)
            for record in await self._documents.list(target.table, owner=target.owner)
            if record.origin == delivery.origin and record.name not in there
        ]
        done = 0
        async for removed in self._indexer.remove(target, gone):
            report.add(deleted=removed - done)
            done = removed


async def _listed(context: JobContext, spec: IngestSpec, source: Source) -> list[IncomingDocument]:
    return [
        IncomingDocument(
            name=file.name,
            load=file.load,
            size=file.size,
            revision=context.revision,
            job=context.job.id,
            metadata=spec.metadata,
            origin=source.origin,
            stamp=file.stamp,
            permissions=Permissions.given(spec.allowed if file.allowed is None else file.allowed, context.revision),
        )
        for file in await source.list()
    ]


@job_kind(IngestSpec)
def ingest(dependencies: JobDependencies) -> JobFunction:
    return IngestJob(
        indexer=dependencies.indexer,
        collections=dependencies.collections,
        documents=dependencies.documents,
        uploads=dependencies.uploads,
        settings=dependencies.settings,
    )
