"""Every door of the HTTP API, tried without a key, with a key that lacks the action, and by another tenant.

The operations come from the gateway's own OpenAPI document: one that is missing here fails the test.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import nats
import pytest

from services.gateway.answers.store import AnswerStore
from services.gateway.feedback.store import FeedbackStore
from shared.contracts.documents import Document, document_id
from shared.stores.collections import Collections
from shared.stores.dead_letters import DeadLetters
from shared.stores.documents import Documents
from sluice.api.feedback import Feedback, KeptAnswer
from sluice.client.tar import packed
from tests.harness.authenticated_gateway import AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer
from tests.harness.embedding_models import tiny_embedder

HIDDEN = 404
ADMINS = 403
OWN = 201
"""It makes something of the same name beside the other."""
INVALID = 422
"""It is no archive."""
NO_WORKER = 503
"""Engines are there for all tenants; here none runs."""

MARK = "a7f3acme"
"""In the names of all that the tenant `acme` has, so that it shows in whatever tells of it."""
ANSWER = "00000000001aaaaaaaaaaaa"

JSON: dict[str, Any] = {"json": {}}
SPEC = {"kind": "command", "args": ["true"]}
INFERENCE = {"json": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}}

DOORS: dict[str, tuple[int, dict[str, Any]]] = {
    "POST /v1/query": (HIDDEN, {"json": {"question": "?", "collection": "{collection}"}}),
    "POST /v1/chat/completions": (
        HIDDEN,
        {"json": {"model": "rag/{collection}", "messages": [{"role": "user", "content": "?"}]}},
    ),
    "POST /v1/completions": (NO_WORKER, {"json": {"model": "nobody-runs-this", "prompt": "?"}}),
    "POST /v1/embeddings": (NO_WORKER, {"json": {"model": "nobody-runs-this", "input": "?"}}),
    "POST /v1/rerank": (NO_WORKER, {"json": {"model": "nobody-runs-this", "query": "?", "documents": ["x"]}}),
    "POST /v2/rerank": (NO_WORKER, {"json": {"model": "nobody-runs-this", "query": "?", "documents": ["x"]}}),
    "GET /v2": (200, {}),
    "GET /v2/health/live": (200, {}),
    "GET /v2/health/ready": (200, {}),
    "GET /v2/models/{model}": (HIDDEN, {}),
    "GET /v2/models/{model}/ready": (HIDDEN, {}),
    "GET /v2/models/{model}/versions/{version}": (HIDDEN, {}),
    "GET /v2/models/{model}/versions/{version}/ready": (HIDDEN, {}),
    "POST /v2/models/{model}/infer": (
        HIDDEN,
        INFERENCE,
    ),
    "POST /v2/models/{model}/versions/{version}/infer": (
        HIDDEN,
        INFERENCE,
    ),
    "POST /v2/models/{model}/generate": (HIDDEN, {"json": {"text": "?"}}),
    "POST /v2/models/{model}/generate_stream": (HIDDEN, {"json": {"text": "?"}}),
    "POST /v2/models/{model}/versions/{version}/generate": (HIDDEN, {"json": {"text": "?"}}),
    "POST /v2/models/{model}/versions/{version}/generate_stream": (HIDDEN, {"json": {"text": "?"}}),
    "GET /v1/payloads": (ADMINS, {}),
    "POST /v1/models/{model}:predict": (HIDDEN, {"json": {"instances": [[1]]}}),
    "POST /v2/repository/index": (NO_WORKER, {}),
    "POST /v2/repository/models/{model}/load": (ADMINS, JSON),
    "POST /v2/repository/models/{model}/unload": (ADMINS, JSON),
    "GET /v1/models": (200, {}),
    "GET /v1/models/{model}": (HIDDEN, {}),
    "POST /v1/files": (200, {"files": {"file": ("a.jsonl", b"{}")}, "data": {"purpose": "batch"}}),
    "GET /v1/files": (200, {}),
    "GET /v1/files/{file}": (HIDDEN, {}),
    "DELETE /v1/files/{file}": (HIDDEN, {}),
    "GET /v1/files/{file}/content": (HIDDEN, {}),
    "POST /v1/batches": (
        HIDDEN,
        {"json": {"input_file_id": "{file}", "endpoint": "/v1/query", "completion_window": "1h"}},
    ),
    "GET /v1/batches": (200, {}),
    "GET /v1/batches/{batch}": (HIDDEN, {}),
    "POST /v1/batches/{batch}/cancel": (HIDDEN, {}),
    "GET /v1/collections": (200, {}),
    "POST /v1/collections": (OWN, {"json": {"name": "mine"}}),
    "GET /v1/collections/{collection}": (HIDDEN, {}),
    "PATCH /v1/collections/{collection}": (HIDDEN, {"json": {"description": "x"}}),
    "DELETE /v1/collections/{collection}": (HIDDEN, {}),
    "POST /v1/collections/{collection}/documents": (HIDDEN, {"json": {"documents": [{"name": "a", "text": "x"}]}}),
    "GET /v1/collections/{collection}/documents": (HIDDEN, {}),
    "DELETE /v1/collections/{collection}/documents": (HIDDEN, {"params": {"name": "{name}"}}),
    "GET /v1/collections/{collection}/documents/{document}": (HIDDEN, {}),
    "DELETE /v1/collections/{collection}/documents/{document}": (HIDDEN, {}),
    "GET /v1/collections/{collection}/documents/{document}/passages": (HIDDEN, {}),
    "PUT /v1/collections/{collection}/documents/{document}/permissions": (HIDDEN, {"json": {"allowed": ["public"]}}),
    "POST /v1/jobs": (202, {"json": {"spec": SPEC}}),
    "GET /v1/jobs": (200, {}),
    "GET /v1/jobs/{job}": (HIDDEN, {}),
    "GET /v1/jobs/{job}/spec": (HIDDEN, {}),
    "POST /v1/jobs/{job}/cancel": (HIDDEN, JSON),
    "POST /v1/jobs/{job}/retry": (HIDDEN, JSON),
    "GET /v1/jobs/{job}/steps": (HIDDEN, {}),
    "GET /v1/jobs/{job}/audit": (HIDDEN, {}),
    "GET /v1/jobs/{job}/artifacts": (HIDDEN, {}),
    "GET /v1/jobs/{job}/artifacts/{file}": (HIDDEN, {}),
    "GET /v1/jobs/{job}/events": (HIDDEN, {}),
    "GET /v1/runs": (200, {}),
    "GET /v1/runs/{run}": (HIDDEN, {}),
    "GET /v1/runs/{run}/metrics": (HIDDEN, {}),
    "PUT /v1/artifacts/{folder}/{file}": (OWN, {"content": b"mine"}),
    "GET /v1/artifacts/{folder}/{file}": (HIDDEN, {}),
    # One that is not there is no error.
    "DELETE /v1/artifacts/{folder}/{file}": (204, {}),
    "GET /v1/schedules": (200, {}),
    "GET /v1/schedules/{name}": (HIDDEN, {}),
    "PUT /v1/schedules/{name}": (OWN, {"json": {"spec": SPEC, "every": "90s", "paused": True}}),
    "DELETE /v1/schedules/{name}": (HIDDEN, {}),
    "POST /v1/schedules/{name}/pause": (HIDDEN, {}),
    "POST /v1/schedules/{name}/resume": (HIDDEN, {}),
    "POST /v1/schedules/{name}/trigger": (HIDDEN, {}),
    "GET /v1/pipelines": (200, {}),
    "GET /v1/traces": (200, {}),
    "GET /v1/traces/{id}": (HIDDEN, {}),
    "GET /v1/routes": (200, {}),
    "GET /v1/routes/{stage}": (HIDDEN, {}),
    "PUT /v1/routes/{stage}": (ADMINS, {"json": {"weights": {"default": 1}}}),
    "DELETE /v1/routes/{stage}": (ADMINS, {}),
    "GET /v1/status": (ADMINS, {}),
    "GET /v1/dead-letters": (ADMINS, {}),
    "GET /v1/dead-letters/{seq}": (ADMINS, {}),
    "DELETE /v1/dead-letters/{seq}": (ADMINS, {}),
    "POST /v1/dead-letters/{seq}/replay": (ADMINS, {}),
    "GET /v1/keys": (ADMINS, {}),
    "POST /v1/keys": (ADMINS, {"json": {"name": "n", "actions": ["admin"]}}),
    "GET /v1/keys/{key}": (ADMINS, {}),
    "DELETE /v1/keys/{key}": (ADMINS, {}),
    "POST /v1/keys/{key}/rotate": (ADMINS, JSON),
    "GET /v1/session": (200, {}),
    "POST /v1/session": (200, {}),
    "DELETE /v1/session": (204, {}),
    "GET /v1/usage": (200, {}),
    "GET /v1/registry/models": (200, {}),
    "POST /v1/registry/models": (INVALID, {"content": b""}),
    "GET /v1/registry/models/{model}": (HIDDEN, {}),
    "DELETE /v1/registry/models/{model}": (HIDDEN, {}),
    "GET /v1/registry/models/{model}/content": (HIDDEN, {}),
    "GET /v1/releases": (200, {}),
    "POST /v1/releases": (HIDDEN, {"json": {"collection": "{collection}"}}),
    "GET /v1/releases/{release}": (HIDDEN, {}),
    "DELETE /v1/releases/{release}": (HIDDEN, {}),
    "POST /v1/releases/{release}/promote": (HIDDEN, {"json": {}}),
    "POST /v1/releases/rollback": (HIDDEN, {"json": {"collection": "{collection}"}}),
    "PUT /v1/releases/{release}/aliases/{alias}": (HIDDEN, {}),
    "DELETE /v1/releases/{release}/aliases/{alias}": (HIDDEN, {}),
    "GET /v1/releases/{release}/lineage": (HIDDEN, {}),
    "GET /v1/releases/{release}/statement": (HIDDEN, {}),
    "GET /v1/releases/{release}/content": (HIDDEN, {}),
    "POST /v1/releases/content": (INVALID, {"content": b""}),
    "GET /v1/answers/{answer}/lineage": (HIDDEN, {}),
    "GET /v1/answers": (200, {}),
    "GET /v1/answers/{answer}": (HIDDEN, {}),
    "DELETE /v1/answers/{answer}": (HIDDEN, {}),
    "GET /v1/comparisons": (200, {"params": {"stage": "generate"}}),
    "POST /v1/feedback": (HIDDEN, {"json": {"answer": "{answer}", "rating": "up"}}),
    "GET /v1/feedback": (200, {}),
    "GET /v1/readers/{reader}": (ADMINS, {}),
    "DELETE /v1/readers/{reader}": (ADMINS, {}),
    # They are of one key, and this gateway keeps none.
    "GET /v1/conversations": (HIDDEN, {}),
    "DELETE /v1/conversations": (HIDDEN, {}),
    "GET /v1/conversations/{conversation}": (HIDDEN, {}),
    "PUT /v1/conversations/{conversation}": (HIDDEN, {"json": {"title": "x"}}),
    "DELETE /v1/conversations/{conversation}": (HIDDEN, {}),
}
"""By operation: the status that another tenant's key gets, and the rest of the request."""


