"""Routes as a person sees them."""

from datetime import UTC, datetime

from services.gateway.variants.service import describe_routes, warnings
from shared.contracts.routes import Route
from shared.stores.routes import StoredRoute
from sluice.api.status import ServiceStatus, StageStatus


def process(*served: tuple[str, str], ready: bool = True) -> ServiceStatus:
    stages = [StageStatus(stage=s, variant=v, lane_in_flight={}, room=1, model="") for s, v in served]
    return ServiceStatus(service="s", instance="i", version="0", ready=ready, started_at=0, stages=stages)


def test_a_stage_shows_every_variant_that_has_a_weight_a_worker_or_a_shadow() -> None:
    route = Route(stage="generate", weights={"canary": 1, "default": 3}, shadows={"next": 5}, updated_at=7.0)
    services = [process(("generate", "default")), process(("generate", "default"), ("generate", "legal"))]
    (shown,) = describe_routes([StoredRoute(route=route, revision=4)], services)
    rows = [(v.variant, v.weight, v.share, v.shadow, v.workers) for v in shown.variants]
    assert rows == [
        ("default", 3, 75, 0, 2),
        ("canary", 1, 25, 0, 0),
        ("legal", 0, 0, 0, 1),
        ("next", 0, 0, 5, 0),
    ]
    assert (shown.revision, shown.updated_at) == (4, datetime.fromtimestamp(7, UTC))
    assert shown.warnings == (
        "No worker serves generate/canary: 25 % of the queries wait for one until their deadline.",
        "No worker serves generate/next: its shadow queries are not answered.",
    )


def test_a_stage_without_a_route_sends_everything_to_default() -> None:
    (shown,) = describe_routes([], [process(("embed", "default"))])
    assert (shown.stage, shown.revision, shown.updated_at, shown.warnings) == ("embed", 0, None, ())
    assert [(v.variant, v.weight, v.share, v.workers) for v in shown.variants] == [("default", 1, 100, 1)]


def test_what_no_query_visits_is_not_shown() -> None:
    services = [process(("jobs", "short"), ("index", "default"), ("retrieve", "default"))]
    assert [shown.stage for shown in describe_routes([], services)] == ["retrieve"]


def test_a_process_that_is_not_ready_is_no_worker() -> None:
    route = Route(stage="generate", weights={"canary": 1, "default": 1})
    found = warnings([route], [process(("generate", "canary"), ready=False), process(("generate", "default"))])
    assert found == ["No worker serves generate/canary: 50 % of the queries wait for one until their deadline."]
