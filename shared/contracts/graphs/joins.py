"""Parallel branches: how an envelope becomes several, and several one again. Pure: no I/O.

What is known of an ensemble is one record: the envelope as it was before, and how each branch has ended. The branch
that ends last decides what becomes of the query. From then on the record stays as it is, so whoever takes the query on,
and whoever does so again after a crash, sends the same envelope.
"""

import hashlib
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import JsonValue

from shared.contracts.envelope import Hop, Passage, Query, Vector
from shared.contracts.graphs.conditions import best_score
from shared.contracts.graphs.nodes import Ensemble, Join
from shared.contracts.graphs.resolve import BranchesError, limit
from shared.contracts.problems import Problem, ProblemDetails, ProblemType
from shared.contracts.results import BranchResult, Results
from shared.contracts.wire import Wire

__all__ = ["BranchOutcome", "JoinRecord", "Verdict", "after_branch", "merged", "refused", "split"]


class Verdict(StrEnum):
    """What is decided of an ensemble."""

    OPEN = "open"
    MERGED = "merged"
    FAILED = "failed"


class BranchOutcome(Wire):
    """What a branch has added to the envelope; or the problem with which it ended, and at which stage and variant."""

    problem: ProblemDetails | None = None
    at: dict[str, str] = {}
    embedding: Vector | None = None
    passages: tuple[Passage, ...] | None = None
    results: Results | None = None
    notes: dict[str, JsonValue] = {}
    trail: tuple[Hop, ...] = ()


class JoinRecord(Wire):
    """An ensemble on its way. `before` is the envelope that went into it, with the slip that follows; None once the
    query has gone on. `branches` are in the order in which they are written."""

    before: Query | None = None
    branches: tuple[str, ...] = ()
    quorum: int = 0
    early: bool = False
    ended: dict[str, BranchOutcome] = {}

    @property
    def verdict(self) -> Verdict:
        failed = sum(outcome.problem is not None for outcome in self.ended.values())
        if failed > len(self.branches) - self.quorum:
            return Verdict.FAILED
        if len(self.ended) == len(self.branches) or (self.early and len(self.ended) - failed >= self.quorum):
            return Verdict.MERGED
        return Verdict.OPEN

    @property
    def closed(self) -> bool:
        """Whether nothing that still ends changes it."""
        return self.before is None or self.verdict is not Verdict.OPEN


def split(query: Query, ensemble: Ensemble, known_as: str) -> tuple[str, JoinRecord, tuple[Query, ...]]:
    """The key of the ensemble at the head of the slip, its record, and an envelope for each branch.

    `known_as` is the id of the message in whose place the branches go. It tells the ensemble from all others of its
    query, and is the same for a redelivery.
    """
    before = query.model_copy(update={"slip": query.slip[1:]})
    digest = hashlib.sha256(known_as.encode()).hexdigest()[:12]
    place = f"{query.branch}.{digest}" if query.branch else digest
    key = f"{query.id}.{query.attempt}.{place}"
    record = JoinRecord(
        before=before,
        branches=tuple(branch.name for branch in ensemble.branches),
        quorum=ensemble.quorum or len(ensemble.branches),
        early=ensemble.early,
    )
    now, latest = time.time(), limit(query)
    branches = []
    for branch in ensemble.branches:
        until = latest if branch.seconds is None else min(latest, now + branch.seconds)
        join = Join(record=key, branch=branch.name, until=until if until < query.deadline else None)
        update = {"slip": (*branch.then, join.stop()), "branch": f"{place}.{branch.name}"}
        branches.append(query.model_copy(update=update))
    return key, record, tuple(branches)


def after_branch(record: JoinRecord, query: Query, join: Join) -> JoinRecord:
    """The record after a branch has come to its end, or has failed. The first end of a branch counts, and none does
    after the verdict. A branch that is not of the ensemble is of another way, which a try before a redelivery took."""
    if record.before is None or record.closed or join.branch in record.ended or join.branch not in record.branches:
        return record
    if join.failed is None:
        outcome = _added(record.before, query)
    else:
        trail = query.trail[len(record.before.trail) :]
        outcome = BranchOutcome(problem=join.failed, at=join.at, trail=trail)
    return record.model_copy(update={"ended": {**record.ended, join.branch: outcome}})


