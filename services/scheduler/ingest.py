"""The job kind `ingest`: documents become passages, passages get vectors, and the index takes them.

A document is known by its name and its version by the hash of its bytes: one that is in the index already in this
version is skipped, so running a job again after a crash does only what was not done. The record of a document is
written after its chunks are in the index, and an index change replaces all chunks of a document in one commit.
"""

import asyncio
import io
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

from nats.js.errors import ObjectNotFoundError
from nats.js.object_store import ObjectStore

from services.scheduler.documents import ChunkedDocument, DocumentReader
from services.scheduler.progress import ProgressReport
from services.scheduler.retries import PASSING
from services.scheduler.run import JobRun
from services.scheduler.settings import SchedulerSettings
from services.scheduler.stages import StageClient
from shared.batching import Batcher
from shared.envelope import Lane, Passage, Stop
from shared.indexing import IndexChange, IndexedDocumentRef, IndexOutcome, encode_passages
from shared.jobs import DocumentRef, IngestSpec
from shared.problems import Problem, ProblemType
from shared.records import Collection, Collections, Document, Documents, document_id

__all__ = ["Ingestion"]

COMMIT_DOCUMENTS: Final = 64
COMMIT_PASSAGES: Final = 2000
"""Documents and passages that one commit to the index takes at most; a larger document goes alone."""

MESSAGE_BYTES: Final = 300_000
"""Text in one message to the embedder, so that it fits the broker's limit also with vectors."""

EMBEDDING_WINDOW: Final = 16
"""Messages to the embedder under way at once."""

OBJECT_TIMEOUT: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Embedded:
    """A document that is ready for the index."""

    ref: DocumentRef
    media_type: str
    passages: tuple[Passage, ...]


