"""The job kind `switch`: another version of a collection becomes the live one, and the way back.

While the version catches up it follows the live one: jobs that change the collection change it too. So at the moment
of the switch it has every document of the live one as every job left it that had ended by then, and a job that has not
ended yet brings its own. The switch itself is one compare-and-set of the collection's record: a query uses either the
table from before or the new one, and the table from before stays until no query can use it any more.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final

import anyio
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from services.scheduler.collections.index_check import IndexCheck
from services.scheduler.collections.sync import CollectionSync, collection_sync
from services.scheduler.ingestion.models import MovedOnError, Target
from services.scheduler.ingestion.progress import ProgressReport
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, job_kind
from services.scheduler.jobs.retry import submit_later
from shared.contracts.collections import Collection, CollectionVersion, VersionState
from shared.contracts.jobs import DropSpec, SwitchSpec
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.releases import ReleaseEvent, ReleaseStage
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.stores.releases import ReleaseStore

__all__ = ["SwitchJob", "not_indexed"]

GATEWAY_MEMORY: Final = 10.0
"""Seconds for which a gateway may go by what it has read of a collection, by far."""

LONGEST_NAME: Final = 59
"""Characters of a table's name in the id of the job that removes it: the last ones, which are random."""

LAST_WORDS: Final = 5.0

TRIES: Final = 10
"""Switches of others to and fro that one switch outlives."""

CAN_GO_LIVE: Final = frozenset({VersionState.READY, VersionState.RETIRED, VersionState.FOLLOWING})


class SwitchJob:
    """`longest_query` is how many seconds a query may take at most."""

    def __init__(
        self,
        *,
        jetstream: JetStreamContext,
        collections: Collections,
        documents: Documents,
        sync: CollectionSync,
        check: IndexCheck,
        longest_query: float,
        releases: ReleaseStore | None = None,
    ) -> None:
        self._js = jetstream
        self._collections = collections
        self._documents = documents
        self._sync = sync
        self._check = check
        self._drop_after = longest_query + GATEWAY_MEMORY
        self._releases = releases

    async def __call__(self, context: JobContext) -> None:
        """Raises Problem COLLECTION_NOT_FOUND, NOT_FOUND or VERSION_NOT_READY."""
        assert isinstance(context.spec, SwitchSpec)
        collection = await self._collections.get(context.tenant, context.spec.collection)
        # After a crash "the version before" is another one, so the first try decides which it is.
        name = await context.checkpoint() or context.spec.version or _previous(collection)
        assert isinstance(name, str)
        await context.save(name)
        report = ProgressReport(context)
        async with report.reporting():
            await self.make_live(
                context, collection, name, keep=context.spec.keep, force=context.spec.force, report=report
            )

    async def make_live(
        self,
        context: JobContext,
        collection: Collection,
        name: str,
        *,
        keep: int,
        force: bool,
        report: ProgressReport,
        noted: bool = True,
    ) -> CollectionVersion | None:
        """Bring a version up to date and make it the live one, unless it is. Doing it again repairs what was left.

        Returns the version that was live until this, which another switch may have made live since `collection` was
        read; None where nothing was to be switched.

        Where the versions are releases the change is noted with these, unless the caller does so.
        Raises Problem INDEX_DAMAGED, unless it is to be done by `force`, and VERSION_NOT_READY.
        """
        collection.version(name)
        before = collection.live
        for _ in range(TRIES):
            if collection.live.name == name:
                break
            try:
                collection, before = await self._switched(
                    context, collection, name, keep=keep, force=force, report=report
                )
            except MovedOnError:
                # Another switch came between. What was compared holds no more, so it is done anew.
                collection = await self._again(collection)
        if collection.live.name != name:
            raise _taken(name)
        await self.drop_leaving(context, collection)
        version = collection.version(name)
        if noted:
            await self._note(context, version.release, before.release if before.name != name else "")
        context.outputs.update(version=name, documents=version.documents, chunks=version.chunks, live=True)
        if before.name == name:
            return None
        context.outputs["previous"] = before.name
        return before

    async def follow(
        self, context: JobContext, collection: Collection, name: str, *, force: bool, report: ProgressReport
    ) -> Collection:
        """Bring a version up to date and leave it following the live one. Returns the collection as it is then.

        Raises as `make_live` does; then the version follows no more.
        """
        for _ in range(TRIES):
            try:
                return await self._followed(context, collection, name, force=force, report=report)
            except MovedOnError:
                collection = await self._again(collection)
        raise _taken(name)

    async def unfollow(self, collection: Collection, name: str, period: str) -> None:
        """Have a version follow no more that has followed since this period began."""
        await self._collections.update(collection, partial(_not_following, name=name, period=period))

    async def _followed(
        self, context: JobContext, collection: Collection, name: str, *, force: bool, report: ProgressReport
    ) -> Collection:
        """The collection with the version up to date and following; or live, where it is already. Raises MovedOnError
        where another switch came between."""
        if not force:
            # What the live one has lost would be removed from the other too.
            await self._check.require(collection.owner, collection.table, collection.name)
        collection = await self._collections.update(collection, partial(_following, name=name))
        if collection.live.name == name:
            return collection
        period = collection.version(name).period
        try:
            await self._catch_up(context, collection, name, report)
            if not force:
                await self._check.require(collection.owner, collection.version(name).table, collection.name)
        except BaseException:
            with suppress(Problem, NatsError, TimeoutError), anyio.move_on_after(LAST_WORDS, shield=True):
                await self.unfollow(collection, name, period)
            raise
        return collection

    async def _switched(
        self, context: JobContext, collection: Collection, name: str, *, keep: int, force: bool, report: ProgressReport
    ) -> tuple[Collection, CollectionVersion]:
        """The collection with the version as the live one, and the version that was live until then. Raises
        MovedOnError where another switch came between."""
        collection = await self._followed(context, collection, name, force=force, report=report)
        before = collection.live
        if before.name == name:
            return collection, before
        period = collection.version(name).period
        try:
            counts = await asyncio.gather(
                self._counts(collection, collection.table),
                self._counts(collection, collection.version(name).table),
            )
            switched = await self._collections.update(
                collection, partial(_live, name=name, period=period, keep=keep, old=counts[0], new=counts[1])
            )
        except BaseException:
            with suppress(Problem, NatsError, TimeoutError), anyio.move_on_after(LAST_WORDS, shield=True):
                await self.unfollow(collection, name, period)
            raise
        return switched, before

    async def _note(self, context: JobContext, release: str, before: str) -> None:
        """Note with the releases which one is live, and which one is not any more."""
        if self._releases is None:
            return
        if before and before != release:
            event = ReleaseEvent.of_job(context.job, ReleaseStage.ARCHIVED)
            await self._releases.note(context.tenant, before, event)
        if release:
            live = ReleaseEvent.of_job(context.job, ReleaseStage.LIVE)
            await self._releases.note(context.tenant, release, live, unless_last=True)

    async def _again(self, collection: Collection) -> Collection:
        """The collection as it is now. Raises Problem COLLECTION_NOT_FOUND."""
        return await self._collections.update(collection, lambda now: now)

    async def drop_leaving(self, context: JobContext, collection: Collection) -> None:
        """Have the tables of versions that nobody can go back to removed, once no query can use them any more."""
        for version in collection.leaving:
            spec = DropSpec(collection=collection.name, table=version.table, version=version.name)
            # Each version that shares a table leaves it with a job of its own.
            shared = len(collection.on(version.table)) > 1
            job = f"drop-{_digest(version) if shared else version.table[-LONGEST_NAME:]}"
            await submit_later(self._js, spec, job=job, tenant=context.tenant, delay=self._drop_after)

    async def _catch_up(self, context: JobContext, collection: Collection, name: str, report: ProgressReport) -> None:
        target = Target(collection=collection, version=collection.version(name), job=context.job.id)
        done = await self._sync.catch_up(target, report, message=f"{name} catches up", anew=False)
        if done.left:
            raise not_indexed(name, done.left, report)

    async def _counts(self, collection: Collection, table: str) -> tuple[int, int]:
        records = await self._documents.list(table, owner=collection.owner)
        return len(records), sum(record.chunks for record in records)


