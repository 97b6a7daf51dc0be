"""The job kind `reindex`: a new version of a collection, built beside the live one from the documents' originals.

The live version answers all the time and may change all the time. The first pass copies everything; further passes copy
what changed during the one before, until little is left, which the switch takes care of. What is in the new table says
how far the work is, so it goes on there after a crash.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import Final

from pydantic import BaseModel

from services.scheduler.collections.delete import drop_index
from services.scheduler.collections.index_check import IndexCheck
from services.scheduler.collections.switch import SwitchJob, not_indexed, switch_job
from services.scheduler.collections.sync import CollectionSync, Pass, collection_sync
from services.scheduler.ingestion.chunking.chunker import Chunking
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.ingestion.models import MovedOnError, Target
from services.scheduler.ingestion.progress import ProgressReport
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from shared.contracts.collections import Collection, CollectionVersion, Owner, VersionState, table_name
from shared.contracts.jobs import ReindexSpec
from shared.contracts.models import ADAPTS, EMBEDS, RERANKS
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.requester import Requester
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.stores.jobs.store import JobStore
from shared.stores.models import ModelStore

__all__ = ["BuildPlan", "ReindexJob"]

PASSES: Final = 5
LITTLE: Final = 50
"""Changes in one pass after which the rest is left to the switch."""


class BuildPlan(BaseModel):
    """What is built, decided once: the id of the collection, and the version. It is the checkpoint of a `reindex`, so
    that a later try goes on with the same table."""

    collection: str
    version: CollectionVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class ReindexJob:
    """One per process."""

    job_store: JobStore
    stages: Requester
    collections: Collections
    documents: Documents
    models: ModelStore
    indexer: Indexer
    sync: CollectionSync
    switching: SwitchJob
    check: IndexCheck

    async def __call__(self, context: JobContext) -> None:
        """Raises Problem COLLECTION_NOT_FOUND, MODEL_NOT_FOUND, CONFLICT, INVALID_REQUEST, ORIGINALS_MISSING,
        INDEX_DAMAGED or VERSION_NOT_READY."""
        assert isinstance(context.spec, ReindexSpec)
        saved = await context.checkpoint()
        plan = None if saved is None else BuildPlan.model_validate(saved)
        try:
            plan = plan or await self._plan(context, context.spec)
            await self._carry_out(context, context.spec, plan)
        except Problem as problem:
            if problem.kind is ProblemType.COLLECTION_NOT_FOUND and plan is not None:
                # Nobody else knows of what was written after the collection was deleted.
                owner = Owner(tenant=context.tenant, collection=plan.collection)
                await drop_index(self.stages, owner, plan.version.table)
                await self.documents.forget(plan.version.table, owner=owner)
            raise

    async def _carry_out(self, context: JobContext, spec: ReindexSpec, plan: BuildPlan) -> None:
        collection = await self._collection(context, spec.collection, plan)
        name = plan.version.name
        report = ProgressReport(context)
        async with report.reporting():
            if collection.version(name).state is VersionState.BUILDING:
                if not spec.force:
                    await self.check.require(collection.owner, collection.table, collection.name)
                await self.build(context, spec.collection, plan, report)
                collection = await self._finish(collection, name, spec)
            version = collection.version(name)
            context.outputs.update(version=name, documents=version.documents, chunks=version.chunks, live=False)
            if spec.switch and version.state is not VersionState.RETIRED:
                await self.switching.make_live(
                    context, collection, name, keep=spec.keep, force=spec.force, report=report
                )
            else:
                await self.switching.drop_leaving(context, collection)

    async def _plan(self, context: JobContext, spec: ReindexSpec) -> BuildPlan:
        """Decide what is built, and enter it into the collection's record."""
        collection = await self.collections.get(context.tenant, spec.collection)
        collection = await self._clean_up(context, spec, collection)
        known = collection.find(spec.version) if spec.version else None
        version = self._version(context, spec, collection)
        await self.models.require(context.tenant, version.embedding_model, *EMBEDS)
        await self.models.require(context.tenant, version.rerank_model, *RERANKS)
        await self.models.require(context.tenant, version.adapter, *ADAPTS)
        if known is not None:
            version = _taken_over(known, version, free=await self._has_ended(context, known))
        plan = BuildPlan(collection=collection.id, version=version)
        # First the checkpoint: a try after this one knows its version again, by whatever name it got.
        await context.save(plan.model_dump(mode="json"))
        await self.collections.update(collection, partial(_entered, version=version))
        return plan

    def _version(self, context: JobContext, spec: ReindexSpec, collection: Collection) -> CollectionVersion:
        live = collection.live
        chunking = self._chunking(spec, live)
        name = spec.version or collection.free_name()
        return CollectionVersion(
            name=name,
            table=table_name(collection.name),
            state=VersionState.BUILDING,
            created_at=time.time(),
            job=context.job.id,
            chunk_tokens=chunking.max_tokens,
            chunk_overlap=chunking.overlap_tokens,
            embedding_variant=spec.embedding_variant or live.embedding_variant,
            embedding_model=live.embedding_model if spec.embedding_model is None else spec.embedding_model,
            retrieval=spec.retrieval or live.retrieval,
            rerank_candidates=live.rerank_candidates,
            rerank_model=live.rerank_model if spec.rerank_model is None else spec.rerank_model,
            adapter=live.adapter if spec.adapter is None else spec.adapter,
        )

    def _chunking(self, spec: ReindexSpec, live: CollectionVersion) -> Chunking:
        usual = self.indexer.chunking(live)
        tokens = spec.chunk_tokens or usual.max_tokens
        overlap = min(usual.overlap_tokens, tokens // 4) if spec.chunk_overlap is None else spec.chunk_overlap
        try:
            return Chunking(max_tokens=tokens, overlap_tokens=overlap)
        except ValueError as error:
            raise Problem(ProblemType.INVALID_REQUEST, f"These chunk sizes do not go together: {error}") from None

    async def _clean_up(self, context: JobContext, spec: ReindexSpec, collection: Collection) -> Collection:
        """Give up versions that nobody builds any more, but for one that this job goes on with."""
        dead = [
            version.name
            for version in collection.versions
            if version.state is VersionState.BUILDING
            and version.name != spec.version
            and await self._has_ended(context, version)
        ]
        return await self.collections.update(collection, partial(_given_up, names=dead))

    async def _has_ended(self, context: JobContext, version: CollectionVersion) -> bool:
        try:
            return (await self.job_store.get(context.tenant, version.job)).state.ended
        except Problem:
            return True  # its record has expired

    async def _collection(self, context: JobContext, name: str, plan: BuildPlan) -> Collection:
        """The collection as it is now, with the version in it."""
        collection = await self.collections.get(context.tenant, name)
        if collection.id != plan.collection:
            raise Problem(ProblemType.COLLECTION_NOT_FOUND, f"The collection '{name}' was deleted.")
        return await self.collections.update(collection, partial(_entered, version=plan.version))

    async def build(self, context: JobContext, name: str, plan: BuildPlan, report: ProgressReport) -> None:
        """Fill a version of the collection of that name, which stays `building`. What is in it already is not done
        again. Raises Problem ORIGINALS_MISSING, VERSION_NOT_READY, or CONFLICT where it was given up meanwhile."""
        done: Pass | None = None
        for number in range(1, PASSES + 1):
            collection = await self._collection(context, name, plan)
            target = Target(collection=collection, version=collection.version(plan.version.name), job=context.job.id)
            if number == 1:
                await self._check_originals(target)
            try:
                done = await self.sync.catch_up(target, report, message=f"pass {number}", anew=True)
            except MovedOnError:
                now = (await self._collection(context, name, plan)).version(plan.version.name)
                if now.state is VersionState.BUILDING:
                    continue  # another version has become live: the next pass compares with that one
                detail = f"The version '{plan.version.name}' was given up while it was built."
                raise Problem(ProblemType.CONFLICT, detail) from None
            if done.is_clean or (number > 1 and done.copied + done.removed <= LITTLE):
                break
        if done is None:
            detail = f"Other versions became live again and again while '{plan.version.name}' was built. Try again."
            raise Problem(ProblemType.VERSION_NOT_READY, detail)
        if done.left:
            raise not_indexed(plan.version.name, done.left, report)

    async def _check_originals(self, target: Target) -> None:
        """Say at once what would come out after hours."""
        records = await self.documents.list(target.collection.table, owner=target.owner)
        without = [record for record in records if not record.original]
        if without:
            raise Problem(
                ProblemType.ORIGINALS_MISSING,
                f"{len(without):,} documents cannot be indexed anew, as their originals are not kept; the first is "
                f"{without[0].name}. Ingest them again with SLUICE_KEEP_ORIGINALS=true.",
            )

    async def _finish(self, collection: Collection, name: str, spec: ReindexSpec) -> Collection:
        records = await self.documents.list(collection.version(name).table, owner=collection.owner)
        counts = {"documents": len(records), "chunks": sum(record.chunks for record in records)}

        def ready(collection: Collection) -> Collection:
            changed = collection.changed(name, state=VersionState.READY, **counts)
            return changed if spec.switch else changed.pruned(spec.keep, sparing=name)

        return await self.collections.update(collection, ready)


def _entered(collection: Collection, *, version: CollectionVersion) -> Collection:
    known = collection.find(version.name)
    if known is None:
        return collection.adding(version)
    if known.table != version.table:
        raise _in_use(version.name)
    return collection if known.job == version.job else collection.changed(version.name, job=version.job)


def _taken_over(known: CollectionVersion, wanted: CollectionVersion, *, free: bool) -> CollectionVersion:
    """Go on with what an earlier job began and did not end, if it is the same. Raises Problem CONFLICT."""
    made_how = {"chunk_tokens", "chunk_overlap", "embedding_variant", "embedding_model"}
    same = known.model_dump(include=made_how) == wanted.model_dump(include=made_how)
    if known.state is not VersionState.BUILDING or not same or not free:
        raise _in_use(known.name)
    return known.model_copy(update={"job": wanted.job})


def _given_up(collection: Collection, *, names: list[str]) -> Collection:
    for name in names:
        collection = collection.changed(name, state=VersionState.LEAVING)
    return collection


def _in_use(name: str) -> Problem:
    return Problem(
        ProblemType.CONFLICT, f"There is a version '{name}' already. Choose another name, or none to be given one."
    )


@job_kind(ReindexSpec, pool=Pool.LONG)
def reindex(dependencies: JobDependencies) -> JobFunction:
    return reindex_job(dependencies)


def reindex_job(dependencies: JobDependencies) -> ReindexJob:
    return ReindexJob(
        job_store=dependencies.job_store,
        stages=dependencies.stages,
        collections=dependencies.collections,
        documents=dependencies.documents,
        models=dependencies.models,
        indexer=dependencies.indexer,
        sync=collection_sync(dependencies),
        switching=switch_job(dependencies),
        check=IndexCheck(dependencies.stages, dependencies.documents),
    )
