"""Documents into the index of one version of a collection: read and cut, embedded, committed, recorded.

The record of a document is written after its chunks are in the index, and a commit replaces all chunks of a document
at once, so doing it again after a crash repairs what was left half done.
"""

import asyncio
import hashlib
import io
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from nats.js.errors import ObjectNotFoundError
from nats.js.object_store import ObjectStore

from services.scheduler.clients.embed import FLOAT_BYTES, PassageEmbedder
from services.scheduler.ingestion.chunking.chunker import Chunking
from services.scheduler.ingestion.fit_types import ReadyDocument, fit_types
from services.scheduler.ingestion.models import (
    IncomingDocument,
    MovedOnError,
    Outcome,
    Permissions,
    Target,
    Written,
    is_same,
    passages_of,
    reference_to,
)
from services.scheduler.ingestion.originals import Originals
from services.scheduler.ingestion.reader.reader import ChunkedDocument, DocumentReader
from services.scheduler.jobs.retry import PASSING
from services.scheduler.settings import SchedulerSettings
from shared.contracts.collections import WRITABLE, Collection, CollectionVersion
from shared.contracts.documents import Document, check_document_name
from shared.contracts.envelope import Lane, Stop
from shared.contracts.indexing import (
    DocumentPermissions,
    IndexChange,
    IndexedDocumentRef,
    encode_passages,
    index_outcome,
)
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.results import IndexOutcome
from shared.fairness import FairShare, FairSlots
from shared.nats.objects import owned_name
from shared.runtime.batching import Batcher
from shared.runtime.requester import Requester
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.tasks import task_group

__all__ = ["Indexer", "discard"]

COMMIT_DOCUMENTS: Final = 64
COMMIT_PASSAGES: Final = 2000
"""Documents and passages that one commit to the index takes at most; a larger document goes alone."""

COMMITS: Final = 2
"""Commits on their way to the index, which takes one at a time, so that few wait there in order of arrival."""

REMOVED_AT_ONCE: Final = 500
KNOWN_TABLES: Final = 10_000
OBJECT_TIMEOUT: Final = 120.0


_Commits = Batcher[ReadyDocument, Written | Problem]