def not_indexed(name: str, left: Mapping[str, Problem], report: ProgressReport) -> Problem:
    """Why a version cannot become the live one: it would lack these documents."""
    for document, problem in left.items():
        report.fail(document, problem)
    document, problem = next(iter(left.items()))
    return Problem(
        ProblemType.VERSION_NOT_READY,
        f"{len(left):,} of the live version's documents could not be indexed for '{name}', so the live one stays. "
        f"The first is {document}: {problem.detail}",
    )


def _previous(collection: Collection) -> str:
    if collection.previous is None:
        raise Problem(
            ProblemType.VERSION_NOT_READY, f"The collection '{collection.name}' has no earlier version to go back to."
        )
    return collection.previous.name


def _following(collection: Collection, *, name: str) -> Collection:
    version = collection.version(name)
    if version.state is VersionState.LIVE:
        return collection
    if version.state not in CAN_GO_LIVE:
        raise Problem(
            ProblemType.VERSION_NOT_READY,
            f"The version '{name}' of the collection '{collection.name}' is {version.state}; "
            "one that is ready or retired can become the live one.",
        )
    if version.state is VersionState.FOLLOWING:
        return collection  # another switch to it is under way; it may be for both
    return collection.changed(name, state=VersionState.FOLLOWING, period=secrets.token_hex(8))


def _not_following(collection: Collection, *, name: str, period: str) -> Collection:
    version = collection.find(name)
    if version is None or (version.state, version.period) != (VersionState.FOLLOWING, period):
        return collection
    was = VersionState.READY if version.retired_at is None else VersionState.RETIRED
    return collection.changed(name, state=was)


def _live(
    collection: Collection, *, name: str, period: str, keep: int, old: tuple[int, int], new: tuple[int, int]
) -> Collection:
    version = collection.version(name)
    if version.state is VersionState.LIVE:
        return collection
    if (version.state, version.period) != (VersionState.FOLLOWING, period):
        raise MovedOnError
    counted = collection.changed(collection.live.name, documents=old[0], chunks=old[1])
    return counted.changed(name, documents=new[0], chunks=new[1]).switched(name, keep=keep)


def _digest(version: CollectionVersion) -> str:
    return hashlib.sha256(f"{version.table}/{version.name}".encode()).hexdigest()[:32]


def _taken(name: str) -> Problem:
    return Problem(ProblemType.VERSION_NOT_READY, f"Another job has changed the version '{name}' meanwhile. Try again.")


@job_kind(SwitchSpec)
def switch(dependencies: JobDependencies) -> JobFunction:
    return switch_job(dependencies)


def switch_job(dependencies: JobDependencies) -> SwitchJob:
    return SwitchJob(
        jetstream=dependencies.bus.jetstream,
        collections=dependencies.collections,
        documents=dependencies.documents,
        sync=collection_sync(dependencies),
        check=IndexCheck(dependencies.stages, dependencies.documents),
        longest_query=dependencies.settings.longest_deadline,
        releases=ReleaseStore(dependencies.bus.jetstream),
    )
