"""/v1/traces"""

from typing import Annotated

from fastapi import Path

from services.gateway import traces
from services.gateway.backend import BackendParameter, DeskParameter
from services.gateway.guarding import guarded, needs
from services.gateway.openapi import problems
from shared.keys import Action
from shared.problems import ProblemType

__all__ = ["router"]

router = guarded("operation")

TraceId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The id of a trace, of a query or of a job.")
]


@router.get("/v1/traces/{id}", summary="Look at a trace", responses=problems(ProblemType.NOT_FOUND))
@needs(Action.READ, Action.QUERY)
async def get(id: TraceId, desk: DeskParameter, backend: BackendParameter) -> traces.TraceBody:  # noqa: A002
    """Put together from what each service remembers of its last traces; no tracing backend is needed."""
    return await traces.gather(backend.bus.client, id, desk.terms.tenant)
