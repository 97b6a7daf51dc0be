"""Schedules over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import nats
import pytest

from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess

pytestmark = pytest.mark.anyio

SPEC = {"kind": "switch", "collection": "docs"}
NIGHTLY = {"spec": SPEC, "cron": "0 3 * * *", "zone": "Europe/Berlin", "missed": "run_once", "timeout": 600}


@pytest.fixture
async def http(gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as client:
        yield client


async def test_a_schedule_is_created_replaced_paused_resumed_triggered_and_deleted(
    http: httpx.AsyncClient, broker: NatsServer
) -> None:
    path = "/v1/schedules/nightly"
    created = await http.put(path, json=NIGHTLY)
    assert created.status_code == 201, created.text
    body = created.json()
    assert {"name": "nightly", "paused": False, "last_at": None, "timeout": 600.0}.items() <= body.items()
    assert body["next_at"] > body["created_at"]
    replaced = await http.put(path, json={**NIGHTLY, "cron": "0 4 * * *"})
    assert (replaced.status_code, replaced.json()["created_at"]) == (200, body["created_at"])
    assert [schedule["cron"] for schedule in (await http.get("/v1/schedules")).json()["schedules"]] == ["0 4 * * *"]

    connection = await nats.connect(broker.url)
    timer = await connection.jetstream().get_msg("TIMERS", subject="timer.cron.default.nightly")
    assert timer.headers is not None
    assert timer.headers["Nats-Schedule"] == "0 0 4 * * *"
    assert timer.headers["Nats-Schedule-Time-Zone"] == "Europe/Berlin"
    await connection.close()

    paused = (await http.post(f"{path}/pause")).json()
    assert (paused["paused"], paused["next_at"]) == (True, None)
    triggered = await http.post(f"{path}/trigger")
    assert triggered.status_code == 202
    job = triggered.json()["job"]
    assert (job["kind"], job["options"]["schedule"]) == ("switch", "nightly")
    assert job["options"]["deadline"] > job["created_at"]
    resumed = (await http.post(f"{path}/resume")).json()
    assert (resumed["paused"], resumed["next_at"] is not None) == (False, True)
    assert (await http.delete(path)).status_code == 204
    for response in (await http.get(path), await http.delete(path), await http.post(f"{path}/pause")):
        assert response.status_code == 404


@pytest.mark.parametrize(
    ("change", "place", "complaint"),
    [
        ({"cron": "0 25 * * *"}, "cron", "'25' is no hour: write 0 to 23"),
        ({"cron": "often"}, "cron", "has five fields"),
        ({"cron": None}, "cron", "say either cron or every"),
        ({"every": "1h"}, "cron", "say either cron or every"),
        ({"cron": None, "every": "1 hour", "zone": None}, "every", "an interval is written"),
        ({"cron": None, "every": "1h"}, "zone", "a zone goes with cron"),
        ({"zone": "Mars/Base"}, "zone", "there is no time zone 'Mars/Base'"),
        ({"missed": "twice"}, "missed", "skip"),
        ({"spec": {"kind": "drop", "collection": "c", "table": "t"}}, "spec.kind", "DELETE"),
        ({"speed": 3}, "speed", "not permitted"),
    ],
)
async def test_what_is_no_schedule_is_refused_with_its_place(
    http: httpx.AsyncClient, change: dict[str, Any], place: str, complaint: str
) -> None:
    response = await http.put("/v1/schedules/s", json={**NIGHTLY, **change})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["path"] == place
    assert complaint in error["message"]
    assert (await http.get("/v1/schedules")).json() == {"schedules": []}


async def test_a_name_that_cannot_be_one_is_refused(http: httpx.AsyncClient) -> None:
    for name in ("Nightly", "a.b", "-a", "x" * 41):
        assert (await http.put(f"/v1/schedules/{name}", json=NIGHTLY)).status_code == 422
        assert (await http.get(f"/v1/schedules/{name}")).status_code == 404
