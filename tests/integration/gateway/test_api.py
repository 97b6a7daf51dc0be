"""What the gateway says about itself: its API, its state, and what anyone may ask of any service."""

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import nats
import pytest

from shared.contracts.envelope import Query, Stop
from shared.contracts.problems import ProblemType
from shared.stores.dead_letters import DeadLetters
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http(gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
async def api(http: httpx.AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = (await http.get("/openapi.json")).json()
    return document


def operations(api: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


INFERENCE = {
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "GET /v2/models/{model}",
    "GET /v2/models/{model}/ready",
    "GET /v2/models/{model}/versions/{version}",
    "GET /v2/models/{model}/versions/{version}/ready",
    "POST /v1/models/{model}:predict",
    "POST /v2/models/{model}/generate",
    "POST /v2/models/{model}/generate_stream",
    "POST /v2/models/{model}/infer",
    "POST /v2/models/{model}/versions/{version}/generate",
    "POST /v2/models/{model}/versions/{version}/generate_stream",
    "POST /v2/models/{model}/versions/{version}/infer",
    "POST /v2/repository/index",
    "POST /v2/repository/models/{model}/load",
    "POST /v2/repository/models/{model}/unload",
}
"""Operations whose errors have the shape of the Open Inference Protocol."""

OPENAI = {
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "GET /v1/files",
    "POST /v1/files",
    "GET /v1/files/{file}",
    "DELETE /v1/files/{file}",
    "GET /v1/files/{file}/content",
    "GET /v1/batches",
    "POST /v1/batches",
    "GET /v1/batches/{batch}",
    "POST /v1/batches/{batch}/cancel",
}


async def test_the_api_document_has_every_operation(api: dict[str, Any]) -> None:
    assert api["openapi"].startswith("3.1")
    assert {name for name, _ in operations(api)} == {
        "POST /v1/query",
        "POST /v1/rerank",
        "POST /v2/rerank",
        "GET /v2",
        "GET /v1/collections",
        "POST /v1/collections",
        "GET /v1/collections/{collection}",
        "PATCH /v1/collections/{collection}",
        "DELETE /v1/collections/{collection}",
        "GET /v1/collections/{collection}/documents",
        "POST /v1/collections/{collection}/documents",
        "DELETE /v1/collections/{collection}/documents",
        "GET /v1/collections/{collection}/documents/{document}",
        "DELETE /v1/collections/{collection}/documents/{document}",
        "PUT /v1/collections/{collection}/documents/{document}/permissions",
        "GET /v1/collections/{collection}/documents/{document}/passages",
        "GET /v1/jobs",
        "GET /v1/jobs/{job}",
        "POST /v1/jobs",
        "GET /v1/jobs/{job}/spec",
        "GET /v1/jobs/{job}/events",
        "GET /v1/jobs/{job}/audit",
        "POST /v1/jobs/{job}/cancel",
        "POST /v1/jobs/{job}/retry",
        "GET /v1/jobs/{job}/steps",
        "GET /v1/jobs/{job}/artifacts",
        "GET /v1/jobs/{job}/artifacts/{file}",
        "GET /v1/runs",
        "GET /v1/runs/{run}",
        "GET /v1/runs/{run}/metrics",
        "GET /v1/schedules",
        "GET /v1/schedules/{name}",
        "PUT /v1/schedules/{name}",
        "DELETE /v1/schedules/{name}",
        "POST /v1/schedules/{name}/pause",
        "POST /v1/schedules/{name}/resume",
        "POST /v1/schedules/{name}/trigger",
        "PUT /v1/artifacts/{folder}/{file}",
        "GET /v1/artifacts/{folder}/{file}",
        "DELETE /v1/artifacts/{folder}/{file}",
        "GET /v1/status",
        "GET /v1/traces",
        "GET /v1/traces/{id}",
        "GET /v1/pipelines",
        "GET /v1/payloads",
        "GET /v1/dead-letters",
        "GET /v1/dead-letters/{seq}",
        "DELETE /v1/dead-letters/{seq}",
        "POST /v1/dead-letters/{seq}/replay",
        "GET /v1/routes",
        "GET /v1/routes/{stage}",
        "PUT /v1/routes/{stage}",
        "DELETE /v1/routes/{stage}",
        "GET /v1/keys",
        "POST /v1/keys",
        "GET /v1/keys/{key}",
        "DELETE /v1/keys/{key}",
        "POST /v1/keys/{key}/rotate",
        "GET /v1/session",
        "POST /v1/session",
        "DELETE /v1/session",
        "GET /v1/usage",
        "GET /v1/registry/models",
        "POST /v1/registry/models",
        "GET /v1/registry/models/{model}",
        "DELETE /v1/registry/models/{model}",
        "GET /v1/registry/models/{model}/content",
        "GET /v1/releases",
        "POST /v1/releases",
        "GET /v1/releases/{release}",
        "DELETE /v1/releases/{release}",
        "POST /v1/releases/{release}/promote",
        "POST /v1/releases/rollback",
        "PUT /v1/releases/{release}/aliases/{alias}",
        "DELETE /v1/releases/{release}/aliases/{alias}",
        "GET /v1/releases/{release}/lineage",
        "GET /v1/releases/{release}/statement",
        "GET /v1/releases/{release}/content",
        "POST /v1/releases/content",
        "GET /v1/answers/{answer}/lineage",
        "GET /v1/answers",
        "GET /v1/answers/{answer}",
        "DELETE /v1/answers/{answer}",
        "GET /v1/comparisons",
        "POST /v1/feedback",
        "GET /v1/feedback",
        "GET /v1/readers/{reader}",
        "DELETE /v1/readers/{reader}",
        "GET /v1/conversations",
        "DELETE /v1/conversations",
        "GET /v1/conversations/{conversation}",
        "PUT /v1/conversations/{conversation}",
        "DELETE /v1/conversations/{conversation}",
        *OPENAI,
        *INFERENCE,
    }


async def test_every_reference_of_the_api_document_leads_somewhere(api: dict[str, Any]) -> None:
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(api)))
    assert references
    for reference in references:
        assert reference.startswith("#/components/schemas/")
        assert reference.rpartition("/")[2] in api["components"]["schemas"], reference


async def test_every_error_of_every_operation_is_documented_as_a_problem(api: dict[str, Any]) -> None:
    for name, operation in operations(api):
        if name in OPENAI or name in INFERENCE:
            continue
        # 400 is the HTTP server's own word for a URL that is too long.
        errors = {status: r for status, r in operation["responses"].items() if status > "400"}
        assert {"401", "403", "422", "429", "500", "503"} <= set(errors), name
        for response in errors.values():
            assert list(response["content"]) == ["application/problem+json"], name
            schema = response["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ProblemDetails"}


async def test_every_error_of_the_openai_face_is_documented_in_openai_s_shape(api: dict[str, Any]) -> None:
    for name, operation in operations(api):
        if name in OPENAI:
            errors = {status: r for status, r in operation["responses"].items() if status >= "400"}
            assert {"400", "500", "503", "default"} <= set(errors), name
            for response in errors.values():
                assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorBody"}


async def test_every_kind_of_problem_that_a_query_may_meet_is_documented(api: dict[str, Any]) -> None:
    responses = api["paths"]["/v1/query"]["post"]["responses"]
    documented = {
        example["value"]["type"]
        for status, response in responses.items()
        if status >= "400"
        for example in response["content"]["application/problem+json"]["examples"].values()
    }
    assert {
        ProblemType.QUEUE_FULL.uri,
        ProblemType.STAGE_UNAVAILABLE.uri,
        ProblemType.DEADLINE_EXCEEDED.uri,
    } < documented
    assert set(responses["200"]["content"]) == {"application/json", "text/event-stream"}


async def test_operations_have_unique_ids_summaries_and_tags(api: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(api)]
    assert len(ids) == len(set(ids))
    assert all(operation["summary"] and operation["tags"] for _, operation in operations(api))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/jobs/", 404),
        ("PUT", "/v1/query", 405),
        ("GET", "/v1/query", 405),
        ("GET", "/v1/jobs?limit=0", 422),
        ("GET", "/v1/jobs?limit=many", 422),
        ("POST", "/v1/dead-letters/one/replay", 422),
        ("POST", "/v1/dead-letters/1/replay", 404),
    ],
)
async def test_whatever_is_wrong_is_a_problem_with_its_trace(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await http.request(method, path)
    problem = response.json()
    assert (response.status_code, problem["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "detail"} <= set(problem)
    assert problem["trace_id"] == response.headers["x-trace-id"]


async def test_no_other_origin_is_let_in(http: httpx.AsyncClient) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    preflight = await http.options("/v1/query", headers=asked)
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control")]


async def test_a_page_of_another_site_can_neither_upload_nor_replay(http: httpx.AsyncClient) -> None:
    foreign = {"sec-fetch-site": "cross-site"}
    upload = await http.post("/v1/collections/x/documents", files={"files": ("a", b"x")}, headers=foreign)
    replay = await http.post("/v1/dead-letters/1/replay", headers=foreign)
    for response in (upload, replay):
        assert (response.status_code, response.json()["type"]) == (403, "about:blank")


async def test_every_page_of_a_service_is_there(http: httpx.AsyncClient) -> None:
    assert (await http.get("/livez")).json() == {"status": "alive"}
    assert (await http.get("/readyz")).json()["service"] == "gateway"
    await http.get("/v1/pipelines")
    metrics = (await http.get("/metrics")).text
    assert 'sluice_gateway_requests_total{route="GET /v1/pipelines",status="200"}' in metrics
    assert "sluice_gateway_queries_in_flight 0.0" in metrics
    assert "event.job" in (await http.get("/asyncapi")).text
    page = await http.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert loaded
    for address in loaded:
        assert (await http.get(address)).status_code == 200, f"{address} is not ours"


async def test_the_status_shows_services_queues_jobs_and_dead_letters(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    async with Stages(broker.url).running(("embed", "retrieve")):
        status = (await http.get("/v1/status")).json()
    services = {service["service"]: service for service in status["services"]}
    assert set(services) == {"gateway", "stages"}
    assert services["gateway"]["ready"] is True
    assert [stage["stage"] for stage in services["gateway"]["stages"]] == ["request"]
    stage = services["stages"]["stages"][0]
    assert stage == {
        "stage": "embed",
        "variant": "default",
        "lane_in_flight": {"interactive": 0, "batch": 0},
        "room": 256,
        "model": "",
        "work": {"ended": 0, "failed": 0, "waited_seconds": 0.0, "worked_seconds": 0.0, "worked_buckets": []},
    }
    assert services["gateway"]["stages"][0]["work"] is not None
    nothing = {"interactive": 0, "batch": 0}
    assert services["gateway"]["window"] == {"in_flight": nothing, "waiting": nothing, "room": 128}
    assert services["stages"]["window"] is None
    assert [(q["stage"], q["lane"]) for q in status["queues"] if q["stage"] == "embed"] == [
        ("embed", "interactive"),
        ("embed", "batch"),
    ]
    assert status["broker"]["url"] == broker.url
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", status["broker"]["version"])
    assert status["jobs"] == {"waiting": 0, "in_flight": 0}
    assert status["dead_letters"] == 0


async def test_a_query_that_died_is_listed_answered_by_its_replay_and_forgotten(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    connection = await nats.connect(broker.url)
    letters = DeadLetters(connection, connection.jetstream())
    query = Query(
        id="q1", asked_at=1, deadline=21, reply="reply.x.q1", slip=(Stop(stage="embed"), Stop(stage="generate"))
    )
    subject = "query.embed.default.interactive.default"
    await letters.bury(subject, query.encode(), {}, reason="It broke\nbadly.", deliveries=4, message_id="q1")
    (letter,) = (await http.get("/v1/dead-letters")).json()["dead_letters"]
    assert (letter["subject"], letter["reason"], letter["deliveries"]) == (subject, "It broke\nbadly.", 4)
    assert (await http.get("/v1/status")).json()["dead_letters"] == 1
    async with Stages(broker.url).running(("embed", "generate")):
        replayed = await http.post(f"/v1/dead-letters/{letter['seq']}/replay")
    assert replayed.status_code == 200
    assert [stage["stage"] for stage in replayed.json()["timings"]["stages"]] == ["embed", "generate"]
    assert (await http.get("/v1/dead-letters")).json() == {"dead_letters": [], "next": None}
    assert (await http.post(f"/v1/dead-letters/{letter['seq']}/replay")).status_code == 404
    await connection.close()


async def test_a_job_that_died_goes_back_on_its_queue(broker: NatsServer, http: httpx.AsyncClient) -> None:
    connection = await nats.connect(broker.url)
    await DeadLetters(connection, connection.jetstream()).bury(
        "job.drop.normal.default", b"{}", {"ce-id": "j1"}, reason="It broke.", deliveries=4, message_id="j1"
    )
    (letter,) = (await http.get("/v1/dead-letters")).json()["dead_letters"]
    replayed = await http.post(f"/v1/dead-letters/{letter['seq']}/replay")
    assert (replayed.status_code, replayed.json()) == (200, {"subject": "job.drop.normal.default"})
    assert (await http.get("/v1/status")).json()["jobs"]["waiting"] == 1
    await connection.close()


async def test_dead_letters_are_listed_in_pages_shown_and_discarded(
    broker: NatsServer, http: httpx.AsyncClient
) -> None:
    connection = await nats.connect(broker.url)
    letters = DeadLetters(connection, connection.jetstream())
    for number in range(5):
        spec = b'{"kind": "command", "command": ["x%d"], "env": {"TOKEN": "t"}}' % number
        await letters.bury(
            "job.command.normal.default", spec, {}, reason=f"r{number}", deliveries=1, message_id=str(number)
        )
    await connection.close()
    found: list[dict[str, Any]] = []
    after = None
    while True:
        query = {"limit": 2} if after is None else {"limit": 2, "after": after}
        page = (await http.get("/v1/dead-letters", params=query)).json()
        found += page["dead_letters"]
        if (after := page["next"]) is None:
            break
    assert [letter["reason"] for letter in found] == ["r4", "r3", "r2", "r1", "r0"]
    path = f"/v1/dead-letters/{found[3]['seq']}"
    shown = (await http.get(path)).json()
    assert (shown["reason"], json.loads(shown["payload"])["command"]) == ("r1", ["x1"])
    assert (await http.delete(path)).status_code == 204
    assert (await http.delete(path)).status_code == 404
    assert (await http.get(path)).status_code == 404
    assert (await http.get("/v1/dead-letters")).json()["dead_letters"] == found[:3] + found[4:]
    for letter in found:
        await http.delete(f"/v1/dead-letters/{letter['seq']}")


async def test_the_pipelines_are_listed(http: httpx.AsyncClient) -> None:
    pipelines = (await http.get("/v1/pipelines")).json()["pipelines"]
    assert {pipeline["name"]: [stage["stage"] for stage in pipeline["stages"]] for pipeline in pipelines} == {
        "default": ["embed", "retrieve", "generate"],
        "rerank": ["embed", "retrieve", "rerank", "generate"],
    }


def test_the_gateway_needs_no_model_library() -> None:
    script = "import sys, services.gateway.app; print({'torch', 'lancedb', 'numpy', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