@dataclass(frozen=True, kw_only=True)
class Acme:
    """A tenant with one of everything; `ids` are what its things are called."""

    gateway: AuthenticatedGateway
    http: httpx.Client
    ids: dict[str, str]

    def ask(self, client: httpx.Client, door: str) -> httpx.Response:
        """Try a door with the names of acme's things."""
        method, path = door.split(" ")
        return client.request(method, path.format(**self.at(path)), **self._filled(DOORS[door][1]))

    def at(self, path: str) -> dict[str, str]:
        """What the parts of a path are called: there are two kinds of files and of names."""
        if path.startswith("/v1/schedules"):
            return self.ids | {"name": self.ids["schedule"]}
        if path.startswith("/v2/") or path.endswith(":predict"):
            # A stage that nobody runs here: models of a repository take a predictor.
            return self.ids | {"model": "embed", "version": "1"}
        if path.startswith("/v1/registry"):
            return self.ids | {"model": self.ids["stored"]}
        return self.ids | ({"file": self.ids["name"]} if "/artifacts/" in path else {})

    def _filled(self, value: Any) -> Any:
        match value:
            case dict():
                return {name: self._filled(member) for name, member in value.items()}
            case str() if "{" in value:
                return value.format(**self.ids)
            case _:
                return value

    def everything(self) -> dict[str, Any]:
        """All that the tenant sees of its own."""
        paths = (
            "/v1/collections",
            "/v1/collections/{collection}/documents",
            "/v1/jobs",
            "/v1/files",
            "/v1/batches",
            "/v1/schedules",
            "/v1/models",
            "/v1/answers",
            "/v1/feedback",
            "/v1/registry/models",
            "/v1/releases",
            "/v1/artifacts/{folder}/{file}",
            "/v1/files/{file}/content",
        )
        return {path: self.http.get(path.format(**self.at(path))).text for path in paths}


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acme]:
    folder = tmp_path_factory.mktemp("tenants")
    with NatsServer(folder / "nats") as broker, authenticated_gateway(broker, folder, keep_answers=True) as gateway:
        http = gateway.of("acme")
        yield Acme(gateway=gateway, http=http, ids=furnish(broker, gateway, http))


