"""Routes as the HTTP API shows them: each variant of a stage with its share, its workers and its shadow."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.requests import REQUEST
from shared.contracts.routes import DEFAULT, Percents, Route, Weights
from shared.stores.routes import StoredRoute
from sluice.api import routing as api
from sluice.api.status import ServiceStatus

__all__ = ["UNROUTED_STAGES", "NewRoute", "RouteList", "describe_routes", "warnings"]

UNROUTED_STAGES: Final = frozenset({"index", "jobs", REQUEST})
"""Stages with workers that no query visits: a route would have no effect."""

Workers = Mapping[tuple[str, str], int]
"""Ready processes by stage and variant."""


class NewRoute(BaseModel):
    """The whole of a route: what is left out is empty."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    weights: Weights = Field(
        {}, description="Numbers relative to their sum, by variant; without any, all queries go to `default`."
    )
    shadows: Percents = Field(
        {}, description="By variant: the percentage of the queries of which it gets a copy whose answer is dropped."
    )
    by: Annotated[str, Field(max_length=100)] = Field("", description="Who says so; shown with the route.")


class RouteList(BaseModel):
    model_config = ConfigDict(frozen=True)

    routes: list[api.Route]


def describe_routes(stored: Iterable[StoredRoute], services: Iterable[ServiceStatus]) -> list[api.Route]:
    """Every stage that has a route, or a worker that queries come to, by name."""
    workers = _workers(services)
    routes = {each.route.stage: each for each in stored}
    for stage in {stage for stage, _ in workers} - routes.keys() - UNROUTED_STAGES:
        routes[stage] = StoredRoute(route=Route(stage=stage), revision=0)
    return [_describe_route(routes[stage], workers) for stage in sorted(routes)]


def warnings(routes: Iterable[Route], services: Iterable[ServiceStatus]) -> list[str]:
    """Warnings about these routes: variants that get queries, or copies, and have no worker."""
    workers = _workers(services)
    return [warning for route in routes for warning in _warnings(route, workers)]


def _describe_route(stored: StoredRoute, workers: Workers) -> api.Route:
    route, shares = stored.route, stored.route.shares
    served = {variant for stage, variant in workers if stage == route.stage}
    named = sorted(served | route.weights.keys() | route.shadows.keys() | shares.keys())
    weights = route.weights or {DEFAULT: 1.0}
    return api.Route(
        stage=route.stage,
        variants=tuple(
            api.Variant(
                variant=variant,
                weight=weights.get(variant, 0.0),
                share=round(100 * shares.get(variant, 0.0), 3),
                shadow=route.shadows.get(variant, 0.0),
                workers=workers.get((route.stage, variant), 0),
            )
            for variant in sorted(named, key=lambda variant: (variant != DEFAULT, variant))
        ),
        revision=stored.revision,
        updated_at=route.updated_at or None,
        updated_by=route.updated_by,
        warnings=tuple(_warnings(route, workers)),
    )


def _warnings(route: Route, workers: Workers) -> list[str]:
    found = []
    for variant, share in route.shares.items():
        if not workers.get((route.stage, variant)):
            found.append(
                f"No worker serves {route.stage}/{variant}: {100 * share:.3g} % of the queries wait for one "
                "until their deadline."
            )
    for variant, percent in route.shadows.items():
        if percent and not workers.get((route.stage, variant)):
            found.append(f"No worker serves {route.stage}/{variant}: its shadow queries are not answered.")
    return found


def _workers(services: Iterable[ServiceStatus]) -> Workers:
    return Counter(
        pair for service in services if service.ready for pair in {(s.stage, s.variant) for s in service.stages}
    )