class Indexer:
    """One per process; its bounds hold over all jobs together."""

    def __init__(
        self,
        *,
        stages: Requester,
        collections: Collections,
        documents: Documents,
        vectors: ObjectStore,
        originals: Originals,
        reader: DocumentReader,
        settings: SchedulerSettings,
    ) -> None:
        self._stages = stages
        self._collections = collections
        self._documents = documents
        self._vectors = vectors
        self._originals = originals
        self._reader = reader
        self._settings = settings
        weights = settings.weights
        self._embedder = PassageEmbedder(stages, most=settings.embed_passages, weights=weights)
        self._reading = FairSlots(
            FairShare(settings.reader_workers + 1, spare=settings.reader_spare + 1, weights=weights)
        )
        self._committing = FairSlots(FairShare(COMMITS, spare=COMMITS, weights=weights))
        self._tables: set[str] = set()
        """Tables that are known to be there. A table's name never comes again."""

    def chunking(self, version: CollectionVersion) -> Chunking:
        """How documents are cut for a version. Raises ValueError for sizes that do not go together."""
        usual = self._reader.chunking
        return Chunking(
            max_tokens=version.chunk_tokens or usual.max_tokens,
            overlap_tokens=usual.overlap_tokens if version.chunk_overlap is None else version.chunk_overlap,
        )

    def embed_stop(self, version: CollectionVersion) -> Stop:
        """The stop that embeds a version's passages, and the questions to it."""
        return Stop(stage="embed", variant=self._variant(version), params=version.embed_params)

    def _variant(self, version: CollectionVersion) -> str:
        if version.embedding_variant == "default":
            return self._settings.embedding_variant
        return version.embedding_variant

    def fingerprint(self, version: CollectionVersion) -> str:
        """Equal fingerprints promise equal chunks and vectors for equal documents."""
        variant, usual = self._variant(version), self._settings.embedding_variant
        model = version.embedding_model or (self._settings.embedding_model if variant == usual else variant)
        return f"{self._reader.fingerprint(self.chunking(version))};model={model}"

    async def read(self, collection: Collection, record: Document) -> ChunkedDocument:
        """The chunks of a document, made again from its original as the version has them that queries use.

        Raises Problem ORIGINALS_MISSING, and what the reader raises for a document.
        """
        data = await self._originals.load(record.original, owner=collection.owner)
        tenant = collection.tenant
        async with self._reading.slot(tenant):
            chunking = self.chunking(collection.queried)
            return await self._reader.read(record.name, data, record.media_type, chunking=chunking, tenant=tenant)

    async def write(
        self,
        target: Target,
        documents: Iterable[IncomingDocument],
        *,
        written: Callable[[IncomingDocument, Written], None],
        failed: Callable[[IncomingDocument, Problem], None],
    ) -> None:
        """Write documents to a version, many at a time, several in one commit, and report the outcome of each.

        What is there already as it is costs nothing. A document's own problem is `failed`; raised are problems that
        may pass, COLLECTION_NOT_FOUND where the collection was deleted meanwhile, and MovedOnError.
        """
        room = asyncio.Semaphore(self._settings.documents_in_work)
        commits = _Commits(
            partial(self._commit, target),
            name="index",
            max_items=COMMIT_DOCUMENTS,
            max_cost=COMMIT_PASSAGES,
            cost=lambda document: len(document.passages),
        )

        async def write(document: IncomingDocument) -> None:
            try:
                written(document, await self._write(target, document, commits))
            except Problem as problem:
                if problem.kind in PASSING or problem.kind is ProblemType.COLLECTION_NOT_FOUND:
                    raise
                failed(document, problem)
            finally:
                room.release()

        async with commits.running(), task_group() as tasks:
            for document in documents:
                await room.acquire()
                tasks.create_task(write(document))

    async def remove(self, target: Target, documents: Sequence[tuple[str, int]]) -> AsyncIterator[int]:
        """Remove documents, each by id and by the revision of the change. Yields how many are done, now and then.

        First from the index, then the records: a crash between the two is repaired by doing it again. A document
        without a record may come with an earlier job that is still at it. Its removal is noted before the index is
        changed: where there is no table yet, only the note tells that job of it. Raises as `write` does.
        """
        for start in range(0, len(documents), REMOVED_AT_ONCE):
            group = documents[start : start + REMOVED_AT_ONCE]
            await self._check(target)
            recorded = [
                (name, revision)
                for name, revision in group
                if not await self._documents.note_removal(target.table, name, revision, owner=target.owner)
            ]
            refs = tuple(IndexedDocumentRef(id=name, name="", revision=revision) for name, revision in group)
            removal = IndexChange(table=target.table, documents=refs)
            is_absent = (await self._change(target, removal)).absent
            for name, revision in recorded:
                removed = await self._documents.delete(target.table, name, revision, owner=target.owner)
                if removed is not None and removed.original:
                    await self._originals.release(target.collection, name, removed.original)
            if is_absent and recorded:
                # The index has lost the table. It may have come back before these removals were noted.
                await self._change(target, removal)
            yield start + len(group)

    async def permit(self, target: Target, documents: Sequence[str], permissions: Permissions) -> int:
        """Change who may see documents (by id) and nothing else: first in the index, then in the records. Returns how
        many there are.

        Raises Problem STAGE_UNAVAILABLE where a retriever of a version that knows no lists has taken the change.
        """
        await self._note_lists(target, [permissions])
        allowed, revision = permissions.allowed, permissions.revision
        for start in range(0, len(documents), REMOVED_AT_ONCE):
            lists = tuple(
                DocumentPermissions(id=document, allowed=allowed, revision=revision)
                for document in documents[start : start + REMOVED_AT_ONCE]
            )
            await self._change(target, IndexChange(table=target.table, permissions=lists))
        found = [
            await self._documents.permit(target.table, document, allowed, revision, owner=target.owner)
            for document in documents
        ]
        return sum(record is not None for record in found)

    async def _note_lists(self, target: Target, permissions: Iterable[Permissions]) -> None:
        """Mark the collection before its first document has a list: from then on all that looks at it goes by them."""
        if target.collection.restricted or all(one.allowed is None for one in permissions):
            return
        await self._collections.update(target.collection, lambda known: known.model_copy(update={"restricted": True}))

    async def _permissions(self, target: Target, document: IncomingDocument, known: Document | None) -> Permissions:
        """Who may see a document: what it says itself, or the latest that the version or the live one says."""
        said = [document.permissions] if document.permissions is not None else []
        said += [Permissions.of(known)] if known is not None else []
        if target.table != target.collection.table:
            live = await self._documents.get(target.collection.table, document.id, owner=target.owner)
            said += [Permissions.of(live)] if live is not None else []
        return max(said, key=lambda one: one.revision, default=Permissions())

    async def _follow_list(self, target: Target, document: IncomingDocument, written: Permissions) -> None:
        """Repeat a change of the list that came to the live version while a copy of the document was written."""
        if target.table == target.collection.table:
            return
        live = await self._documents.get(target.collection.table, document.id, owner=target.owner)
        if live is not None and live.allowed_revision > written.revision:
            await self.permit(target, [document.id], Permissions.of(live))

    async def _write(self, target: Target, document: IncomingDocument, commits: _Commits) -> Written:
        document = replace(document, name=check_document_name(document.name))
        known = await self._documents.get(target.table, document.id, owner=target.owner)
        permissions = await self._permissions(target, document, known)
        done = await self._written(target, document, commits, known, permissions)
        if done.outcome is Outcome.UNCHANGED and known is not None and permissions.revision > known.allowed_revision:
            await self.permit(target, [document.id], permissions)
        await self._follow_list(target, document, permissions)
        return done

    async def _written(
        self,
        target: Target,
        document: IncomingDocument,
        commits: _Commits,
        known: Document | None,
        permissions: Permissions,
    ) -> Written:
        fingerprint = self.fingerprint(target.version)
        whole = known is not None and bool(known.original or not self._settings.keep_originals)
        if known is not None and whole and is_same(known, document, fingerprint, document.sha256):
            return _written(known, Outcome.UNCHANGED)
        async with self._reading.slot(target.tenant):
            data = await document.load()
            sha256 = document.sha256 or await asyncio.to_thread(_digest, data)
            if known is not None and is_same(known, document, fingerprint, sha256):
                # With the new stamp it need not be loaded the next time, and its original may not have been kept.
                original = known.original or (await self._kept(target, document, data)).original
                await self._documents.put(target.table, _noted(known, document, original), owner=target.owner)
                return _written(known, Outcome.UNCHANGED)
            chunking = self.chunking(target.version)
            read = await self._reader.read(
                document.name, data, document.media_type, chunking=chunking, tenant=target.tenant
            )
            document = await self._kept(target, document, data)
            size = len(data)
            del data
        passages = await self._embedder.embed(
            self.embed_stop(target.version), target.tenant, target.table, passages_of(document, read)
        )
        record = Document(
            id=document.id,
            name=document.name,
            sha256=sha256,
            bytes=size,
            chunks=len(passages),
            media_type=read.media_type,
            metadata=document.metadata,
            indexed_at=time.time(),
            revision=document.revision,
            job=document.job,
            fingerprint=fingerprint,
            original=document.original,
            origin=document.origin,
            stamp=document.stamp,
            warnings=read.warnings,
            allowed=permissions.allowed,
            allowed_revision=permissions.revision,
        )
        done = await commits.submit(ReadyDocument(record=record, passages=passages), Lane.BATCH)
        indexed = not isinstance(done, Problem) and done.outcome is Outcome.INDEXED
        if not indexed and record.original:
            await self._originals.release(target.collection, record.id, record.original)
        if isinstance(done, Problem):
            raise done
        return done

    async def _kept(self, target: Target, document: IncomingDocument, data: bytes) -> IncomingDocument:
        """The document with its bytes kept."""
        if document.original or not self._settings.keep_originals:
            return document
        original = await self._originals.keep(target.collection, document.id, document.revision, data)
        return replace(document, original=original)

    async def _commit(self, target: Target, batch: Sequence[ReadyDocument]) -> Sequence[Written | Problem]:
        """Write a batch of documents in one commit, then their records."""
        await self._check(target)
        name = owned_name(target.tenant, f"{target.job}-{secrets.token_hex(16)}")
        data = await asyncio.to_thread(encode_passages, tuple(p for document in batch for p in document.passages))
        async with asyncio.timeout(OBJECT_TIMEOUT):
            await self._vectors.put(name, io.BytesIO(data))
        await self._note_lists(target, [Permissions.of(document.record) for document in batch])
        removed = await self._removed(target, batch)
        refs = [reference_to(document.record) for document in batch if document.record.id not in removed]
        change = IndexChange(
            table=target.table,
            documents=tuple(ref for ref in refs if ref.allowed is None),
            restricted=tuple(ref for ref in refs if ref.allowed is not None),
            object=name,
        )
        done = await self._change(target, change)
        results: list[Written | Problem] = []
        for document in batch:
            if document.record.id in removed:
                results.append(_written(document.record, Outcome.SUPERSEDED))
            elif (refused := done.refused.get(document.record.id)) is not None:
                fitted = fit_types(document, refused)
                again = await self._commit(target, [fitted]) if fitted is not None else [Problem.from_details(refused)]
                results += again
            elif document.record.id in done.superseded:
                record = document.record
                await self._documents.permit(
                    target.table, record.id, record.allowed, record.allowed_revision, owner=target.owner
                )
                results.append(_written(record, Outcome.SUPERSEDED))
            else:
                results.append(_written(document.record, await self._record(target, document.record)))
        await discard(self._vectors, name)
        return results

    async def _removed(self, target: Target, batch: Sequence[ReadyDocument]) -> set[str]:
        """Those of the documents that a later job has removed.

        There is a table from here on. So a removal that comes from now on is in the index, and one that has found no
        table has been noted before.
        """
        vector = next((p.vector for document in batch for p in document.passages if p.vector), None)
        if vector is not None and target.table not in self._tables:
            await self._change(target, IndexChange(table=target.table, dimension=len(vector) // FLOAT_BYTES))
            if len(self._tables) >= KNOWN_TABLES:
                self._tables.clear()
            self._tables.add(target.table)
        ids = [document.record.id for document in batch]
        removals = await self._documents.removals(target.table, ids)
        return {each.record.id for each in batch if removals.get(each.record.id, -1) > each.record.revision}

    async def _record(self, target: Target, record: Document) -> Outcome:
        replaced = await self._documents.put(target.table, record, owner=target.owner)
        if replaced is not None and replaced.original not in ("", record.original):
            await self._originals.release(target.collection, record.id, replaced.original)
        return Outcome.SUPERSEDED if replaced is record else Outcome.INDEXED

    async def _check(self, target: Target) -> None:
        """A version that nobody needs any more must not come back as a table without an owner."""
        now = await self._collections.get(target.tenant, target.collection.name)
        if now.id != target.collection.id:
            raise Problem(ProblemType.COLLECTION_NOT_FOUND, f"The collection '{now.name}' was deleted.")
        if not any(version.state in WRITABLE for version in now.on(target.table)):
            raise MovedOnError

    async def _change(self, target: Target, change: IndexChange) -> IndexOutcome:
        stop = Stop(stage="index", params=change.as_params())
        async with self._committing.slot(target.tenant):
            answer = await self._stages.ask(
                stop, tenant=target.tenant, collection=target.table, collection_id=target.owner.collection
            )
        outcome = index_outcome(answer)
        lists = {ref.id for ref in change.restricted} | {one.id for one in change.permissions}
        if not lists <= set(outcome.listed):
            # What has a list was left alone by it, so nothing is open that should not be.
            detail = (
                "A retriever of a version that knows no lists of principals writes the index. Update all retrievers."
            )
            raise Problem(ProblemType.STAGE_UNAVAILABLE, detail)
        return outcome


async def discard(store: ObjectStore, name: str) -> None:
    """Delete an object, if it is still there."""
    try:
        async with asyncio.timeout(OBJECT_TIMEOUT):
            await store.delete(name)
    except ObjectNotFoundError:
        return  # an earlier try got this far


def _written(record: Document, outcome: Outcome) -> Written:
    return Written(outcome=outcome, chunks=record.chunks, job=record.job, warnings=record.warnings)


def _noted(known: Document, document: IncomingDocument, original: str) -> Document:
    """The record of a document that came again, unchanged."""
    return known.model_copy(update={"origin": document.origin, "stamp": document.stamp, "original": original})


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