def _added(before: Query, after: Query) -> BranchOutcome:
    return BranchOutcome(
        embedding=after.embedding if after.embedding != before.embedding else None,
        passages=after.passages if after.passages != before.passages else None,
        results=after.results if after.results != before.results else None,
        notes={name: note for name, note in after.notes.items() if before.notes.get(name) != note},
        trail=after.trail[len(before.trail) :],
    )


def merged(record: JoinRecord) -> Query:
    """The envelope after the ensemble, of a record whose verdict is MERGED.

    The passages of all branches come together, the best score first and each of them once, as many as the branch with
    the most has. Of everything else the last branch in the written order counts that has changed it.
    """
    before = record.before
    assert before is not None
    ended = [(name, record.ended[name]) for name in record.branches if name in record.ended]
    update: dict[str, Any] = {
        "results": _results(before.results, ended),
        "notes": {**before.notes, **{name: note for _, outcome in ended for name, note in outcome.notes.items()}},
        "trail": (*before.trail, *(_within(hop, name) for name, outcome in ended for hop in outcome.trail)),
    }
    if found := [outcome.passages for _, outcome in ended if outcome.passages is not None]:
        update["passages"] = _together(found)
    if embeddings := [outcome.embedding for _, outcome in ended if outcome.embedding is not None]:
        update["embedding"] = embeddings[-1]
    return before.model_copy(update=update)


def _within(hop: Hop, branch: str) -> Hop:
    return hop.model_copy(update={"branch": f"{branch}/{hop.branch}" if hop.branch else branch})


def _together(found: list[tuple[Passage, ...]]) -> tuple[Passage, ...]:
    if len(found) == 1:
        return found[0]
    best: dict[str, Passage] = {}
    for passage in (passage for passages in found for passage in passages):
        if passage.id not in best or passage.score > best[passage.id].score:
            best[passage.id] = passage
    in_order = sorted(best.values(), key=lambda passage: (-passage.score, passage.id))
    return tuple(in_order[: max(map(len, found))])


def _results(before: Results | None, ended: list[tuple[str, BranchOutcome]]) -> Results:
    known = before or Results()
    changed: dict[str, Any] = {}
    for _, outcome in ended:
        for member in Results.model_fields.keys() - {"branches"} if outcome.results else ():
            value = getattr(outcome.results, member)
            if value is not None and value != getattr(known, member):
                changed[member] = value
    branches: Mapping[str, BranchResult] = {name: _result(outcome, known) for name, outcome in ended}
    inner = {name: one for _, outcome in ended if outcome.results for name, one in outcome.results.branches.items()}
    return known.model_copy(update={**changed, "branches": {**known.branches, **inner, **branches}})


def _result(outcome: BranchOutcome, known: Results) -> BranchResult:
    if outcome.problem is not None:
        problem = Problem.from_details(outcome.problem)
        return BranchResult(failed={**outcome.at, "problem": problem.kind.code})
    passages = outcome.passages or ()
    inference = outcome.results.inference if outcome.results else None
    return BranchResult(
        passages=len(passages),
        best=best_score(passages),
        inference=inference if inference != known.inference else None,
        notes=outcome.notes,
    )


def refused(record: JoinRecord) -> BranchesError:
    """The problem of a record whose verdict is FAILED: that of the first branch, in the written order, that has one."""
    failures = [(name, record.ended[name].problem) for name in record.branches if name in record.ended]
    name, details = next((name, details) for name, details in failures if details is not None)
    failed = sum(details is not None for _, details in failures)
    total = len(record.branches)
    first = Problem.from_details(details)
    said = (
        f"{failed} of {total} parallel branches of the pipeline failed, and {record.quorum} must succeed. "
        f"Branch '{name}': {first.detail}"
    )
    kind = first.kind if first.kind is not ProblemType.BROKER_UNAVAILABLE else ProblemType.STAGE_FAILED
    return BranchesError(kind, said, record.ended[name].at, **first.extras)