class Ingestion:
    """One per process; its bounds hold over all jobs together."""

    def __init__(
        self,
        *,
        stages: StageClient,
        collections: Collections,
        documents: Documents,
        uploads: ObjectStore,
        vectors: ObjectStore,
        reader: DocumentReader,
        settings: SchedulerSettings,
    ) -> None:
        self._stages = stages
        self._collections = collections
        self._documents = documents
        self._uploads = uploads
        self._vectors = vectors
        self._reader = reader
        self._settings = settings
        self._reading = asyncio.Semaphore(settings.reader_workers + 1)
        self._embedding = asyncio.Semaphore(EMBEDDING_WINDOW)
        self._fingerprint = f"{reader.fingerprint};model={settings.embedding_model}"

    async def __call__(self, run: JobRun) -> None:
        """Raises Problem COLLECTION_NOT_FOUND, or one that may pass; a document's own problem is only reported."""
        assert isinstance(run.spec, IngestSpec)
        collection = await self._collections.get(run.job.tenant, run.spec.collection)
        report = ProgressReport(run, len(run.spec.documents))
        indexer = Batcher[_Embedded, Problem | None](
            partial(self._index, run, collection),
            name="index",
            max_items=COMMIT_DOCUMENTS,
            max_cost=COMMIT_PASSAGES,
            cost=lambda document: len(document.passages),
        )
        room = asyncio.Semaphore(self._settings.documents_in_work)

        async def ingest(ref: DocumentRef) -> None:
            try:
                await self._ingest(run, collection, ref, indexer, report)
            except Problem as problem:
                if problem.kind in PASSING:
                    raise
                report.fail(ref.name, problem)
            finally:
                room.release()

        async with report.reporting(), indexer.running():
            try:
                async with asyncio.TaskGroup() as tasks:
                    for ref in run.spec.documents:
                        await room.acquire()
                        tasks.create_task(ingest(ref))
            except ExceptionGroup as group:
                _raise_first(group)
        for ref in run.spec.documents:
            await self._discard(self._uploads, ref.object)

    async def _ingest(
        self,
        run: JobRun,
        collection: Collection,
        ref: DocumentRef,
        indexer: Batcher[_Embedded, Problem | None],
        report: ProgressReport,
    ) -> None:
        known = await self._documents.get(collection.table, document_id(ref.name))
        if known is not None and self._is_current(known, ref):
            mine = known.job == run.job.id
            report.add(indexed=int(mine), skipped=int(not mine), chunks=known.chunks if mine else 0, size=ref.bytes)
            return
        document = await self._read(ref)
        passages = await self._embed(run, collection, _passages(ref, document))
        problem = await indexer.submit(
            _Embedded(ref=ref, media_type=document.media_type, passages=passages), Lane.BATCH
        )
        if problem is not None:
            raise problem
        report.add(indexed=1, chunks=len(passages), size=ref.bytes)

    def _is_current(self, known: Document, ref: DocumentRef) -> bool:
        return (known.sha256, known.metadata, known.fingerprint) == (ref.sha256, ref.metadata, self._fingerprint)

    async def _read(self, ref: DocumentRef) -> ChunkedDocument:
        async with self._reading:
            try:
                async with asyncio.timeout(OBJECT_TIMEOUT):
                    stored = await self._uploads.get(ref.object)
            except ObjectNotFoundError:
                raise Problem(ProblemType.NOT_FOUND, "The uploaded file is no longer kept. Upload it again.") from None
            return await self._reader.read(ref.name, stored.data or b"", ref.media_type)

    async def _embed(self, run: JobRun, collection: Collection, passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
        stop = Stop(stage="embed", variant=self._settings.embedding_variant, params={"target": "passages"})

        async def embed(group: tuple[Passage, ...]) -> tuple[Passage, ...]:
            # Only what the embedder needs travels: the texts.
            bare = tuple(p.model_copy(update={"metadata": {}}) for p in group)
            async with self._embedding:
                made = await self._stages.ask(stop, tenant=run.job.tenant, collection=collection.table, passages=bare)
            return tuple(
                passage.model_copy(update={"vector": embedded.vector})
                for passage, embedded in zip(group, made.passages, strict=True)
            )

        try:
            async with asyncio.TaskGroup() as tasks:
                groups = [tasks.create_task(embed(group)) for group in self._groups(passages)]
        except ExceptionGroup as group:
            _raise_first(group)
        return tuple(passage for group in groups for passage in group.result())

    def _groups(self, passages: tuple[Passage, ...]) -> list[tuple[Passage, ...]]:
        groups: list[list[Passage]] = []
        size = MESSAGE_BYTES
        for passage in passages:
            length = len(passage.text.encode())
            if size + length > MESSAGE_BYTES or len(groups[-1]) >= self._settings.embed_passages:
                groups.append([])
                size = 0
            groups[-1].append(passage)
            size += length
        return [tuple(group) for group in groups]

    async def _index(self, run: JobRun, collection: Collection, batch: Sequence[_Embedded]) -> Sequence[Problem | None]:
        """Write a batch of documents in one commit, then their records. One result each: None, or why not."""
        # A collection that was deleted meanwhile must not come back as a table without an owner.
        if (await self._collections.get(run.job.tenant, collection.name)).table != collection.table:
            raise Problem(ProblemType.COLLECTION_NOT_FOUND, f"The collection '{collection.name}' was deleted.")
        name = f"{run.job.id}-{secrets.token_hex(8)}"
        data = await asyncio.to_thread(encode_passages, tuple(p for document in batch for p in document.passages))
        async with asyncio.timeout(OBJECT_TIMEOUT):
            await self._vectors.put(name, io.BytesIO(data))
        refs = tuple(_index_ref(run, document.ref) for document in batch)
        change = IndexChange(table=collection.table, documents=refs, object=name)
        answer = await self._stages.ask(
            Stop(stage="index", params=change.as_params()), tenant=run.job.tenant, collection=collection.table
        )
        outcome = IndexOutcome.model_validate(answer.notes.get("index", {}))
        results: list[Problem | None] = []
        for document in batch:
            refused = outcome.refused.get(document_id(document.ref.name))
            if refused is None:
                await self._documents.put(collection.table, self._record(run, document))
            results.append(Problem.from_details(refused) if refused else None)
        await self._discard(self._vectors, name)
        return results

    def _record(self, run: JobRun, document: _Embedded) -> Document:
        ref = document.ref
        return Document(
            id=document_id(ref.name),
            name=ref.name,
            sha256=ref.sha256,
            bytes=ref.bytes,
            chunks=len(document.passages),
            media_type=document.media_type,
            metadata=ref.metadata,
            indexed_at=time.time(),
            revision=run.revision,
            job=run.job.id,
            fingerprint=self._fingerprint,
        )

    async def _discard(self, store: ObjectStore, name: str) -> None:
        try:
            async with asyncio.timeout(OBJECT_TIMEOUT):
                await store.delete(name)
        except ObjectNotFoundError:
            return  # an earlier try at this job got this far


def _index_ref(run: JobRun, ref: DocumentRef) -> IndexedDocumentRef:
    return IndexedDocumentRef(id=document_id(ref.name), name=ref.name, version=ref.sha256, revision=run.revision)


def _passages(ref: DocumentRef, document: ChunkedDocument) -> tuple[Passage, ...]:
    identity = document_id(ref.name)
    return tuple(
        Passage(
            id=f"{identity}:{chunk.position}",
            document_id=identity,
            document=ref.name,
            position=chunk.position,
            text=chunk.text,
            metadata={**document.metadata, **({"page": chunk.page} if chunk.page else {}), **ref.metadata},
        )
        for chunk in document.chunks
    )


def _raise_first(group: ExceptionGroup[Exception]) -> NoReturn:
    """What went wrong first, out of the wrapping that a task group puts around it."""
    first: Exception = group
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    raise first from None
