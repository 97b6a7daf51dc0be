"""The job kind `bandit`: the weights of a stage's variants follow what readers say of their answers."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any, Final

from anyio import to_thread

from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, job_kind
from services.scheduler.routing.thompson import Estimate, Rated, best_probabilities, bounded, estimate
from shared.contracts.feedback import ReaderFeedback
from shared.contracts.jobs import BanditSpec
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.routes import Route
from shared.stores.feedback import ReadersFeedback
from shared.stores.routes import Routes, StoredRoute

__all__ = ["BanditJob"]

EVERY_TENANT: Final = "*"
DAY: Final = 86400.0
SMALLEST_CHANGE: Final = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposal:
    """New shares of the variants, with what they come from."""

    ratings: Mapping[str, tuple[int, int]]
    best: Mapping[str, float]
    now: Mapping[str, float]
    new: Mapping[str, float]
    value: Estimate

    @property
    def changes(self) -> bool:
        return any(abs(self.new[name] - self.now[name]) > SMALLEST_CHANGE for name in self.new)


class BanditJob:
    """One per process."""

    def __init__(self, routes: Routes, feedback: ReadersFeedback) -> None:
        self._routes = routes
        self._feedback = feedback

    async def __call__(self, context: JobContext) -> None:
        """Raises Problem INVALID_REQUEST for a stage without a choice, and PRECONDITION_FAILED where somebody else has
        changed its route meanwhile."""
        assert isinstance(context.spec, BanditSpec)
        async with context.reporting():
            await self._run(context, context.spec)

    async def _run(self, context: JobContext, spec: BanditSpec) -> None:
        stored = await self._route(spec.stage)
        shares = stored.route.shares
        rated = await self._rated(context, spec, shares)
        ratings = {name: _counts(rated, name) for name in shares}
        context.outputs["ratings"] = rated.total()
        if few := {name: sum(counts) for name, counts in ratings.items() if sum(counts) < spec.min_ratings}:
            shown = ", ".join(f"{name} has {count:,}" for name, count in few.items())
            _conclude(
                context, changed=False, message=f"Too few ratings, so nothing changes: {shown} of {spec.min_ratings:,}."
            )
            return
        proposal = await to_thread.run_sync(_propose, spec, shares, ratings, rated)
        await context.attach("bandit.json", _as_json(spec, proposal))
        likeliest = max(proposal.best, key=lambda name: proposal.best[name])
        value = proposal.value
        context.outputs.update(
            best=likeliest,
            best_probability=round(proposal.best[likeliest], 4),
            value_now=round(value.now, 4),
            value_new=round(value.new, 4),
            gain=round(value.gain, 4),
            gain_low=round(value.low, 4),
            gain_high=round(value.high, 4),
        )
        changed = spec.apply and proposal.changes
        if changed:
            await self._apply(context, stored, proposal)
        _conclude(context, changed=changed, message=_message(proposal, changed=changed))

    async def _route(self, stage: str) -> StoredRoute:
        stored = await self._routes.get(stage)
        if stored is None or len(stored.route.shares) < 2:
            detail = (
                f"The stage '{stage}' has no two variants to choose from. Give each a weight first, for example: "
                f"sluice routes set {stage} default=90 canary=10"
            )
            raise Problem(ProblemType.INVALID_REQUEST, detail)
        return stored

    async def _rated(self, context: JobContext, spec: BanditSpec, shares: Mapping[str, float]) -> Counter[Rated]:
        """The rated answers whose variant was drawn by weight from those that the route has today, counted."""
        since, found = time.time() - spec.days * DAY, Counter[Rated]()
        async for said in self._feedback.of(EVERY_TENANT):
            one = _rated(said, spec.stage) if said.changed_at >= since else None
            if one is not None and one.variant in shares:
                found[one] += 1
                context.add_progress(done=1)
        # The broker sends records in no order, and the draws follow that of the ratings.
        return Counter(dict(sorted(found.items(), key=lambda item: astuple(item[0]))))

    async def _apply(self, context: JobContext, stored: StoredRoute, proposal: _Proposal) -> None:
        writer = f"job {context.job.id}"
        if stored.route.updated_by == writer:
            return  # an earlier try has written them
        weights = {name: round(100 * share, 2) for name, share in proposal.new.items()}
        route = Route(
            stage=stored.route.stage,
            weights=weights,
            shadows=stored.route.shadows,
            updated_at=time.time(),
            updated_by=writer,
        )
        await self._routes.put(route, revision=stored.revision)


def _rated(said: ReaderFeedback, stage: str) -> Rated | None:
    kept = said.kept
    probability = kept.shares.get(stage, 0.0)
    variant = next((hop.variant for hop in kept.timings.stages if hop.stage == stage), None)
    if kept.stage or not probability or variant is None or said.rating not in ("up", "down"):
        return None
    return Rated(variant=variant, probability=probability, up=said.rating == "up")


def _counts(rated: Counter[Rated], variant: str) -> tuple[int, int]:
    """The variant's thumbs up and down."""
    found: Counter[bool] = Counter()
    for one, count in rated.items():
        found[one.up] += count * (one.variant == variant)
    return found[True], found[False]


def _propose(
    spec: BanditSpec, now: Mapping[str, float], ratings: Mapping[str, tuple[int, int]], rated: Counter[Rated]
) -> _Proposal:
    best = best_probabilities(ratings, spec.seed)
    new = bounded(best, now, floor=spec.floor, max_change=spec.max_change)
    return _Proposal(ratings=ratings, best=best, now=now, new=new, value=estimate(rated, now, new, spec.seed))


def _as_json(spec: BanditSpec, proposal: _Proposal) -> bytes:
    variants: dict[str, Any] = {
        name: {
            "up": proposal.ratings[name][0],
            "down": proposal.ratings[name][1],
            "best_probability": proposal.best[name],
            "share": round(proposal.now[name], 6),
            "new_share": round(proposal.new[name], 6),
        }
        for name in proposal.now
    }
    report = {"stage": spec.stage, "days": spec.days, "variants": variants, "value": asdict(proposal.value)}
    return json.dumps(report, indent=1).encode()


def _message(proposal: _Proposal, *, changed: bool) -> str:
    shares = ", ".join(
        f"{name} {100 * proposal.now[name]:.1f} % -> {100 * share:.1f} %" for name, share in proposal.new.items()
    )
    value = proposal.value
    worth = f"thumbs up {value.gain:+.1%} (95 % interval {value.low:+.1%} to {value.high:+.1%}) on the answers so far"
    if changed:
        return f"{shares}; {worth}."
    if proposal.changes:
        return f"Without 'apply' nothing changes. It would be {shares}; {worth}."
    return f"The shares stay as they are; {worth}."


def _conclude(context: JobContext, *, changed: bool, message: str) -> None:
    context.outputs.update(changed=changed, message=message)
    context.begin_progress(documents=0, message=message)


@job_kind(BanditSpec)
def bandit(dependencies: JobDependencies) -> JobFunction:
    jetstream = dependencies.bus.jetstream
    return BanditJob(Routes(jetstream), ReadersFeedback(jetstream))
