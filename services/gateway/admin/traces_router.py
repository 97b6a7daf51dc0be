"""/v1/traces"""

from typing import Annotated

from fastapi import Path

from services.gateway.admin import traces
from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import BusDependency
from services.gateway.http.openapi import problems
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType

__all__ = ["router"]

router = authenticated_router("operation")

TraceId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The id of a trace, of a query or of a job.")
]


@router.get("/v1/traces/{id}", summary="Look at a trace", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.READ, Action.QUERY)
async def get(id: TraceId, principal: PrincipalDependency, bus: BusDependency) -> traces.TraceBody:  # noqa: A002
    """Put together from what each service remembers of its last traces; no tracing backend is needed."""
    return await traces.collect_trace(bus.client, id, principal.tenant)
