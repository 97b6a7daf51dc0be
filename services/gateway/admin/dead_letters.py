"""/v1/dead-letters"""

from functools import partial
from typing import Annotated

from fastapi import Depends, Path, Query, Request, Response

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.dependencies import DeadLettersDependency, QueriesDependency, SettingsDependency
from services.gateway.http.body import refuse_other_sites
from services.gateway.http.models import AnswerBody, DeadLetterBody, DeadLetterList, Replayed
from services.gateway.http.openapi import problems
from services.gateway.queries.formatter import QueryFormatter
from services.gateway.queries.responses import whole_answer
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType
from shared.nats.subjects import reply_subject

__all__ = ["router"]

router = authenticated_router("operation")


@router.get("/v1/dead-letters", summary="List dead letters", responses=problems())
@requires(Action.ADMIN)
async def list_newest(
    dead_letters: DeadLettersDependency, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> DeadLetterList:
    """Work that failed for good, newest first, with the reason."""
    letters = await dead_letters.list(limit)
    return DeadLetterList(
        dead_letters=[
            DeadLetterBody(seq=letter.sequence, **letter.model_dump(exclude={"sequence"})) for letter in letters
        ]
    )


@router.post(
    "/v1/dead-letters/{seq}/replay",
    summary="Try a dead letter again",
    dependencies=[Depends(refuse_other_sites)],
    response_model=None,
    responses={
        200: {"model": AnswerBody | Replayed, "description": "The answer to a query, or where other work has gone to"},
        **problems(ProblemType.NOT_FOUND, ProblemType.STAGE_UNAVAILABLE, ProblemType.STAGE_FAILED),
    },
)
@requires(Action.ADMIN)
async def replay(
    seq: Annotated[int, Path(ge=1, lt=2**63)],
    request: Request,
    settings: SettingsDependency,
    queries: QueriesDependency,
    dead_letters: DeadLettersDependency,
) -> Replayed | Response:
    """Puts the work back on its queue, with a fresh deadline, and forgets the dead letter.

    A query is answered here; what fails again becomes a dead letter again.
    """
    query = await dead_letters.query(seq, partial(reply_subject, settings.instance))
    if query is None:
        return Replayed(subject=await dead_letters.replay(seq))
    return await whole_answer(request, queries, query, QueryFormatter(), partial(dead_letters.forget, seq))
