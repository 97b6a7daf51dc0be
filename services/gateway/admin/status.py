"""/v1/status and /v1/pipelines"""

import asyncio

from fastapi import Request

from services.gateway.admin import discovery
from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.dependencies import BusDependency, DeadLettersDependency, PipelinesDependency, SelectorDependency
from services.gateway.http.models import PipelineBody, PipelineList
from services.gateway.http.openapi import problems
from services.gateway.variants.service import warnings
from shared.contracts.keys import Action

__all__ = ["router"]

router = authenticated_router("operation")


@router.get("/v1/status", summary="Look at what runs and what waits", responses=problems())
@requires(Action.ADMIN)
async def status(
    request: Request, selector: SelectorDependency, bus: BusDependency, dead_letters: DeadLettersDependency
) -> discovery.StatusBody:
    """Services that do not answer within a quarter of a second are not listed."""
    services, queues, jobs, dead = await asyncio.gather(
        discovery.discover_services(bus.client),
        discovery.queues(bus.jetstream),
        discovery.jobs(bus.jetstream),
        dead_letters.count(),
    )
    return discovery.StatusBody(
        version=request.app.version,
        broker=discovery.broker(bus.client),
        services=services,
        queues=queues,
        jobs=jobs,
        dead_letters=dead,
        warnings=warnings(selector.routes.values(), services),
    )


@router.get("/v1/pipelines", summary="List the pipelines", responses=problems())
@requires(Action.QUERY, Action.READ)
async def pipelines(pipelines: PipelinesDependency) -> PipelineList:
    """What a query may name as its `pipeline`."""
    named = sorted(pipelines.named.items())
    return PipelineList(pipelines=[PipelineBody(name=name, stages=list(stops)) for name, stops in named])
