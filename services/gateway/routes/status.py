"""/v1/status and /v1/pipelines"""

import asyncio

from fastapi import Request

from services.gateway import fleet
from services.gateway.backend import BackendParameter, DeskParameter
from services.gateway.guarding import guarded, needs
from services.gateway.models import PipelineBody, PipelineList
from services.gateway.openapi import problems
from services.gateway.traffic import warnings
from shared.keys import Action

__all__ = ["router"]

router = guarded("operation")


@router.get("/v1/status", summary="Look at what runs and what waits", responses=problems())
@needs(Action.ADMIN)
async def status(request: Request, desk: DeskParameter, backend: BackendParameter) -> fleet.StatusBody:
    """Services that do not answer within a quarter of a second are not listed."""
    services, queues, jobs, dead_letters = await asyncio.gather(
        fleet.roll_call(backend.bus.client),
        fleet.queues(backend.bus.jetstream),
        fleet.jobs(backend.bus.jetstream),
        backend.dead_letters.count(),
    )
    return fleet.StatusBody(
        version=request.app.version,
        broker=fleet.broker(backend.bus.client),
        services=services,
        queues=queues,
        jobs=jobs,
        dead_letters=dead_letters,
        warnings=warnings(desk.router.routes.values(), services),
    )


@router.get("/v1/pipelines", summary="List the pipelines", responses=problems())
@needs(Action.QUERY, Action.READ)
async def pipelines(desk: DeskParameter) -> PipelineList:
    """What a query may name as its `pipeline`."""
    named = sorted(desk.pipelines.named.items())
    return PipelineList(pipelines=[PipelineBody(name=name, stages=list(stops)) for name, stops in named])
