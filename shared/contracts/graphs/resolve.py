"""Resolving the controls at the head of a slip. Every process comes to the same stops for the same envelope."""

import time
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

from pydantic import JsonValue

from shared.contracts.draws import uniform
from shared.contracts.envelope import Hop, Query, Stop
from shared.contracts.graphs.conditions import FAILED, holds
from shared.contracts.graphs.nodes import (
    GRAPH,
    Cache,
    Control,
    Ensemble,
    Fallback,
    Join,
    Keep,
    Loop,
    Otherwise,
    Refuse,
    Share,
    Splitter,
    Switch,
    control_of,
)
from shared.contracts.problems import Problem, ProblemType

__all__ = ["BranchesError", "RefusedError", "SHADOW_OF", "fallen_back", "limit", "resolved", "shadow_key"]

SHADOW_OF: Final = "shadow_of"
"""The note by which a stage can tell a shadow; it holds the id of the live query, whose way it goes."""

MOST_STEPS: Final = 1000
"""Controls in a row: more than any pipeline that was checked has."""


class BranchesError(Problem):
    """Too few branches of an ensemble succeeded. `at` is the stage, and the variant, at which one failed."""

    def __init__(self, kind: ProblemType, detail: str, at: Mapping[str, str], **extras: Any) -> None:
        super().__init__(kind, detail, **extras)
        self.at = dict(at)


class RefusedError(Problem):
    """The pipeline refuses the query: no fallback helps."""


def resolved(query: Query) -> Query:
    """The envelope with a stage, an ensemble, the end of a branch, or the beginning or end of what is cached at the
    head of its slip; or with an empty slip.

    Raises Problem: RefusedError where the pipeline says so, or for a condition that cannot be evaluated.
    """
    for _ in range(MOST_STEPS):
        control = control_of(query.slip[0]) if query.slip else None
        if control is None or isinstance(control, Ensemble | Join | Cache | Keep):
            return query
        query = query.model_copy(update={"slip": (*_steps(control, query), *query.slip[1:])})
    raise Problem(ProblemType.STAGE_FAILED, f"The pipeline decides {MOST_STEPS} times without coming to a stage.")


def _steps(control: Control, query: Query) -> tuple[Stop, ...]:
    """What comes in a control's place."""
    match control:
        case Switch():
            return next((case.then for case in control.cases if holds(case.when, query)), control.default)
        case Splitter():
            return _drawn(control, shadow_key(query)).then
        case Loop():
            if control.done and (control.done >= control.times or (control.until and holds(control.until, query))):
                return ()
            return *control.steps, control.model_copy(update={"done": control.done + 1}).stop()
        case Fallback():
            until = None if control.seconds is None else time.time() + control.seconds
            return *control.steps, Otherwise(steps=control.otherwise, until=until).stop()
        case Otherwise():
            return ()
        case Refuse():
            raise RefusedError(ProblemType.INVALID_QUESTION, control.reason)
    raise AssertionError(f"{control.kind()} is resolved nowhere")


def shadow_key(query: Query) -> str:
    """What a query is told apart by where its way is drawn."""
    return str(query.notes.get(SHADOW_OF) or query.id)


def _drawn(splitter: Splitter, key: str) -> Share:
    sums = list(accumulate(share.weight for share in splitter.shares))
    place = uniform(splitter.salt, key) * sums[-1]
    return next(
        (share for share, end in zip(splitter.shares, sums, strict=True) if place < end),
        next(share for share in reversed(splitter.shares) if share.weight > 0),
    )


def limit(query: Query) -> float:
    """The Unix time until which the stop at the head of the slip may take: the query's deadline, or that of a fallback
    or branch which it is a step of."""
    untils = (control.until for _, control in _ends(query) if control.until is not None)
    return min((query.deadline, *untils))


def fallen_back(query: Query, problem: Problem, hop: Hop | None) -> Query | None:
    """The envelope on the way that a fallback has for this problem, or at the end of a branch, which has failed so;
    None where the query is in neither.

    It is the innermost of them, or the outermost of those whose time is over. `hop` is the visit that ended so;
    without one the query has not been at the head of its slip.
    """
    if isinstance(problem, RefusedError) or not (ends := list(_ends(query))):
        return None
    now = time.time()
    over = [each for each in ends if each[1].until is not None and each[1].until <= now]
    at, chosen = over[-1] if over else ends[0]
    # Of an ensemble that failed it is the stage of a branch.
    at_stage = problem.at if isinstance(problem, BranchesError) else query.stop.place
    trail = query.trail if hop is None else (*query.trail, hop)
    rest = query.slip[at + 1 :]
    if isinstance(chosen, Join):
        if chosen.failed is not None:
            return None
        broken = chosen.model_copy(update={"failed": problem.details, "at": at_stage})
        return query.model_copy(update={"slip": (broken.stop(), *rest), "trail": trail})
    failed: dict[str, JsonValue] = {**at_stage, "problem": problem.kind.code}
    notes = {**query.notes, FAILED: failed}
    return query.model_copy(update={"slip": (*chosen.steps, *rest), "trail": trail, "notes": notes})


def _ends(query: Query) -> Iterator[tuple[int, Otherwise | Join]]:
    """Where the fallbacks and branches end whose steps the query is in, the innermost first."""
    for at, stop in enumerate(query.slip):
        if stop.stage == GRAPH and isinstance(control := control_of(stop), Otherwise | Join):
            yield at, control
