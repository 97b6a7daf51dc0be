"""/v1/dead-letters"""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from services.gateway.backend import BackendParameter
from services.gateway.bodies import refuse_other_sites
from services.gateway.models import DeadLetterBody, DeadLetterList, Replayed
from services.gateway.openapi import problems
from shared.problems import ProblemType

__all__ = ["router"]

router = APIRouter(tags=["operation"])


@router.get("/v1/dead-letters", summary="List dead letters", responses=problems())
async def list_newest(backend: BackendParameter, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> DeadLetterList:
    """Work that failed for good, newest first, with the reason."""
    letters = await backend.dead_letters.list(limit)
    return DeadLetterList(
        dead_letters=[
            DeadLetterBody(seq=letter.sequence, **letter.model_dump(exclude={"sequence"})) for letter in letters
        ]
    )


@router.post(
    "/v1/dead-letters/{seq}/replay",
    summary="Try a dead letter again",
    dependencies=[Depends(refuse_other_sites)],
    responses=problems(ProblemType.NOT_FOUND),
)
async def replay(seq: Annotated[int, Path(ge=1, lt=2**63)], backend: BackendParameter) -> Replayed:
    """Puts the work back on its queue. Nobody waits for the answer to a query any more: it shows whether it works."""
    return Replayed(subject=await backend.dead_letters.replay(seq))
