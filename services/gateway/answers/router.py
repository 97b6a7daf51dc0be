"""/v1/answers: the answers that are kept, and those of shadows beside them"""

import asyncio
from typing import Annotated, Final

from fastapi import Path, Query, status

from services.gateway.answers.service import compare, may_see, page_of
from services.gateway.answers.store import AnswerStore, answer_id
from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.auth.principal import Principal
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import AnswersDependency
from services.gateway.http.openapi import problems
from shared.contracts.envelope import Name
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from sluice.api.feedback import AnswerPage, ComparisonPage, KeptAnswer

__all__ = ["Before", "Limit", "kept_answer", "no_answer", "router"]

router = authenticated_router("feedback")

ANY: Final = "*"

AnswerId = Annotated[str, Path(description="The id of an answer; `chatcmpl-` before it is no part of it.")]
Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
Before = Annotated[
    int | None, Query(ge=1, le=2**53, description="The `next` of the page before; without it, the newest.")
]


@router.get("/v1/answers", summary="List the answers that are kept", responses=problems())
@requires(Action.QUERY, Action.READ)
async def list_all(
    answers: AnswersDependency, principal: PrincipalDependency, limit: Limit = 20, before: Before = None
) -> AnswerPage:
    """The newest first: those of the tenant for who may `read` all its collections and documents, or else the
    caller's own."""
    tenant = principal.tenant
    found, following = await page_of(
        lambda count, last: answers.newest(tenant, count, last), limit, before, lambda one: may_see(principal, one)
    )
    return AnswerPage(answers=tuple(found), next=following)


@router.get("/v1/answers/{answer}", summary="Look at a kept answer", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.QUERY, Action.READ)
async def get(answer: AnswerId, answers: AnswersDependency, principal: PrincipalDependency) -> KeptAnswer:
    return await kept_answer(answers, principal, answer)


@router.delete(
    "/v1/answers/{answer}",
    summary="Remove a kept answer",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ProblemType.NOT_FOUND),
)
@requires(Action.QUERY, Action.READ)
async def delete(answer: AnswerId, answers: AnswersDependency, principal: PrincipalDependency) -> None:
    """With those of its shadows. Feedback on it stays."""
    found = await kept_answer(answers, principal, answer)
    await answers.delete(principal.tenant, found.id)


@router.get("/v1/comparisons", summary="Compare the answers of shadows with the live ones", responses=problems())
@requires(Action.READ)
async def comparisons(
    answers: AnswersDependency,
    principal: PrincipalDependency,
    stage: Annotated[Name, Query(description="The stage that has a shadow.")],
    variant: Annotated[Name | None, Query(description="A variant; without it, all of the stage.")] = None,
    limit: Limit = 20,
    before: Before = None,
) -> ComparisonPage:
    """The newest first. Takes a key for all collections and documents of the tenant."""
    if not principal.sees_everything:
        raise Problem(ProblemType.FORBIDDEN, "Comparisons take a key that sees all collections and documents.")
    tenant = principal.tenant
    shadows, following = await page_of(
        lambda count, last: answers.newest_of_shadow(tenant, stage, variant or ANY, count, last),
        limit,
        before,
        lambda _: True,
    )
    live = await asyncio.gather(*(answers.get(tenant, shadow.id) for shadow in shadows))
    pairs = (compare(one, shadow) for one, shadow in zip(live, shadows, strict=True) if one is not None)
    return ComparisonPage(comparisons=tuple(pairs), next=following)


async def kept_answer(answers: AnswerStore, principal: Principal, given: str) -> KeptAnswer:
    """The answer with this id. Raises Problem NOT_FOUND, also for one that the caller may not see."""
    name = answer_id(given)
    found = await answers.get(principal.tenant, name) if name is not None else None
    if found is None or not may_see(principal, found):
        raise no_answer(given)
    return found


def no_answer(given: str, *, soon: bool = False) -> Problem:
    """NOT_FOUND for an answer that is not kept, or may be `soon`."""
    later = " If you have just asked, try again in a moment." if soon else ""
    detail = (
        f"No answer '{given[:80]}' is kept for you. Answers are kept where SLUICE_KEEP_ANSWERS is true, for "
        f"SLUICE_ANSWER_DAYS.{later}"
    )
    return Problem(ProblemType.NOT_FOUND, detail)
