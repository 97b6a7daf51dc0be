"""The versions of a collection that tuning makes: those of other chunks, while trials last, and the better one."""

import hashlib
import time
from dataclasses import dataclass
from functools import partial

from services.scheduler.collections.reindex import BuildPlan, ReindexJob
from services.scheduler.collections.switch import SwitchJob
from services.scheduler.ingestion.chunking.chunker import Chunking
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.ingestion.progress import ProgressReport
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.tuning.search import Setting
from shared.contracts.collections import Collection, CollectionVersion, VersionState, table_name
from shared.contracts.jobs import ChunkSize, TuneSpec
from shared.contracts.problems import Problem, ProblemType
from shared.stores.collections import Collections
from shared.stores.documents import Documents

__all__ = ["TuneVersions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneVersions:
    """Versions with other chunks stay `building` as long as trials use them: so nobody prunes them or makes them live,
    and a later `reindex` gives them up where the job ends without doing so."""

    collections: Collections
    documents: Documents
    indexer: Indexer
    reindexing: ReindexJob
    switching: SwitchJob

    def chunking(self, version: CollectionVersion, size: ChunkSize) -> Chunking:
        """Raises Problem INVALID_REQUEST for sizes that do not go together."""
        usual = self.indexer.chunking(version).overlap_tokens
        overlap = min(usual, size.tokens // 4) if size.overlap is None else size.overlap
        try:
            return Chunking(max_tokens=size.tokens, overlap_tokens=overlap)
        except ValueError as error:
            raise Problem(ProblemType.INVALID_REQUEST, f"These chunk sizes do not go together: {error}") from None

    async def built(
        self, context: JobContext, collection: Collection, base: CollectionVersion, size: ChunkSize
    ) -> CollectionVersion:
        """The base cut in another way. What an earlier try has built is not built again. Raises as `reindex` does."""
        chunking = self.chunking(base, size)
        collection = await self.collections.get(context.tenant, collection.name)
        for known in collection.versions:
            same = (known.chunk_tokens, known.chunk_overlap) == (chunking.max_tokens, chunking.overlap_tokens)
            if same and known.job == context.job.id and known.table != base.table:
                if known.state is VersionState.BUILDING:
                    await self._fill(context, collection, known)
                return known
        version = CollectionVersion(
            name=_name(context, size),
            table=table_name(collection.name),
            state=VersionState.BUILDING,
            created_at=time.time(),
            job=context.job.id,
            chunk_tokens=chunking.max_tokens,
            chunk_overlap=chunking.overlap_tokens,
            embedding_variant=base.embedding_variant,
            embedding_model=base.embedding_model,
            rerank_model=base.rerank_model,
            adapter=base.adapter,
        )
        await self._fill(context, collection, version)
        return version

    async def _fill(self, context: JobContext, collection: Collection, version: CollectionVersion) -> None:
        plan = BuildPlan(collection=collection.id, version=version)
        await self.reindexing.build(context, collection.name, plan, ProgressReport(context))

    async def free_name(self, context: JobContext, collection: Collection) -> str:
        """A name for the version that is made, as if those of other chunks were not there."""
        now = await self.collections.get(context.tenant, collection.name)
        return now.model_copy(update={"versions": tuple(_others(now, context.job.id))}).free_name()

    async def write(
        self, context: JobContext, collection: Collection, base: str, setting: Setting, *, name: str
    ) -> Collection:
        """Make a version with the options of a setting: on the table of the base, or on that of its chunks. Doing it
        again changes nothing. Raises Problem CONFLICT where the base is gone, or the name is taken."""
        options = {"retrieval": setting.retrieval, "rerank_candidates": setting.rerank_candidates}
        made = {"name": name, "state": VersionState.READY, "release": "", **options}
        if setting.chunks is not None:
            chunked = _name(context, setting.chunks)
            now = await self.collections.get(context.tenant, collection.name)
            counts = await self._counts(now, now.find(chunked) or now.find(name))
            change = partial(_renamed, was=chunked, made={**made, **counts})
        else:
            made |= {"created_at": time.time(), "job": context.job.id, "retired_at": None}
            change = partial(_entered, base=base, made=made)
        return await self.collections.update(collection, change)

    async def give_up(self, context: JobContext, collection: Collection) -> Collection:
        """Leave the versions with other chunks that were not chosen, and have their tables removed."""
        left = await self.collections.update(collection, partial(_left, job=context.job.id))
        await self.switching.drop_leaving(context, left)
        return left

    async def make_live(self, context: JobContext, collection: Collection, spec: TuneSpec, name: str) -> None:
        await self.switching.make_live(
            context, collection, name, force=False, keep=spec.keep, report=ProgressReport(context)
        )

    async def keep(self, context: JobContext, collection: Collection, spec: TuneSpec, name: str) -> None:
        """Have versions removed that are beyond those to keep."""
        change = partial(Collection.pruned, keep=spec.keep, sparing=name)
        await self.switching.drop_leaving(context, await self.collections.update(collection, change))

    async def _counts(self, collection: Collection, version: CollectionVersion | None) -> dict[str, int]:
        records = [] if version is None else await self.documents.list(version.table, owner=collection.owner)
        return {"documents": len(records), "chunks": sum(record.chunks for record in records)}


def _name(context: JobContext, size: ChunkSize) -> str:
    job = hashlib.sha256(context.job.id.encode()).hexdigest()[:8]
    return f"tune-{job}-{size.tokens}-{'usual' if size.overlap is None else size.overlap}"


def _entered(collection: Collection, *, base: str, made: dict[str, object]) -> Collection:
    name = str(made["name"])
    if (known := collection.find(name)) is not None:
        if known.job != made["job"]:
            raise _taken(name)
        return collection
    version = collection.find(base)
    if version is None or version.state in (VersionState.BUILDING, VersionState.LEAVING):
        raise Problem(ProblemType.CONFLICT, f"The version '{base}' that was tuned is not there any more.")
    return collection.adding(version.model_copy(update=made))


def _renamed(collection: Collection, *, was: str, made: dict[str, object]) -> Collection:
    name = str(made["name"])
    if (chunked := collection.find(was)) is None:
        if collection.find(name) is None:
            raise Problem(ProblemType.CONFLICT, f"The version '{was}' was given up while it was tuned.")
        return collection  # an earlier try got this far
    if collection.find(name) is not None:
        raise _taken(name)
    if chunked.state is not VersionState.BUILDING:
        raise Problem(ProblemType.CONFLICT, f"The version '{was}' was given up while it was tuned.")
    return collection.changed(was, **made)


def _others(collection: Collection, job: str) -> list[CollectionVersion]:
    """The versions but for those that this job builds."""
    return [one for one in collection.versions if one.job != job or one.state is not VersionState.BUILDING]


def _left(collection: Collection, *, job: str) -> Collection:
    others = _others(collection, job)
    for version in collection.versions:
        if version not in others:
            collection = collection.changed(version.name, state=VersionState.LEAVING)
    return collection


def _taken(name: str) -> Problem:
    detail = f"There is a version '{name}' already. Choose another name, or none to be given one."
    return Problem(ProblemType.CONFLICT, detail)