def furnish(broker: NatsServer, gateway: AuthenticatedGateway, http: httpx.Client) -> dict[str, str]:
    """Give the tenant one of everything. Returns what its things are called."""
    collection, name, folder = f"docs-{MARK}", f"{MARK}.txt", f"inputs-{MARK}"
    assert http.post("/v1/collections", json={"name": collection}).status_code == 201
    added = http.post(f"/v1/collections/{collection}/documents", json={"documents": [{"name": name, "text": "x"}]})
    made = http.put(f"/v1/artifacts/{folder}/{name}", content=b"acme's own")
    schedule = http.put(
        f"/v1/schedules/nightly-{MARK}", json={"spec": SPEC, "every": "1h", "paused": True, "labels": {"of": MARK}}
    )
    file = http.post("/v1/files", files={"file": (name, b'{"custom_id": "1"}')}, data={"purpose": "batch"})
    batch = http.post(
        "/v1/batches", json={"input_file_id": file.json()["id"], "endpoint": "/v1/query", "completion_window": "1h"}
    )
    run = http.post(
        "/v1/jobs", json={"spec": {"kind": "evaluate", "collection": collection, "input": f"{folder}/{name}"}}
    )
    for response in (added, made, schedule, file, batch, run):
        assert response.is_success, response.text
    asyncio.run(bury_and_index(broker, collection, name))
    with TemporaryDirectory() as folder_of_model:
        model = b"".join(packed(tiny_embedder(Path(folder_of_model) / "tiny")))
    stored = http.post("/v1/registry/models", content=model, params={"description": MARK})
    release = http.post("/v1/releases", json={"collection": collection})
    for response in (stored, release):
        assert response.is_success, response.text
    return {
        "stored": stored.json()["name"],
        "release": release.json()["name"],
        "alias": "champion",
        "answer": ANSWER,
        "reader": "user:ines",
        "collection": collection,
        "conversation": "conversation1",
        "document": document_id(name),
        "name": name,
        "model": f"rag/{collection}",
        "job": added.json()["job"]["id"],
        "run": run.json()["job"]["id"],
        "folder": folder,
        "file": file.json()["id"],
        "batch": batch.json()["id"],
        "schedule": f"nightly-{MARK}",
        "id": added.json()["job"]["id"],
        "stage": "unheard-of",
        "seq": "1",
        "key": gateway.issue("acme", "query")["key"]["id"],
    }


