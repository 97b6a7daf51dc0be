"""/v1/routes: the variants of each stage and their shares"""

import time
from typing import Annotated, Final

from fastapi import Path, Request, Response, status

from services.gateway.admin import discovery
from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import BusDependency, RoutesDependency
from services.gateway.http.body import read_json
from services.gateway.http.openapi import problems, request_body
from services.gateway.http.preconditions import IfMatch, entity_tag, matches
from services.gateway.variants.service import UNROUTED_STAGES, NewRoute, RouteList, describe_routes
from shared.contracts.envelope import Name
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.routes import Route
from shared.stores.routes import Routes, StoredRoute, revision_conflict
from sluice.api import routing as api

__all__ = ["router"]

router = authenticated_router("operation")

MAX_BODY: Final = 16 * 1024

StageName = Annotated[Name, Path(description="A stage, such as `generate`.")]


@router.get("/v1/routes", summary="List the variants of all stages", responses=problems())
@requires(Action.READ)
async def list_all(routes: RoutesDependency, bus: BusDependency) -> RouteList:
    """Every stage that has a route, or a worker that queries come to."""
    return RouteList(routes=describe_routes(await routes.list(), await discovery.discover_services(bus.client)))


@router.get("/v1/routes/{stage}", summary="Look at a stage's variants", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def get(stage: StageName, response: Response, routes: RoutesDependency, bus: BusDependency) -> api.Route:
    """A stage without a route of its own sends everything to `default`."""
    stored = await routes.get(stage)
    found = describe_routes([stored] if stored else [], await discovery.discover_services(bus.client))
    for route in found:
        if route.stage == stage:
            return _tagged(response, route)
    raise Problem(ProblemType.NOT_FOUND, f"The stage '{stage}' has neither a route nor a worker.")


@router.put(
    "/v1/routes/{stage}",
    summary="Set the weights and shadows of a stage's variants",
    openapi_extra=request_body(json=NewRoute),
    responses=problems(ProblemType.PRECONDITION_FAILED, ProblemType.TOO_LARGE),
)
@requires(Action.ADMIN)
async def put(
    stage: StageName,
    request: Request,
    response: Response,
    routes: RoutesDependency,
    bus: BusDependency,
    principal: PrincipalDependency,
    if_match: IfMatch = None,
) -> api.Route:
    """Replaces the whole route. In force on every gateway within a second.

    Variants without a worker are accepted, with a warning: their queries wait for the first one.
    """
    body = await read_json(request, NewRoute, MAX_BODY)
    if stage in UNROUTED_STAGES:
        raise Problem(ProblemType.INVALID_REQUEST, f"No query visits the stage '{stage}', so a route has no effect.")
    by = principal.by(body.by)
    route = Route(stage=stage, weights=body.weights, shadows=body.shadows, updated_at=time.time(), updated_by=by)
    revision = await routes.put(route, revision=await _expected(routes, stage, if_match))
    stored = StoredRoute(route=route, revision=revision)
    (shown,) = (r for r in describe_routes([stored], await discovery.discover_services(bus.client)) if r.stage == stage)
    return _tagged(response, shown)


@router.delete(
    "/v1/routes/{stage}",
    summary="Send everything to the variant `default` again",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ProblemType.NOT_FOUND, ProblemType.PRECONDITION_FAILED),
)
@requires(Action.ADMIN)
async def delete(stage: StageName, routes: RoutesDependency, if_match: IfMatch = None) -> None:
    """Removes the stage's weights and shadows."""
    if await routes.get(stage) is None:
        raise Problem(ProblemType.NOT_FOUND, f"The stage '{stage}' has no route.")
    await routes.delete(stage, revision=await _expected(routes, stage, if_match))


async def _expected(routes: Routes, stage: str, if_match: str | None) -> int | None:
    """The revision that a write may replace; None for any. Raises PRECONDITION_FAILED."""
    if if_match is None:
        return None
    stored = await routes.get(stage)
    revision = stored.revision if stored else 0
    if not matches(if_match, revision):
        raise revision_conflict(stage)
    return revision


def _tagged(response: Response, route: api.Route) -> api.Route:
    response.headers["ETag"] = entity_tag(route.revision)
    return route
