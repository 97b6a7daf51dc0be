"""Inferences are logged on the broker, listed for admins, and erased with all else that is kept of a person."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import nats
import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.harness.authenticated_gateway import AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer
from tests.harness.gateways import MODEL, grpc_address_of
from tests.harness.models import write_doubler
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio

ROWS = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
MAIL = "ines@harbour.example"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    write_doubler(root / "doubler.v2" / "1")
    return root


@pytest.fixture(scope="module")
def gateway(
    broker: NatsServer, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AuthenticatedGateway]:
    settings = {
        "payloads": "all",
        "redactor": "services.gateway.answers.redaction.contacts",
        "identity_secret": "secret of the tests 0123456789abcdef",
        "grpc_port": 0,
    }
    predictor, folder = (tmp_path_factory.mktemp(name) for name in ("predictor", "gateway"))
    with (
        ServiceProcess("services.predictor", predictor, nats_url=broker.url, model_repository=repository),
        authenticated_gateway(broker, folder, **settings) as running,
    ):
        yield running


@asynccontextmanager
async def caller(gateway: AuthenticatedGateway, tenant: str, *actions: str) -> AsyncIterator[httpx.AsyncClient]:
    client = gateway.of(tenant, *actions)
    async with httpx.AsyncClient(base_url=client.base_url, headers=client.headers, timeout=60, trust_env=False) as http:
        yield http


async def listed(http: httpx.AsyncClient, count: int, **params: object) -> list[dict[str, Any]]:
    """The payloads, once there are so many."""

    async def look() -> list[dict[str, Any]] | None:
        page = (await http.get("/v1/payloads", params={"limit": 100, **params})).raise_for_status().json()
        return page["payloads"] if len(page["payloads"]) >= count else None

    found: list[dict[str, Any]] = await until(look)
    assert len(found) == count
    return found


async def test_an_inference_is_two_cloud_events(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    async with caller(gateway, "events", "query", "admin") as http:
        answered = (await http.post("/v2/models/doubler.v2/infer", json={**ROWS, "id": "mine"})).raise_for_status()
        response, request = await listed(http, 2)
        assert (request["kind"], response["kind"], request["id"]) == ("request", "response", response["id"])
        assert (request["model"], request["version"], response["version"]) == ("doubler.v2", "", "1")
        assert request["data"]["inputs"] == [{**ROWS["inputs"][0], "data": [1.0, 2.0, 3.0]}]
        assert response["data"] == answered.json()
        assert (request["size"], request["truncated"], request["seq"] < response["seq"]) == (12, False, True)
        trace = await http.get(f"/v1/traces/{request['id']}")
        assert trace.status_code == 200
    client = await nats.connect(broker.url)
    reader = await client.jetstream().pull_subscribe("payload.events.doubler%2Ev2.request", stream="PAYLOADS")
    (event,) = await reader.fetch(1)
    await client.close()
    assert event.headers["ce-type"] == "org.kubeflow.serving.inference.request"
    assert event.headers["ce-id"] == request["id"]
    assert json.loads(event.data) == request["data"]


async def test_every_face_of_the_protocol_is_logged(gateway: AuthenticatedGateway) -> None:
    async with caller(gateway, "faces", "query", "admin") as http:
        await http.post("/v1/models/doubler.v2:predict", json={"instances": [[1, 2, 3]]})
        await http.post("/v2/models/doubler.v2/generate", json={"x": [1, 2, 3]})
        with triton.InferenceServerClient(grpc_address_of(gateway.process)) as client:
            rows = triton.InferInput("x", [1, 3], "FP32")
            rows.set_data_from_numpy(np.array([[1, 2, 3]], np.float32))
            client.infer("doubler.v2", [rows], headers={"authorization": http.headers["authorization"]})
        found = await listed(http, 6, model="doubler.v2")
        outputs = [one["data"]["outputs"][0]["data"] for one in found if one["kind"] == "response"]
        assert outputs == [[2.0, 4.0, 6.0]] * 3


async def test_failures_leave_their_request_and_unknown_models_leave_nothing(gateway: AuthenticatedGateway) -> None:
    async with caller(gateway, "failures", "query", "admin") as http:
        assert (await http.post("/v2/models/nobody/infer", json=ROWS)).status_code == 404
        wrong = {"inputs": [{**ROWS["inputs"][0], "shape": [3]}]}
        assert (await http.post("/v2/models/doubler.v2/infer", json=wrong)).status_code == 400
        (only,) = await listed(http, 1)
        assert (only["kind"], only["data"]["inputs"][0]["shape"]) == ("request", [3])


async def test_streamed_text_is_logged_whole_and_redacted(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    stages = Stages(broker.url)
    stages.models = {"generate": MODEL}
    async with stages.running(("generate",)), caller(gateway, "texts", "query", "admin") as http:
        body = {"text_input": f"Write to {MAIL}", "parameters": {"user": MAIL}}

        async def streamed() -> str | None:
            # For a moment the gateway knows of no worker.
            response = await http.post("/v2/models/generate/generate_stream", json=body)
            return response.text if response.status_code == 200 else None

        assert '"text_output":"Hello' in await until(streamed)
        response, request = await listed(http, 2)
        assert request["data"]["inputs"][0]["data"] == ["Write to [email]"]
        assert request["data"]["parameters"]["user"] == "[email]"
        assert response["data"]["outputs"][0]["data"] == ["Hello world"]
        assert request["id"] == stages.given["generate"][0].id


async def test_pages_filters_and_tenants(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    async with caller(gateway, "pages", "query", "admin") as http, caller(gateway, "pages", "query", "read") as other:
        for _ in range(3):
            await http.post("/v2/models/doubler.v2/infer", json=ROWS)
        everything = await listed(http, 6)
        client = await nats.connect(broker.url)
        await client.jetstream().publish("payload.pages.doubler.request", b"this is no payload")
        await client.close()
        first = (await http.get("/v1/payloads", params={"limit": 4})).json()
        rest = (await http.get("/v1/payloads", params={"limit": 4, "before": first["next"]})).json()
        assert first["payloads"] + rest["payloads"] == everything
        assert rest["next"] is None
        assert len(await listed(http, 3, kind="request")) == 3
        assert len(await listed(http, 2, id=everything[0]["id"])) == 2
        assert (await http.get("/v1/payloads", params={"model": "other"})).json()["payloads"] == []
        assert (await http.get("/v1/payloads", params={"model": "a b"})).status_code == 422
        assert (await other.get("/v1/payloads")).status_code == 403
    async with caller(gateway, "strangers", "query", "admin") as http:
        assert (await http.get("/v1/payloads")).json() == {"payloads": [], "next": None}


async def test_all_of_a_reader_is_exported_and_erased(gateway: AuthenticatedGateway) -> None:
    async with caller(gateway, "erases", "query") as http, caller(gateway, "erases", "query", "admin") as head:
        for _ in range(3):
            await http.post("/v2/models/doubler.v2/infer", json=ROWS)
        await head.post("/v2/models/doubler.v2/infer", json=ROWS)
        kept = await listed(head, 8)
        key = kept[-1]["key"]
        lines = [json.loads(line)["payload"] for line in (await http.get("/v1/readers/me")).text.splitlines()]
        assert lines == [one for one in reversed(kept) if one["key"] == key]
        erased = await http.delete("/v1/readers/me")
        assert erased.json() == {"answers": 0, "feedback": 0, "payloads": 6}
        assert (await http.get("/v1/readers/me")).text == ""
        assert len(await listed(head, 2)) == 2
        assert (await http.delete("/v1/readers/me")).json()["payloads"] == 0


async def test_a_broker_that_takes_no_payload_fails_no_inference(
    own_broker: NatsServer, repository: Path, tmp_path: Path
) -> None:
    gateway = ServiceProcess("services.gateway", tmp_path / "gateway", nats_url=own_broker.url, payloads="all")
    predictor = ServiceProcess(
        "services.predictor", tmp_path / "predictor", nats_url=own_broker.url, model_repository=repository
    )
    with gateway, predictor:
        client = await nats.connect(own_broker.url)
        await client.jetstream().delete_stream("PAYLOADS")
        await client.close()

        async with httpx.AsyncClient(base_url=gateway.url, timeout=60, trust_env=False) as http:

            async def failed() -> bool:
                assert (await http.post("/v2/models/doubler.v2/infer", json=ROWS)).status_code == 200
                return 'sluice_gateway_payloads_total{outcome="failed"}' in (await http.get("/metrics")).text

            await until(failed)
