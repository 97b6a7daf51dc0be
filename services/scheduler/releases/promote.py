"""The job kind `promote`: a release becomes what answers its collection, or the one before does again.

The index changes hands by a `switch`, so the collection is never without one. All else that a release says is written
to the collection's record: first to the version that is to be live, and after the switch to the collection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel

from services.scheduler.collections.switch import SwitchJob, switch_job
from services.scheduler.ingestion.progress import ProgressReport
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, job_kind
from shared.contracts.collections import Collection, CollectionVersion, VersionState
from shared.contracts.jobs import PromoteSpec
from shared.contracts.models import ADAPTS, EMBEDS, RERANKS
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.releases import Release, ReleaseContent, ReleaseEvent, ReleaseStage
from shared.stores.collections import Collections
from shared.stores.models import ModelStore
from shared.stores.releases import ReleaseStore

__all__ = ["PromoteJob"]


class _Plan(BaseModel):
    """What is to be live, decided once: after a crash "the one before" would be another. `before` is the release that
    was live, "" for none."""

    collection: str
    version: str
    release: str = ""
    before: str = ""
    rollback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteJob:
    """One per process."""

    collections: Collections
    models: ModelStore
    releases: ReleaseStore
    switching: SwitchJob

    async def __call__(self, context: JobContext) -> None:
        """Raises Problem COLLECTION_NOT_FOUND, NOT_FOUND, MODEL_NOT_FOUND, or VERSION_NOT_READY where the release's
        index is gone, and as a switch does."""
        spec = context.spec
        assert isinstance(spec, PromoteSpec)
        saved = await context.checkpoint()
        collection = await self.collections.get(context.tenant, spec.collection)
        plan = await self._plan(context, spec, collection) if saved is None else _Plan.model_validate(saved)
        if plan.collection != collection.id:
            raise Problem(ProblemType.COLLECTION_NOT_FOUND, f"The collection '{spec.collection}' was deleted.")
        await context.save(plan.model_dump(mode="json"))
        report = ProgressReport(context)
        async with report.reporting():
            content = None
            if plan.release:
                content = (await self.releases.get(context.tenant, plan.release)).content
                await self._check(context, collection, content)
                collection = await self.collections.update(
                    collection, partial(_prepared, content=content, release=plan.release)
                )
            before = await self.switching.make_live(
                context, collection, plan.version, keep=spec.keep, force=spec.force, report=report, noted=False
            )
            if before is not None and before.release != plan.before:
                # Another promotion came between the plan and the switch: its release is the one that leaves.
                plan = plan.model_copy(update={"before": before.release})
                await context.save(plan.model_dump(mode="json"))
            if content is not None:
                await self.collections.update(
                    collection, partial(_prepared, content=content, release=plan.release, live=True)
                )
        await self._note(context, spec, plan)
        previous = context.outputs.pop("previous", None)
        context.outputs.update(release=plan.release, previous=plan.before, live=True)
        if previous is not None:
            context.outputs["previous_version"] = previous

    async def _plan(self, context: JobContext, spec: PromoteSpec, collection: Collection) -> _Plan:
        before = collection.live.release
        if spec.release is not None:
            release = await self.releases.get(context.tenant, spec.release)
            if release.content.collection != spec.collection:
                detail = f"The release '{spec.release}' is one of the collection '{release.content.collection}'."
                raise Problem(ProblemType.INVALID_REQUEST, detail)
            return _Plan(
                collection=release.content.collection_id,
                version=release.content.version,
                release=release.name,
                before=before,
            )
        releases, previous = await self.releases.list(context.tenant, collection.name), collection.previous
        earlier = _before(collection, releases)
        if earlier is not None:
            version, release_name = earlier.content.version, earlier.name
        elif previous is not None and previous.release not in {one.name for one in releases}:
            # Of a release that was deleted its version is left. One that is there was passed over.
            version, release_name = previous.name, ""
        else:
            detail = f"The collection '{collection.name}' has no earlier release or version to go back to."
            raise Problem(ProblemType.VERSION_NOT_READY, detail)
        return _Plan(collection=collection.id, version=version, release=release_name, before=before, rollback=True)

    async def _check(self, context: JobContext, collection: Collection, content: ReleaseContent) -> None:
        if _index_of(collection, content) is None:
            raise Problem(
                ProblemType.VERSION_NOT_READY,
                f"The version '{content.version}' of the collection '{collection.name}' is not there any more, so the "
                "release has no index. Reindex with its settings, and make a release of the new version; `keep` says "
                "how many versions stay.",
            )
        await self.models.require(context.tenant, content.embedding_model, *EMBEDS)
        await self.models.require(context.tenant, content.rerank_model, *RERANKS)
        await self.models.require(context.tenant, content.adapter, *ADAPTS)

    async def _note(self, context: JobContext, spec: PromoteSpec, plan: _Plan) -> None:
        """Who made which release what, and why. Each is noted once, however often the job is tried."""
        event = partial(ReleaseEvent.of_job, context.job)
        reason = spec.reason or (ROLLBACK if plan.rollback else "")
        if plan.before and plan.before != plan.release:
            back = f"{ROLLBACK}: {spec.reason}" if spec.reason else ROLLBACK
            after = back if plan.rollback else f"{plan.release} is live"
            await self.releases.note(context.tenant, plan.before, event(ReleaseStage.ARCHIVED, after))
        if plan.release:
            await self.releases.note(context.tenant, plan.release, event(ReleaseStage.LIVE, reason))


ROLLBACK = "Rolled back"


def _before(collection: Collection, releases: Sequence[Release]) -> Release | None:
    """The release that was live last before the one that is now, and whose index is still there.

    What was rolled back is not gone back to: after a rollback another one goes further back.
    """
    live, previous = collection.live.release, collection.previous
    current = next((one for one in releases if one.name == live), None)
    if current is None and previous is not None and not previous.release:
        return None  # neither was released: the version before is the truth
    found = [
        (at, one)
        for one in releases
        if one.name != live
        and one.content.collection_id == collection.id
        and (at := _live_at(collection, one))
        and not _was_rolled_back(one)
    ]
    return max(found, key=lambda pair: pair[0], default=(0.0, None))[1]


def _live_at(collection: Collection, release: Release) -> float:
    """When a release was live last, whose index is still there; else 0."""
    version = _index_of(collection, release.content)
    if version is None:
        return 0.0
    retired_at = version.retired_at if version.release == release.name else None
    return max(release.live_at, retired_at or 0.0)


def _was_rolled_back(release: Release) -> bool:
    last = release.events[-1] if release.events else None
    return last is not None and last.stage is ReleaseStage.ARCHIVED and last.reason.startswith(ROLLBACK)


def _index_of(collection: Collection, content: ReleaseContent) -> CollectionVersion | None:
    """The version that a release needs, where it is still there."""
    version = collection.find(content.version)
    gone = version is None or version.table != content.table
    return None if gone or version.state in (VersionState.BUILDING, VersionState.LEAVING) else version  # type: ignore[union-attr]


def _prepared(collection: Collection, *, content: ReleaseContent, release: str, live: bool = False) -> Collection:
    """With what the release says written to its version, and to the collection once it is `live`.

    A version that answers already changes as it becomes live, at one moment with the rest.
    """
    version = collection.find(content.version)
    if version is None or (version.state is VersionState.LIVE and not live and version.release == release):
        return collection
    if live and version.state is not VersionState.LIVE:
        return collection  # another switch came between, and its job says what answers now
    changed = collection.changed(
        content.version,
        retrieval=content.retrieval,
        rerank_candidates=content.rerank_candidates,
        rerank_model=content.rerank_model,
        adapter=content.adapter,
        release=release,
    )
    return changed.model_copy(update={"pipeline": content.pipeline}) if live else changed


@job_kind(PromoteSpec)
def promote(dependencies: JobDependencies) -> JobFunction:
    return PromoteJob(
        collections=dependencies.collections,
        models=dependencies.models,
        releases=ReleaseStore(dependencies.bus.jetstream),
        switching=switch_job(dependencies),
    )
