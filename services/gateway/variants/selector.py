"""Which variant of each stage a query goes to, and which variants get a copy of it. Pure: no I/O, no state per query.

A variant is chosen by weighted rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit
rates", IEEE/ACM Transactions on Networking 6, 1998): each variant draws a number from the hash of its name and the
key, and the highest one wins. With the score -weight / ln(u) of a uniform u in (0, 1) each wins in proportion to its
weight, every gateway comes to the same result, and when weights change only those keys move that must.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.contracts.draws import uniform
from shared.contracts.envelope import Query, Stop
from shared.contracts.graphs import rewritten, stages
from shared.contracts.routes import DEFAULT, Route

__all__ = ["Copy", "Router", "choose"]

FOLLOWS: Final = {"condense": "generate", "expand": "generate"}
"""Stages that the workers of another stage also serve: they take its variant, unless they have a route."""


def choose(route: Route, key: str) -> str:
    """The variant for a key: the same one for as long as the weights stay as they are, in every process."""
    shares = route.shares
    if len(shares) == 1:
        return next(iter(shares))
    return max(shares, key=lambda variant: -shares[variant] / math.log(uniform(route.stage, variant, key)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copy of a query that goes to another variant of one stage."""

    stage: str
    variant: str
    slip: tuple[Stop, ...]


class Router:
    """The routes as they are now, applied to slips."""

    def __init__(self, routes: Mapping[str, Route] | None = None) -> None:
        self._routes = routes or {}

    @property
    def routes(self) -> Mapping[str, Route]:
        """The routes in force, by stage."""
        return self._routes

    @property
    def _has_shadows(self) -> bool:
        return any(route.shadows for route in self._routes.values())

    def update(self, routes: Mapping[str, Route]) -> None:
        """Put these routes, by stage, in force."""
        self._routes = routes

    def route(self, slip: tuple[Stop, ...], key: str) -> tuple[Stop, ...]:
        """The slip with a variant chosen for every stop that names none. The same key gets the same variants."""
        return rewritten(slip, lambda steps: tuple(self._routed(stop, key) for stop in steps))

    def shares(self, slip: tuple[Stop, ...], routed: tuple[Stop, ...]) -> dict[str, float]:
        """How likely each variant was that `route` has drawn for a stop of the slip, by stage."""
        found = {}
        for before, after in zip(stages(slip), stages(routed), strict=True):
            route = self._routes.get(after.stage)
            if before.variant == DEFAULT and route is not None and len(route.shares) > 1:
                found[after.stage] = round(route.shares[after.variant], 6)
        return found

    def copies(self, query: Query) -> tuple[Copy, ...]:
        """The shadows of a query whose slip has been routed, chosen by its id.

        Only stops that a route can have chosen are copied, not those of a pipeline or a model's name. They may lie on
        a way of a graph that the query does not take: nobody knows that yet.
        """
        ways = tuple(stages(query.slip)) if self._has_shadows else ()
        return tuple(
            Copy(stage=route.stage, variant=variant, slip=_replaced(query.slip, route, variant))
            for route in self._routes.values()
            for variant, percent in route.shadows.items()
            if any(_replaceable(stop, route, variant) for stop in ways)
            and uniform(route.stage, variant, f"shadow {query.id}") < percent / 100
        )

    def _routed(self, stop: Stop, key: str) -> Stop:
        if stop.variant != DEFAULT:
            return stop
        route = self._routes.get(stop.stage) or self._routes.get(FOLLOWS.get(stop.stage, ""))
        if route is None or (variant := choose(route, key)) == DEFAULT:
            return stop
        return stop.model_copy(update={"variant": variant})


def _replaceable(stop: Stop, route: Route, variant: str) -> bool:
    return stop.stage == route.stage and stop.variant != variant and stop.variant in route.shares


def _replaced(slip: tuple[Stop, ...], route: Route, variant: str) -> tuple[Stop, ...]:
    def replaced(steps: tuple[Stop, ...]) -> tuple[Stop, ...]:
        return tuple(
            stop.model_copy(update={"variant": variant}) if _replaceable(stop, route, variant) else stop
            for stop in steps
        )

    return rewritten(slip, replaced)
