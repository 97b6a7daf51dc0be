"""/v1/answers: the answers that are kept, and those of shadows beside them"""

import asyncio
from typing import Annotated, Final

from fastapi import Path, Query, status

from services.gateway.answers.service import compare, kept_answer, may_see
from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import AnswersDependency
from services.gateway.http.openapi import problems
from services.gateway.http.paging import Before, Limit, page_of
from shared.contracts.envelope import Name
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from sluice.api.feedback import AnswerPage, ComparisonPage, KeptAnswer

__all__ = ["router"]

router = authenticated_router("feedback")

ANY: Final = "*"

AnswerId = Annotated[str, Path(description="The id of an answer; `chatcmpl-` before it is no part of it.")]


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