async def bury_and_index(broker: NatsServer, collection: str, name: str) -> None:
    """A dead letter of the tenant's, a document in the index, and an answer that is kept with its feedback."""
    connection = await nats.connect(broker.url)
    jetstream = connection.jetstream()
    await DeadLetters(connection, jetstream).bury(
        "query.generate.default.interactive.acme", b"{}", {}, reason=MARK, deliveries=4, message_id="1"
    )
    record = await Collections(jetstream).get("acme", collection)
    document = Document(
        id=document_id(name), name=name, sha256="0", bytes=1, chunks=1, indexed_at=time.time(), revision=1, job="j"
    )
    await Documents(jetstream).put(record.table, document, owner=record.owner)
    kept = KeptAnswer(id=ANSWER, answer=MARK, question="Whose?", collection=collection, reader="user:ines", key="k")
    await AnswerStore(jetstream).put("acme", kept)
    said = Feedback(answer=ANSWER, reader="user:ines", rating="up", kept=kept)
    await FeedbackStore(jetstream).change("acme", ANSWER, "user:ines", lambda _: said)
    await connection.close()


def operations(gateway: AuthenticatedGateway) -> set[str]:
    paths = gateway.client(None).get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_every_operation_of_the_api_is_in_the_table(acme: Acme) -> None:
    assert set(DOORS) == operations(acme.gateway)


@pytest.fixture(scope="module")
def strangers(acme: Acme) -> tuple[httpx.Client, ...]:
    """A client without a key, and one with a key that nobody made."""
    return acme.gateway.client(None), acme.gateway.client("sk-sluice-aaaaaaaaaaaa-" + "0" * 64)


