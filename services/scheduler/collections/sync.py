"""Gives one version of a collection the same documents as the live one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.ingestion.models import IncomingDocument, MovedOnError, Permissions, Target, Written
from services.scheduler.ingestion.originals import Originals
from services.scheduler.ingestion.progress import ProgressReport
from services.scheduler.jobs.kinds import JobDependencies
from shared.contracts.documents import Document
from shared.contracts.problems import Problem
from shared.stores.collections import Collections
from shared.stores.documents import Documents

__all__ = ["CollectionSync", "Pass"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one pass over the difference did. `left` are documents that could not be copied, by name."""

    copied: int = 0
    removed: int = 0
    left: Mapping[str, Problem] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.copied or self.removed or self.left)


class CollectionSync:
    def __init__(
        self, *, indexer: Indexer, collections: Collections, documents: Documents, originals: Originals
    ) -> None:
        self._indexer = indexer
        self._collections = collections
        self._documents = documents
        self._originals = originals

    async def catch_up(self, target: Target, report: ProgressReport, *, message: str, anew: bool) -> Pass:
        """Copy what differs from the live version and remove what is not in it.

        `anew` makes again what is there but was not made as the version would make it now. A copy has the revision of
        what it is a copy of, so a later change is never undone. Raises as `Indexer.write` does, and MovedOnError where
        another version has become live, or the version has ceased to follow, since the target was made.
        """
        # In this order: what a job brings to both, to the live version first, is not taken for removed from it.
        there = {record.id: record for record in await self._documents.list(target.table, owner=target.owner)}
        records = await self._documents.list(target.collection.table, owner=target.owner)
        live = {record.id: record for record in records}
        await self._check_periods(target)
        fingerprint = self._indexer.fingerprint(target.version) if anew else None
        stale = [record for record in live.values() if _differs(record, there.get(record.id), fingerprint)]
        gone = [(record.id, record.revision) for record in there.values() if record.id not in live]
        report.begin(len(live), message)
        same = [there[record.id] for record in live.values() if not _differs(record, there.get(record.id), fingerprint)]
        report.add(indexed=len(same), chunks=sum(record.chunks for record in same))
        copied, left = await self._copy(target, stale, report)
        async for _ in self._indexer.remove(target, gone):
            report.say(f"{message}: removing {len(gone):,}")
        return Pass(copied=copied, removed=len(gone), left=await self._still(target, left))

    async def _check_periods(self, target: Target) -> None:
        """What one version has and the other has not means something only if both were what they are all the time:
        a document may be missing in a version because it is live no more."""
        now = await self._collections.get(target.tenant, target.collection.name)
        version = now.find(target.version.name)
        before = target.collection.live
        if version is None or (now.live.name, now.live.period) != (before.name, before.period):
            raise MovedOnError
        if (version.state, version.period) != (target.version.state, target.version.period):
            raise MovedOnError

    async def _copy(
        self, target: Target, records: list[Document], report: ProgressReport
    ) -> tuple[int, dict[str, tuple[IncomingDocument, Problem]]]:
        copied = 0
        left: dict[str, tuple[IncomingDocument, Problem]] = {}

        def written(document: IncomingDocument, done: Written) -> None:
            nonlocal copied
            copied += 1
            report.add(indexed=1, chunks=done.chunks, size=document.size)

        def failed(document: IncomingDocument, problem: Problem) -> None:
            left[document.name] = document, problem

        incoming = (self._incoming(target, record) for record in records)
        await self._indexer.write(target, incoming, written=written, failed=failed)
        return copied, left

    async def _still(self, target: Target, left: dict[str, tuple[IncomingDocument, Problem]]) -> dict[str, Problem]:
        """Of the documents that could not be copied, those that have not been changed or removed meanwhile."""
        still: dict[str, Problem] = {}
        for name, (document, problem) in left.items():
            now = await self._documents.get(target.collection.table, document.id, owner=target.owner)
            if now is not None and now.revision == document.revision:
                still[name] = problem
        return still

    def _incoming(self, target: Target, record: Document) -> IncomingDocument:
        return IncomingDocument(
            name=record.name,
            load=partial(self._originals.load, record.original, owner=target.owner),
            size=record.bytes,
            revision=record.revision,
            job=record.job,
            sha256=record.sha256,
            media_type=record.media_type,
            metadata=record.metadata,
            origin=record.origin,
            stamp=record.stamp,
            original=record.original,
            permissions=Permissions.of(record),
        )


def _differs(live: Document, there: Document | None, fingerprint: str | None) -> bool:
    if there is None or (there.sha256, there.metadata) != (live.sha256, live.metadata):
        return True
    if (there.allowed, there.allowed_revision) != (live.allowed, live.allowed_revision):
        return True
    return fingerprint is not None and there.fingerprint != fingerprint


def collection_sync(dependencies: JobDependencies) -> CollectionSync:
    return CollectionSync(
        indexer=dependencies.indexer,
        collections=dependencies.collections,
        documents=dependencies.documents,
        originals=dependencies.originals,
    )
