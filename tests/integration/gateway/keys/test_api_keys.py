"""API keys on a running gateway: made, rotated and revoked without a restart, limited, and narrowed to collections."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import nats
import openai
import pytest
from typer.testing import CliRunner

from services.scheduler.clients.requests import Requests
from shared.contracts.jobs import Endpoint
from shared.fairness import FairShare
from shared.nats.subjects import KEYS
from shared.runtime.requester import Requester
from shared.stores.artifacts import Artifacts
from shared.stores.collections import Collections
from sluice.cli import app
from tests.harness.authenticated_gateway import ADMIN, AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import open_stage_harness
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio

ORIGIN = "https://app.example"
ASKED = {"question": "What?", "collection": "docs"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthenticatedGateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with authenticated_gateway(broker, folder, cors_origins=ORIGIN, body_idle_seconds=0.2, audit="all") as running:
        yield running


@pytest.fixture(scope="module")
def acme(gateway: AuthenticatedGateway) -> httpx.Client:
    """A client of a tenant with the collections `docs` and `wiki`."""
    client = gateway.of("acme")
    for name in ("docs", "wiki"):
        assert client.post("/v1/collections", json={"name": name}).status_code == 201
    return client


def code(response: httpx.Response) -> str:
    body = response.json()
    return str((body["error"]["sluice"] if "error" in body else body)["type"].rpartition(":")[2])


def test_a_change_of_a_key_is_in_force_at_once_where_it_was_made(gateway: AuthenticatedGateway) -> None:
    for _ in range(10):
        issued = gateway.issue("acme", "read")
        path = f"/v1/keys/{issued['key']['id']}"
        assert gateway.client(issued["secret"]).get("/v1/collections").status_code == 200
        rotated = gateway.admin.post(f"{path}/rotate", json={"grace_seconds": 0}).json()["secret"]
        assert gateway.client(issued["secret"]).get("/v1/collections").status_code == 401
        assert gateway.client(rotated).get("/v1/collections").status_code == 200
        assert gateway.admin.delete(path).status_code == 200
        assert gateway.client(rotated).get("/v1/collections").status_code == 401


def test_a_key_is_in_force_and_out_of_it_again_without_a_restart(gateway: AuthenticatedGateway) -> None:
    issued = gateway.issue("acme", "read")
    client = gateway.client(issued["secret"])
    gateway.until(client, lambda status: status == 403)
    revoked = gateway.admin.delete(f"/v1/keys/{issued['key']['id']}")
    assert (revoked.json()["state"], revoked.json()["revoked_by"], revoked.json()["secrets"]) == ("revoked", "admin", 0)
    gateway.until(client, lambda status: status == 401)
    rotated = gateway.admin.post(f"/v1/keys/{issued['key']['id']}/rotate", json={})
    assert (rotated.status_code, code(rotated)) == (422, "invalid-request")


def test_a_rotated_key_has_two_secrets_until_the_grace_is_over(gateway: AuthenticatedGateway) -> None:
    issued = gateway.issue("acme", "read")
    path, old = f"/v1/keys/{issued['key']['id']}", gateway.client(issued["secret"])
    rotated = gateway.admin.post(f"{path}/rotate", json={"grace_seconds": 3600})
    assert (rotated.headers["cache-control"], rotated.json()["key"]["secrets"]) == ("no-store", 2)
    new = gateway.client(rotated.json()["secret"])
    gateway.until(new, lambda status: status == 403)
    assert old.get("/v1/collections").status_code == 200
    gateway.admin.post(f"{path}/rotate", json={"grace_seconds": 0}).raise_for_status()
    gateway.until(old, lambda status: status == 401)
    assert new.get("/v1/collections").status_code == 401


def test_a_key_that_expires_lets_nobody_in_any_more(gateway: AuthenticatedGateway) -> None:
    client = gateway.client(gateway.issue("acme", "read", expires_in=0.2)["secret"])
    gateway.until(client, lambda status: status == 403)
    gateway.until(client, lambda status: status == 401)


@pytest.mark.parametrize(
    "wrong",
    [
        {"actions": []},
        {"actions": ["everything"]},
        {"tenant": "two.words"},
        {"collections": ["Docs/*"]},
        {"expires_in": -1},
        {"requests_per_minute": 0},
        {"name": ""},
        {"surprise": 1},
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(gateway: AuthenticatedGateway, wrong: dict[str, Any]) -> None:
    response = gateway.admin.post("/v1/keys", json={"name": "n", "actions": ["query"], **wrong})
    assert (response.status_code, code(response)) == (422, "invalid-request")


async def test_what_is_kept_of_a_key_is_a_hash(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    issued = gateway.issue("acme", "read")
    connection = await nats.connect(broker.url)
    entry = await (await connection.jetstream().key_value(KEYS)).get(issued["key"]["id"])
    await connection.close()
    assert entry.value is not None
    assert b"sha256" in entry.value
    assert issued["secret"].rpartition("-")[2].encode() not in entry.value


def test_the_sdk_of_openai_takes_the_key_and_is_told_what_is_wrong_with_it(
    gateway: AuthenticatedGateway, acme: httpx.Client
) -> None:
    written = acme.headers["Authorization"].removeprefix("Bearer ")
    names = [model.id for model in openai.OpenAI(base_url=f"{gateway.process.url}/v1", api_key=written).models.list()]
    assert {"rag/docs", "rag/wiki"} <= set(names)
    with pytest.raises(openai.AuthenticationError) as caught:
        openai.OpenAI(base_url=f"{gateway.process.url}/v1", api_key="wrong", max_retries=0).models.list()
    assert caught.value.code == "invalid_api_key"


def test_a_key_of_its_own_header_is_taken_as_well(gateway: AuthenticatedGateway, acme: httpx.Client) -> None:
    written = acme.headers["Authorization"].removeprefix("Bearer ")
    assert gateway.client(None).get("/v1/collections", headers={"X-API-Key": written}).status_code == 200


def test_one_request_too_many_is_refused_and_told_when_to_come_back(gateway: AuthenticatedGateway) -> None:
    client = gateway.of("acme", "query", requests_per_minute=2)  # which asks once
    last, refused = client.get("/v1/models"), client.get("/v1/models")
    assert (last.status_code, last.headers["ratelimit-policy"]) == (200, '"requests";q=2;w=60')
    assert last.headers["ratelimit"].startswith('"requests";r=0;')
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (refused.json()["error"]["type"], code(refused)) == ("rate_limit_error", "rate-limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    plain = client.get("/v1/pipelines")
    assert (plain.status_code, plain.headers["content-type"]) == (429, "application/problem+json")


@asynccontextmanager
async def limited_client(gateway: AuthenticatedGateway, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=gateway.process.url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


async def test_the_tokens_of_answers_count_whole_or_streamed(
    gateway: AuthenticatedGateway, broker: NatsServer, acme: httpx.Client
) -> None:
    async with Stages(broker.url).running():
        for stream in (False, True):
            key = gateway.issue("acme", "query", tokens_per_minute=5)["secret"]
            gateway.until(gateway.client(key), lambda status: status == 403)
            async with limited_client(gateway, key) as client:
                first = await client.post("/v1/query", json={**ASKED, "stream": stream})
                assert first.status_code == 200
                second = await client.post("/v1/query", json=ASKED)
            # The answer had 7 tokens of prompt and 2 of its own.
            assert (second.status_code, code(second)) == (429, "rate-limited")
            assert second.headers["ratelimit"].startswith('"tokens";r=0;')


async def test_queries_travel_as_their_tenants_and_find_their_own_collection(
    gateway: AuthenticatedGateway, broker: NatsServer, acme: httpx.Client
) -> None:
    other = gateway.of("rival")
    assert other.post("/v1/collections", json={"name": "docs"}).status_code == 201
    stages = Stages(broker.url)
    async with stages.running():
        for client in (acme, other):
            key = client.headers["Authorization"].removeprefix("Bearer ")
            async with limited_client(gateway, key) as limited:
                assert (await limited.post("/v1/query", json=ASKED)).status_code == 200
    connection = await nats.connect(broker.url)
    collections = Collections(connection.jetstream())
    tables = [(tenant, (await collections.get(tenant, "docs")).table) for tenant in ("acme", "rival")]
    await connection.close()
    assert [(query.tenant, query.collection) for query in stages.given["retrieve"]] == tables
    assert len({table for _, table in tables}) == 2


NARROW = {"collections": ["doc?"]}


def test_a_key_for_some_collections_sees_and_reaches_no_others(
    gateway: AuthenticatedGateway, acme: httpx.Client
) -> None:
    narrow = gateway.of("acme", **NARROW)
    assert [c["name"] for c in narrow.get("/v1/collections").json()["collections"]] == ["docs"]
    assert [model["id"] for model in narrow.get("/v1/models").json()["data"]] == ["rag/docs"]
    chat = {"model": "rag/wiki", "messages": [{"role": "user", "content": "?"}]}
    texts = {"documents": [{"name": "a", "text": "x"}]}
    job = acme.post("/v1/collections/wiki/documents", json=texts).json()["job"]["id"]
    acme.put(f"/v1/schedules/{job[:8]}", json={"spec": reindex("wiki"), "every": "1h", "paused": True})
    refusals = [
        narrow.get("/v1/collections/wiki"),
        narrow.get("/v1/collections/nowhere"),
        narrow.post("/v1/collections", json={"name": "other"}),
        narrow.delete("/v1/collections/wiki"),
        narrow.post("/v1/collections/wiki/documents", json=texts),
        narrow.get("/v1/collections/wiki/documents"),
        narrow.post("/v1/query", json={**ASKED, "collection": "wiki"}),
        narrow.post("/v1/chat/completions", json=chat),
        narrow.post("/v1/chat/completions", json={**chat, "model": "x", "sluice": {"collection": "wiki"}}),
        narrow.get(f"/v1/jobs/{job}"),
        narrow.get(f"/v1/jobs/{job}/events"),
        narrow.get(f"/v1/jobs/{job}/artifacts/x"),
        narrow.get(f"/v1/artifacts/{job}/x"),
        narrow.post(f"/v1/jobs/{job}/cancel", json={}),
        narrow.post("/v1/jobs", json={"spec": reindex("wiki")}),
        narrow.put("/v1/schedules/mine", json={"spec": reindex("wiki"), "every": "1h"}),
        narrow.put(f"/v1/schedules/{job[:8]}", json={"spec": reindex("docs"), "every": "1h"}),
        narrow.get(f"/v1/schedules/{job[:8]}"),
        narrow.post(f"/v1/schedules/{job[:8]}/trigger"),
    ]
    assert {(response.status_code, code(response)) for response in refusals} == {(403, "forbidden")}
    assert job not in narrow.get("/v1/jobs").text
    assert narrow.get("/v1/schedules").json() == {"schedules": []}
    assert narrow.post("/v1/collections/docs/documents", json=texts).status_code == 202


def test_only_who_may_run_commands_sees_the_values_of_their_environment(
    gateway: AuthenticatedGateway, acme: httpx.Client
) -> None:
    command = {"kind": "command", "args": ["true"], "env": {"PASSWORD": "swordfish"}}
    pipeline = {"kind": "pipeline", "name": "p", "steps": {"one": {"job": command}}}
    shown = []
    for number, spec in enumerate((command, pipeline)):
        job = acme.post("/v1/jobs", json={"spec": spec}).json()["job"]["id"]
        schedule = {"spec": spec, "every": "1h", "paused": True}
        assert acme.put(f"/v1/schedules/secret{number}", json=schedule).status_code == 201
        shown += [f"/v1/jobs/{job}/spec", f"/v1/schedules/secret{number}", "/v1/schedules"]
    readers = gateway.of("acme", actions=["read", "write", "jobs"])
    for path in shown:
        assert "swordfish" in acme.get(path).text
        assert "swordfish" not in readers.get(path).text
        assert '"PASSWORD":"***"' in readers.get(path).text
    paused = readers.post("/v1/schedules/secret1/pause")
    assert (paused.status_code, "swordfish" in paused.text) == (200, False)


@pytest.mark.parametrize(
    ("spec", "actions"),
    [
        ({"kind": "command", "args": ["true"]}, ["read", "write", "jobs"]),
        ({"kind": "reindex", "collection": "docs"}, ["query", "jobs"]),
    ],
)
def test_who_may_not_submit_a_schedules_job_may_neither_trigger_nor_resume_it(
    gateway: AuthenticatedGateway, acme: httpx.Client, spec: dict[str, object], actions: list[str]
) -> None:
    name = f"paused-{spec['kind']}"
    assert acme.put(f"/v1/schedules/{name}", json={"spec": spec, "every": "1h", "paused": True}).status_code == 201
    lesser = gateway.of("acme", actions=actions)
    for change in ("trigger", "resume"):
        refused = lesser.post(f"/v1/schedules/{name}/{change}")
        assert (refused.status_code, code(refused)) == (403, "forbidden")
    assert acme.get(f"/v1/schedules/{name}").json()["paused"] is True
    assert lesser.post(f"/v1/schedules/{name}/pause").status_code == 200
    assert acme.post(f"/v1/schedules/{name}/resume").json()["paused"] is False


def reindex(collection: str) -> dict[str, str]:
    return {"kind": "reindex", "collection": collection}


def test_a_job_is_noted_under_the_keys_name_and_carries_its_collections(
    gateway: AuthenticatedGateway, acme: httpx.Client
) -> None:
    narrow = gateway.of("acme", name="website", **NARROW)
    made = narrow.post("/v1/jobs", json={"spec": reindex("docs"), "by": "somebody else"}).json()["job"]
    assert (made["options"]["by"], made["options"]["collections"]) == ("website", ["doc?"])
    (event,) = narrow.get(f"/v1/jobs/{made['id']}/audit").json()["events"]
    assert event["by"] == "website"


async def test_a_line_of_a_batch_reaches_the_collections_of_the_key_that_made_the_batch(
    gateway: AuthenticatedGateway, broker: NatsServer, acme: httpx.Client
) -> None:
    async with open_stage_harness(broker.url) as harness:
        stages = Requester(harness.client, harness.jetstream, harness.topology, name="scheduler", seconds=20, tries=1)
        requests = Requests(stages, Artifacts(harness.jetstream), room=FairShare(1), seconds=20)
        line = json.dumps({**ASKED, "collection": "wiki", "timeout": 0.5}).encode()
        refused = await requests.send(Endpoint.QUERY, line, tenant="acme", collections=("doc?",))
        hidden = await requests.send(Endpoint.QUERY, line, tenant="nobody")
    assert (refused.status, hidden.status) == (403, 404)


def test_pages_of_other_origins_may_call_only_if_they_are_named(
    gateway: AuthenticatedGateway, acme: httpx.Client
) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    nobody = gateway.client(None)
    granted = nobody.options("/v1/query", headers={"Origin": ORIGIN, **asks})
    assert (granted.status_code, granted.headers["access-control-allow-origin"]) == (200, ORIGIN)
    refused = nobody.options("/v1/query", headers={"Origin": "https://evil.example", **asks})
    assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (400, False)
    told = acme.get("/v1/collections", headers={"Origin": ORIGIN})
    assert told.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in told.headers
    across = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    form = {"files": ("a.txt", b"x")}
    assert acme.post("/v1/collections/docs/documents", files=form, headers=across).status_code == 202
    across["Origin"] = "https://evil.example"
    assert acme.post("/v1/collections/docs/documents", files=form, headers=across).status_code == 403


def test_a_body_that_does_not_come_is_not_waited_for(gateway: AuthenticatedGateway, acme: httpx.Client) -> None:
    url = httpx.URL(gateway.process.url)
    head = (
        "POST /v1/query HTTP/1.1\r\nHost: sluice\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
        f"Authorization: {acme.headers['Authorization']}\r\n\r\n{{"
    )
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408")


def test_the_command_line_makes_lists_rotates_and_revokes_keys(gateway: AuthenticatedGateway) -> None:
    def run(*args: str) -> Any:
        environment = {"SLUICE_URL": gateway.process.url, "SLUICE_API_KEY": ADMIN}
        return CliRunner().invoke(app, ["keys", *args], env=environment)

    made = run("create", "nightly", "--tenant", "acme", "-a", "jobs", "-a", "write", "-c", "docs-*", "--expires", "90d")
    secret = made.stdout.strip()
    assert secret.startswith("sk-sluice-")
    key = secret.split("-")[2]
    (row,) = [line for line in run("list").stdout.splitlines() if line.startswith(key)]
    assert row.split("\t")[1:6] == ["nightly", "acme", "active", "jobs,write", "docs-*"]
    rotated = json.loads(run("rotate", key, "--grace", "1h", "--json").stdout)
    assert (rotated["key"]["secrets"], rotated["secret"] != secret) == (2, True)
    assert "lets nobody in" in run("revoke", key).stdout
    assert run("create", "x", "-a", "query", "--expires", "soon").exit_code == 2


def test_where_no_key_is_asked_for_none_can_be_made(tmp_path: Path) -> None:
    with (
        NatsServer(tmp_path / "nats") as broker,
        ServiceProcess("services.gateway", tmp_path, nats_url=broker.url) as gateway,
        httpx.Client(base_url=gateway.url, trust_env=False) as client,
    ):
        ignored = {"Authorization": "Bearer unused"}
        assert client.post("/v1/collections", json={"name": "docs"}, headers=ignored).status_code == 201
        assert [client.get(path).status_code for path in ("/v1/status", "/metrics", "/v1/keys")] == [200] * 3
        refused = client.post("/v1/keys", json={"name": "n", "actions": ["query"]})
        assert (refused.status_code, code(refused)) == (409, "conflict")
        assert "SLUICE_ADMIN_KEY" in refused.json()["detail"]
        asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
        assert "access-control-allow-origin" not in client.options("/v1/query", headers=asks).headers
        assert "no admin key is set" in gateway.log
        assert '"message": "audit"' not in gateway.log


def test_a_gateway_without_the_admin_key_still_asks_for_those_on_the_broker(
    gateway: AuthenticatedGateway, broker: NatsServer, acme: httpx.Client, tmp_path: Path
) -> None:
    with ServiceProcess("services.gateway", tmp_path, nats_url=broker.url) as bare:
        assert httpx.get(f"{bare.url}/v1/collections", trust_env=False).status_code == 401
        known = {"Authorization": acme.headers["Authorization"]}
        assert httpx.get(f"{bare.url}/v1/collections", headers=known, trust_env=False).status_code == 200


def test_a_gateway_that_would_be_open_to_others_does_not_start(tmp_path: Path) -> None:
    environment = {**os.environ, "SLUICE_HTTP_HOST": "0.0.0.0", "SLUICE_HTTP_PORT": "0"}
    ended = subprocess.run([sys.executable, "-m", "services.gateway"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "SLUICE_ADMIN_KEY" in ended.stderr


def test_metrics_can_have_a_port_of_their_own_without_keys(broker: NatsServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with authenticated_gateway(broker, tmp_path, metrics_port=port) as gateway:
        own = f"http://127.0.0.1:{port}"
        assert "sluice_gateway_requests_total" in httpx.get(f"{own}/metrics", trust_env=False).text
        assert httpx.get(f"{own}/v1/collections", trust_env=False).status_code == 404
        assert gateway.client(None).get("/metrics").status_code == 401
        assert gateway.process.stop() == 0