@pytest.mark.parametrize("door", DOORS)
def test_nobody_gets_through_a_door_without_a_key(acme: Acme, strangers: tuple[httpx.Client, ...], door: str) -> None:
    for client in strangers:
        response = acme.ask(client, door)
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="sluice"')


@pytest.fixture(scope="module")
def idle(acme: Acme) -> httpx.Client:
    """A client whose key of the same tenant allows nothing of the API."""
    return acme.gateway.of("acme", "metrics")


@pytest.mark.parametrize("door", DOORS)
def test_a_key_that_lacks_the_action_opens_no_door(acme: Acme, idle: httpx.Client, door: str) -> None:
    assert acme.ask(idle, door).status_code == 403


@pytest.fixture(scope="module")
def rival(acme: Acme) -> httpx.Client:
    """A client of another tenant, whose key allows everything but to run the platform."""
    return acme.gateway.of("rival")


@pytest.fixture(scope="module")
def maker(acme: Acme) -> httpx.Client:
    """The same of one more tenant, which makes things of its own."""
    return acme.gateway.of("maker")


@pytest.mark.parametrize("door", DOORS)
def test_another_tenant_neither_sees_nor_touches_anything(
    acme: Acme, rival: httpx.Client, maker: httpx.Client, door: str
) -> None:
    reads, expected = door.startswith("GET"), DOORS[door][0]
    before = {} if reads else acme.everything()
    response = acme.ask(maker if expected == OWN else rival, door)
    assert response.status_code == expected, response.text
    assert not (reads and response.is_success and MARK in response.text)
    assert reads or acme.everything() == before


def test_what_a_tenant_has_it_sees_itself(acme: Acme) -> None:
    told = acme.everything()
    assert told.pop("/v1/artifacts/{folder}/{file}") == "acme's own"
    assert told.pop("/v1/files/{file}/content") == '{"custom_id": "1"}'
    assert "batch_" in told.pop("/v1/batches")
    assert all(MARK in text for text in told.values())


def test_two_tenants_may_call_things_alike(acme: Acme, rival: httpx.Client) -> None:
    name = acme.ids["collection"]
    folder = f"/v1/artifacts/{acme.ids['folder']}/same.txt"
    key = {"Idempotency-Key": "the same"}
    for client, content in ((acme.http, b"one"), (acme.gateway.of("third"), b"two")):
        assert client.post("/v1/collections", json={"name": f"{name}-too"}).status_code == 201
        client.put(folder, content=content).raise_for_status()
        made = client.post("/v1/jobs", json={"spec": SPEC}, headers=key).json()["job"]
        assert client.get(f"/v1/jobs/{made['id']}").status_code == 200
        assert [job["id"] for job in client.get("/v1/jobs", params={"kind": "command"}).json()["jobs"]].count(
            made["id"]
        ) == 1
        assert client.get(folder).content == content
    assert acme.http.get(folder).content == b"one"
    assert rival.get(folder).status_code == 404


def test_metrics_are_for_keys_that_say_so_and_for_admins(acme: Acme, idle: httpx.Client, rival: httpx.Client) -> None:
    clients = (acme.gateway.client(None), rival, idle, acme.gateway.admin)
    assert [client.get("/metrics").status_code for client in clients] == [401, 403, 200, 200]
    assert [client.get("/asyncapi").status_code for client in clients] == [401, 403, 403, 200]
    assert [client.get("/livez").status_code for client in clients] == [200] * 4


def test_the_audit_log_says_who_did_what_and_no_log_holds_a_secret(acme: Acme, rival: httpx.Client) -> None:
    written = rival.headers["Authorization"].removeprefix("Bearer ")
    log = acme.gateway.process.log
    assert '"action": "DELETE /v1/artifacts/{folder}/{file}"' in log
    assert '"key_name": "key of rival", "user": "", "tenant": "rival"' in log
    assert written.split("-")[2] in log
    for secret in (written, written.rpartition("-")[2], acme.gateway.admin.headers["Authorization"][7:]):
        assert secret not in log


def test_the_bucket_holds_hashes_and_the_api_tells_neither_secrets_nor_hashes(acme: Acme, tmp_path: Path) -> None:
    issued = acme.gateway.issue("acme", "query")
    assert "sha256" not in acme.gateway.admin.get("/v1/keys").text
    assert issued["secret"] not in acme.gateway.admin.get(f"/v1/keys/{issued['key']['id']}").text
