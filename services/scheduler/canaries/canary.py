"""The job kind `canary`: a version of a collection answers a growing share of the questions, and goes live or back.

The version follows the live one, so it has every document. The share is a member of the collection's record, with a
time at which it ends by itself: a scheduler that is gone for long leaves nobody with a version that nobody watches.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final

import anyio
from pydantic import BaseModel, ConfigDict

from services.scheduler.canaries.judgement import Phase, worse
from services.scheduler.collections.switch import SwitchJob, switch_job
from services.scheduler.ingestion.progress import ProgressReport
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from services.scheduler.jobs.retry import PASSING
from shared.contracts.canaries import CanaryCounts, VersionCounts
from shared.contracts.collections import Collection, VersionCanary
from shared.contracts.jobs import CanarySpec
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.releases import ReleaseEvent, ReleaseStage
from shared.stores.canaries import CanaryStore
from shared.stores.collections import Collections
from shared.stores.releases import ReleaseStore

__all__ = ["CanaryJob"]

LOOK: Final = 2.0
"""Seconds between two looks at the counts; gateways write them as often."""

LEASE: Final = 60.0
"""Seconds for which gateways go by a share that nobody renews. The clocks of machines may differ by less."""

RENEW: Final = 40.0
"""A share is renewed once so many seconds of it are left."""


class _State(BaseModel):
    """How far a canary is. `live` is the version that it is compared with, and `period` its own as it began to follow.
    The step, or the shadow before the first one, began at the Unix time `since`, when the version had been asked `base`
    questions. `before` is what had been counted at the end of each step, or shadow, before it. `ended` says why it goes
    back."""

    model_config = ConfigDict(frozen=True)

    collection: str
    live: str
    period: str
    step: int = 0
    shadowed: bool = True
    since: float
    base: int = 0
    before: tuple[CanaryCounts, ...] = ()
    ended: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Canary:
    """What one try of a job has at hand."""

    context: JobContext
    spec: CanarySpec
    collection: Collection
    live: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryJob:
    """One per process."""

    collections: Collections
    counts: CanaryStore
    releases: ReleaseStore
    switching: SwitchJob

    async def __call__(self, context: JobContext) -> None:
        """Raises Problem COLLECTION_NOT_FOUND, NOT_FOUND, CONFLICT, and as a switch does. That the version does worse
        is no problem: the outputs say so."""
        assert isinstance(context.spec, CanarySpec)
        collection = await self.collections.get(context.tenant, context.spec.collection)
        try:
            async with context.reporting():
                await self._run(context, context.spec, collection)
        except Problem as problem:
            if problem.kind not in PASSING:
                with suppress(Problem):
                    await self._take_back(context, collection)
            raise
        except anyio.get_cancelled_exc_class():
            await context.undo_if_cancelled(partial(self._take_back, context, collection), or_late=True)
            raise

    async def _run(self, context: JobContext, spec: CanarySpec, collection: Collection) -> None:
        state = await self._begun(context, spec, collection)
        canary = _Canary(context=context, spec=spec, collection=collection, live=state.live)
        await self._note(context, collection, ReleaseStage.CANARY)
        while not state.ended and state.step < len(spec.steps):
            state = await self._look(canary, state)
        counts = await self.counts.total(context.tenant, context.job.id)
        _tell(canary, state, counts)
        if state.ended:
            await self._take_back(context, collection)
            live = (await self.collections.get(context.tenant, spec.collection)).live.name
            _conclude(canary, counts, promoted=live == spec.version, percent=_percent(spec, state), reason=state.ended)
            return
        report = ProgressReport(context)
        now = await self.collections.get(context.tenant, spec.collection)
        await self.switching.make_live(context, now, spec.version, keep=spec.keep, force=spec.force, report=report)
        reason = f"It did no worse than {canary.live} in {len(spec.steps)} steps."
        _conclude(canary, counts, promoted=True, percent=100, reason=reason)

    async def _begun(self, context: JobContext, spec: CanarySpec, collection: Collection) -> _State:
        """How far an earlier try has got, or the beginning: the version follows the live one."""
        saved = await context.checkpoint()
        if saved is not None:
            state = _State.model_validate(saved)
            if state.collection != collection.id:
                raise Problem(ProblemType.COLLECTION_NOT_FOUND, f"The collection '{spec.collection}' was deleted.")
            return state
        collection.version(spec.version)
        if collection.live.name == spec.version:
            detail = f"The version '{spec.version}' of the collection '{spec.collection}' is the live one already."
            raise Problem(ProblemType.VERSION_NOT_READY, detail)
        _check_alone(collection, context.job.id)
        report = ProgressReport(context)
        followed = await self.switching.follow(context, collection, spec.version, force=spec.force, report=report)
        state = _State(
            collection=collection.id,
            live=followed.live.name,
            period=followed.version(spec.version).period,
            shadowed=spec.shadow == 0,
            since=time.time(),
        )
        await _save(context, state)
        return state

    async def _look(self, canary: _Canary, state: _State) -> _State:
        """One look: give the version its share, and see whether it is time for the next step, or for the way back."""
        context, spec = canary.context, canary.spec
        if not await self._share(canary, state):
            state = state.model_copy(
                update={"ended": f"Another job has changed the version '{spec.version}' meanwhile."}
            )
            await _save(context, state)
            return state
        counts = await self.counts.total(context.tenant, context.job.id)
        asked, passed = counts.of(spec.version).asked - state.base, time.time() - state.since
        _tell(canary, state, counts)
        if (reason := worse(_phases(canary, state, counts), spec)) is not None:
            state = state.model_copy(update={"ended": reason})
        elif passed >= spec.step_seconds and asked >= spec.min_answers:
            passed_on = {"step": state.step + 1} if state.shadowed else {"shadowed": True}
            now = {"since": time.time(), "base": state.base + asked, "before": (*state.before, counts)}
            state = state.model_copy(update={**passed_on, **now})
        elif passed >= spec.step_timeout:
            reason = f"It was asked {asked:,} questions in {passed:,.0f} s, and min_answers is {spec.min_answers:,}."
            if not state.shadowed:
                reason += " Copies that are late or skipped do not count: sluice_canary_copies_total shows them."
            state = state.model_copy(update={"ended": reason})
        else:
            await asyncio.sleep(LOOK)
            return state
        await _save(context, state)
        return state

    async def _share(self, canary: _Canary, state: _State) -> bool:
        """Have gateways give the version its share for a while, or copies of questions. Returns whether it may have one
        any more."""
        spec, job = canary.spec, canary.context.job.id
        wanted = VersionCanary(
            version=spec.version,
            percent=spec.steps[state.step] if state.shadowed else 0,
            shadow=0 if state.shadowed else spec.shadow,
            job=job,
            until=time.time() + LEASE,
        )

        def shared(now: Collection) -> Collection:
            version = now.find(spec.version)
            if version is None or version.period != state.period or now.live.name != canary.live:
                return now
            _check_alone(now, job)
            shares = {"percent": wanted.percent, "shadow": wanted.shadow}
            if (known := now.canary) and shares.items() <= dict(known).items() and known.until > time.time() + RENEW:
                return now
            return now.model_copy(update={"canary": wanted})

        now = await self.collections.update(canary.collection, shared)
        return now.canary is not None and now.canary.job == job and now.live.name == canary.live

    async def _take_back(self, context: JobContext, collection: Collection) -> None:
        """Have all questions go to the live version again, at every gateway within a second or two."""
        assert isinstance(context.spec, CanarySpec)
        name, job = context.spec.version, context.job.id

        def without(now: Collection) -> Collection:
            mine = now.canary is not None and now.canary.job == job
            return now.model_copy(update={"canary": None}) if mine else now

        now = await self.collections.update(collection, without)
        if (saved := await context.checkpoint()) is not None:
            state = _State.model_validate(saved)
            await self.switching.unfollow(collection, name, state.period)
            if now.live.name != name:
                await self._note(context, now, ReleaseStage.CANDIDATE, state.ended)

    async def _note(self, context: JobContext, collection: Collection, stage: ReleaseStage, reason: str = "") -> None:
        """Note with the release that the version is, if it is one, where it stands now."""
        assert isinstance(context.spec, CanarySpec)
        version = collection.find(context.spec.version)
        if version is not None and version.release:
            event = ReleaseEvent.of_job(context.job, stage, reason)
            await self.releases.note(context.tenant, version.release, event)


def _check_alone(collection: Collection, job: str) -> None:
    """Raises Problem CONFLICT where another job's canary is under way."""
    other = collection.canary
    if other is not None and other.job != job and other.until > time.time():
        detail = (
            f"The version '{other.version}' of the collection '{collection.name}' is a canary of the job {other.job}. "
            f"Wait for its end, or end it with: sluice jobs cancel {other.job}"
        )
        raise Problem(ProblemType.CONFLICT, detail)


def _phases(canary: _Canary, state: _State, counts: CanaryCounts) -> list[Phase]:
    """What was counted in each step, and in the shadow, up to now."""

    def between(before: CanaryCounts, after: CanaryCounts) -> Phase:
        version, live = (after.of(name).since(before.of(name)) for name in (canary.spec.version, canary.live))
        return Phase(canary=version, live=live)

    ends = (CanaryCounts(), *state.before, counts)
    return [between(before, after) for before, after in pairwise(ends)]


def _percent(spec: CanarySpec, state: _State) -> float:
    """The share that readers see."""
    if not state.shadowed:
        return 0.0
    return spec.steps[min(state.step, len(spec.steps) - 1)]


def _tell(canary: _Canary, state: _State, counts: CanaryCounts) -> None:
    spec = canary.spec
    version, live = counts.of(spec.version), counts.of(canary.live)
    asked = version.asked - state.base
    shadow, share = f"in the shadow of {canary.live}, {spec.shadow:g} %", f"at {_percent(spec, state):g} %"
    message = (
        f"{spec.version} {share if state.shadowed else shadow}: asked {asked:,} of {spec.min_answers:,}; "
        f"failed {_share(version.failed, version.asked)} ({canary.live} {_share(live.failed, live.asked)}), "
        f"declined {_share(version.declined, version.answered)} ({_share(live.declined, live.answered)})"
    )
    canary.context.begin_progress(documents=0, message=message)
    canary.context.progress(total=len(spec.steps), done=state.step)


def _conclude(canary: _Canary, counts: CanaryCounts, *, promoted: bool, percent: float, reason: str) -> None:
    spec, context = canary.spec, canary.context
    outcome = f"{spec.version} is live now" if promoted else f"{canary.live} stays, and {spec.version} went back"
    message = f"{outcome}. {reason}"
    context.outputs.update(promoted=promoted, reason=reason, message=message, version=spec.version, percent=percent)
    if promoted:
        context.outputs["previous"] = canary.live
    for suffix, side in (("", counts.of(spec.version)), ("_live", counts.of(canary.live))):
        context.outputs.update(_outputs(side, suffix))
    context.begin_progress(documents=0, message=message)
    context.progress(total=len(spec.steps), done=len(spec.steps) if promoted else 0)


def _outputs(counts: VersionCounts, suffix: str) -> dict[str, float]:
    shares = {
        "failed": (counts.failed, counts.asked),
        "declined": (counts.declined, counts.answered),
        "disliked": (max(0, counts.down), counts.rated),
    }
    found = {name: round(count / total, 6) for name, (count, total) in shares.items() if total}
    return {f"{name}{suffix}": value for name, value in {"answered": float(counts.answered), **found}.items()}


def _share(count: int, total: int) -> str:
    return f"{count / total if total else 0:.1%}"


async def _save(context: JobContext, state: _State) -> None:
    await context.save(state.model_dump(mode="json"))


@job_kind(CanarySpec, pool=Pool.LONG)
def canary(dependencies: JobDependencies) -> JobFunction:
    return CanaryJob(
        collections=dependencies.collections,
        counts=CanaryStore(dependencies.bus.jetstream),
        releases=ReleaseStore(dependencies.bus.jetstream),
        switching=switch_job(dependencies),
    )
