"""Each service has a credential that opens its own doors on the broker and no other's; the platform needs no more."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import nats
import pytest

from shared.nats.settings import QueueSettings
from shared.nats.subjects import EVERYTHING, QUERIES
from shared.nats.topology import Topology
from shared.security.roles import ADMIN, Deployment, roles
from tests.harness.processes import ServiceProcess
from tests.harness.secured_broker import SERVICES, Platform, SecuredBroker, secured_broker, secured_platform
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

REDACTED = Deployment(pipelines=(("embed", "retrieve", "redact", "generate"),))
FOREIGN_SUBJECTS = (
    "control.ping",
    "control.trace",
    "control.cancel.q",
    "control.job.j.cancel",
    "reply.gateway-1.q",
    "reply.gateway-1.q.delivered",
    "reply.scheduler.q",
    "event.job.j.succeeded",
    "timer.cron.acme.nightly",
    "timer.retry.acme.j",
    "due.tick.acme.nightly",
    "job.ingest.normal.acme",
    "job.command.high.acme",
    "dead.job.ingest.normal.acme",
    "$SYS.REQ.SERVER.PING",
    *(f"query.{stage}.default.interactive.acme" for stage in ("embed", "retrieve", "generate", "condense", "request")),
    "query.index.default.batch.acme",
    "query.redact.default.interactive.acme",
    *(f"dead.query.{stage}.default.interactive.acme" for stage in ("embed", "retrieve", "generate")),
    *(f"_INBOX_{service}.stolen" for service in (*SERVICES, "stage-redact")),
)
HIGH_WATER = {"question": "When is high water?", "collection": "tides"}
FAILING = {"kind": "command", "command": ["false"], "executor": "process"}
SECRETS = (
    "jobs",
    "job-specs",
    "collections",
    "documents",
    "routes",
    "keys",
    "schedules",
    "files",
    "batches",
    "conversations",
    "usage",
    "answers",
    "feedback",
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    with secured_broker(tmp_path_factory.mktemp("broker"), REDACTED) as secured:
        yield secured


@pytest.fixture(scope="module")
def platform(broker: SecuredBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    watch = {"question_drift": True, "question_drift_minutes": 0.05}
    with secured_platform(broker, tmp_path_factory.mktemp("platform"), **watch) as running:
        yield running


@pytest.fixture
async def http(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=platform.url, trust_env=False, timeout=60) as http:
        yield http


def allowed(role: str, kind: str) -> set[str]:
    (found,) = [r for r in roles(REDACTED) if r.name == role]
    return set(found.publish if kind == "publish" else found.subscribe)


def matches(subject: str, pattern: str) -> bool:
    names, wanted = subject.split("."), pattern.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(names) > position
        if position >= len(names) or token not in ("*", names[position]):
            return False
    return len(names) == len(wanted)


async def ended(http: httpx.AsyncClient, job: str) -> dict[str, object]:
    async def state() -> dict[str, object] | None:
        found: dict[str, object] = (await http.get(f"/v1/jobs/{job}")).json()
        return found if found["state"] in ("succeeded", "failed", "cancelled") else None

    entry: dict[str, object] = await until(state, f"job {job} ended")
    return entry


async def add(http: httpx.AsyncClient, collection: str, name: str, text: str) -> dict[str, object]:
    await http.post("/v1/collections", json={"name": collection})
    body = {"documents": [{"name": name, "text": text}]}
    response = await http.post(f"/v1/collections/{collection}/documents", json=body)
    assert response.status_code == 202, response.text
    return await ended(http, response.json()["job"]["id"])


async def questions_were_read(platform: Platform) -> bool:
    async with httpx.AsyncClient(base_url=platform.processes["scheduler"].url, trust_env=False, timeout=60) as http:
        page = (await http.get("/metrics")).text
    # Of the one answer that is kept: too few to compare.
    counted = r'^sluice_question_drift_comparisons_total{outcome="too-few"} [1-9]'
    return re.search(counted, page, re.MULTILINE) is not None


async def ask(http: httpx.AsyncClient, collection: str, question: str) -> str:
    response = await http.post("/v1/query", json={"question": question, "collection": collection})
    assert response.status_code == 200, response.text
    answer: str = response.json()["answer"]
    return answer


async def test_the_platform_does_all_its_work_with_restricted_credentials(
    platform: Platform, http: httpx.AsyncClient
) -> None:
    job = await add(http, "lamps", "lamp.txt", "The blue lamp was built by Ottilie Brandt in 1911.")
    assert job["state"] == "succeeded", job["error"]
    assert "Ottilie" in await ask(http, "lamps", "Who built the blue lamp?")
    status = (await http.get("/v1/status")).json()
    assert {service["service"] for service in status["services"]} == set(SERVICES)
    assert {queue["stage"] for queue in status["queues"]} >= {"embed", "retrieve", "index", "generate", "request"}
    for page in (
        "/v1/jobs",
        "/v1/collections/lamps/documents",
        "/v1/dead-letters",
        "/v1/routes",
        "/v1/schedules",
        "/v1/usage",
        "/v1/answers",
        "/v1/feedback",
        "/v1/comparisons?stage=generate",
    ):
        assert (await http.get(page)).status_code == 200, page
    assert (await http.get(f"/v1/jobs/{job['id']}/audit")).status_code == 200
    assert (await http.get("/v1/usage")).json()["total"]["requests"] == 1
    (kept,) = (await http.get("/v1/answers")).json()["answers"]
    judged = await http.post("/v1/feedback", json={"answer": kept["id"], "rating": "up"})
    assert judged.status_code == 200, judged.text
    await until(lambda: questions_were_read(platform), "the scheduler has read the kept answers")
    assert (await http.delete(f"/v1/answers/{kept['id']}")).status_code == 204
    assert platform.violations == []


async def test_models_of_a_repository_work_with_them(platform: Platform, http: httpx.AsyncClient) -> None:
    for rows in (1, 90_000):  # in the message, and as an object beside it
        tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 3], "data": [1] * 3 * rows}
        answered = await http.post("/v2/models/doubler/infer", json={"inputs": [tensor]})
        assert answered.status_code == 200, answered.text
        assert len(answered.json()["outputs"][0]["data"]) == 3 * rows
    assert (await http.post("/v2/repository/models/doubler/unload")).status_code == 200
    assert platform.violations == []


async def test_batches_pipelines_schedules_versions_and_deletions_work_with_them(
    platform: Platform, http: httpx.AsyncClient
) -> None:
    await add(http, "tides", "tide.txt", "High water at Sundsholm is at 04:10.")
    lines = b"".join(
        json.dumps({"custom_id": str(n), "method": "POST", "url": "/v1/query", "body": HIGH_WATER}).encode() + b"\n"
        for n in range(3)
    )
    uploaded = await http.put("/v1/artifacts/mine/in.jsonl", content=lines)
    assert uploaded.is_success, uploaded.text
    specs = [
        {"kind": "batch", "input": "mine/in.jsonl"},
        {"kind": "reindex", "collection": "tides", "chunk_tokens": 64, "chunk_overlap": 0},
        {
            "kind": "pipeline",
            "name": "nightly",
            "steps": {"say": {"job": {"kind": "command", "command": ["echo", "done"], "executor": "process"}}},
        },
    ]
    for spec in specs:
        submitted = await http.post("/v1/jobs", json={"spec": spec})
        assert submitted.is_success, submitted.text
        found = submitted.json()
        job = await ended(http, found.get("job", found)["id"])
        assert job["state"] == "succeeded", job["error"]
    doomed = await http.post("/v1/jobs", json={"spec": FAILING})
    failed = await ended(http, doomed.json()["job"]["id"])
    assert failed["state"] == "failed"
    assert (await http.post(f"/v1/jobs/{failed['id']}/retry")).is_success
    every = {"every": "1h", "spec": {"kind": "switch", "collection": "tides"}}
    scheduled = await http.put("/v1/schedules/hourly", json=every)
    assert scheduled.is_success, scheduled.text
    assert (await http.delete("/v1/schedules/hourly")).is_success
    deletion = await http.delete("/v1/collections/tides")
    assert (await ended(http, deletion.json()["job"]["id"]))["state"] == "succeeded"
    assert platform.violations == []


async def test_jobs_and_queries_are_stopped_and_a_killed_worker_loses_no_query(
    platform: Platform, http: httpx.AsyncClient
) -> None:
    await add(http, "harbours", "harbour.txt", "The harbour of Rauma was built in 1890.")
    endless = {"kind": "command", "command": ["sleep", "600"], "executor": "process"}
    job = (await http.post("/v1/jobs", json={"spec": endless})).json()["job"]["id"]
    assert (await http.post(f"/v1/jobs/{job}/cancel")).is_success
    assert (await ended(http, job))["state"] == "cancelled"
    retriever = platform.processes["retriever"]
    retriever.kill()
    body = {"question": "When was the harbour built?", "collection": "harbours", "timeout": 60}
    with pytest.raises(httpx.ReadTimeout):
        await http.post("/v1/query", json=body, timeout=0.5)  # it leaves, and its query is cancelled
    waiting = asyncio.create_task(http.post("/v1/query", json=body))
    retriever.start()
    await asyncio.to_thread(retriever.wait_ready, 90)
    assert "1890" in (await waiting).json()["answer"]
    assert platform.violations == []


async def test_a_broker_that_comes_back_without_its_memory_is_repaired_by_those_who_may(
    platform: Platform, http: httpx.AsyncClient
) -> None:
    await add(http, "ferries", "ferry.txt", "The ferry Njord leaves for Rauma at a quarter past six.")
    platform.broker.server.kill(signal.SIGKILL)
    platform.broker.server.start()

    async def answered() -> bool:
        response = await http.post(
            "/v1/query", json={"question": "Where does the ferry go?", "collection": "ferries", "timeout": 10}
        )
        return response.status_code == 200 and "Rauma" in response.json()["answer"]

    await until(answered, "an answer after the broker's restart")
    assert platform.violations == []


@pytest.mark.parametrize("user", [*SERVICES, "stage-redact"])
async def test_a_credential_publishes_nothing_but_what_is_its_own(broker: SecuredBroker, user: str) -> None:
    patterns = allowed(user, "publish")
    async with broker.client(user) as probe:
        for subject in FOREIGN_SUBJECTS:
            own = any(matches(subject, pattern) for pattern in patterns)
            assert await probe.may_publish(subject) == own, subject
    refused = [s for s in FOREIGN_SUBJECTS if not any(matches(s, pattern) for pattern in patterns)]
    assert len(refused) >= 10, "a credential that may nearly everything proves nothing"


@pytest.mark.parametrize("user", [*SERVICES, "stage-redact"])
async def test_a_credential_reads_nothing_but_what_is_its_own(broker: SecuredBroker, user: str) -> None:
    patterns = allowed(user, "subscribe")
    async with broker.client(user) as probe:
        for subject in (*FOREIGN_SUBJECTS, ">", "query.>", "reply.>", "$KV.>", "$O.>", "_INBOX.>", "$JS.API.>"):
            own = any(matches(subject, pattern) for pattern in patterns)
            if subject.startswith("reply.scheduler.") and user == "gateway":
                own = False
            assert await probe.may_subscribe(subject) == own, subject


@pytest.mark.parametrize("user", ["embedder", "retriever", "generator", "predictor", "stage-redact"])
async def test_a_stage_takes_from_its_own_queues_only(broker: SecuredBroker, user: str) -> None:
    own = {
        "embedder": {"embed"},
        "retriever": {"retrieve", "index"},
        "generator": {"generate", "condense", "expand"},
        "predictor": {"predict"},
    }
    async with broker.client(user) as probe:
        for stage in ("embed", "retrieve", "index", "generate", "condense", "expand", "predict", "request", "redact"):
            consumer = f"{stage}_default_interactive"
            mine = stage in own.get(user, {"redact"})
            create = f"$JS.API.CONSUMER.CREATE.{QUERIES}.{consumer}.query.{stage}.default.interactive.*"
            for subject in (
                create,
                f"$JS.API.CONSUMER.MSG.NEXT.{QUERIES}.{consumer}",
                f"$JS.ACK.{QUERIES}.{consumer}.1.1.1.1.0",
            ):
                assert await probe.may_publish(subject) == mine, subject
            # A queue of its own name over another stage's queries is refused as well.
            if not mine:
                name = min(own.get(user, {"redact"}))
                disguised = f"$JS.API.CONSUMER.CREATE.{QUERIES}.{name}_default_interactive.query.{stage}.>"
                assert not await probe.may_publish(disguised)
        for call in (f"CONSUMER.DURABLE.CREATE.{QUERIES}.x", f"CONSUMER.CREATE.{QUERIES}", f"STREAM.MSG.GET.{QUERIES}"):
            assert not await probe.may_publish(f"$JS.API.{call}"), call


@pytest.mark.parametrize("user", ["embedder", "retriever", "generator", "stage-redact"])
async def test_a_stage_reaches_no_record_and_makes_or_removes_no_stream(broker: SecuredBroker, user: str) -> None:
    async with broker.client(user) as probe:
        for bucket in SECRETS:
            for subject in (
                f"$KV.{bucket}.default.x",
                f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.default.x",
                f"$JS.API.STREAM.MSG.GET.KV_{bucket}",
                f"$JS.API.CONSUMER.CREATE.KV_{bucket}",
            ):
                assert not await probe.may_publish(subject), subject
        for stream in EVERYTHING:
            for call in ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE"):
                assert not await probe.may_publish(f"$JS.API.STREAM.{call}.{stream}"), (call, stream)


async def test_only_the_gateway_and_operators_reach_the_keys(broker: SecuredBroker) -> None:
    for role in roles(REDACTED):
        async with broker.client(role.name) as probe:
            may = [await probe.may_publish(s) for s in ("$KV.keys.x", "$JS.API.DIRECT.GET.KV_keys.$KV.keys.x")]
        assert may == [role.name in ("gateway", ADMIN)] * 2, role.name


async def test_no_service_removes_a_stream(broker: SecuredBroker) -> None:
    for user in SERVICES:
        async with broker.client(user) as probe:
            assert not [s for s in EVERYTHING if await probe.may_publish(f"$JS.API.STREAM.DELETE.{s}")]


async def test_a_wrong_password_and_no_password_are_refused(broker: SecuredBroker) -> None:
    for given in ({"user": "gateway", "password": "guessed"}, {}):
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await nats.connect(broker.server.url, allow_reconnect=False, connect_timeout=2, **given)


async def test_a_service_that_may_not_do_its_work_says_which_subject_it_lacks_and_ends(
    broker: SecuredBroker, tmp_path: Path
) -> None:
    """A stage of one name with another's credential."""
    async with broker.client(ADMIN) as probe:
        await Topology(probe.client.jetstream(), QueueSettings()).ensure()
    settings = broker.settings("stage-redact") | {"stage": "other"}
    process = ServiceProcess("tests.harness.programs.stage", tmp_path, **settings)
    process.start()
    try:
        assert await asyncio.to_thread(process.wait, 60) == 1
    finally:
        process.__exit__(None, None, None)
    assert "the broker does not let the user 'stage-redact' publish to $js.api.consumer.create.queries" in process.log
    assert "python -m shared.security.broker_config" in process.log


def test_running_the_command_again_changes_no_password_unless_it_is_told_to(tmp_path: Path) -> None:
    def run(*more: str) -> dict[str, str]:
        command = [sys.executable, "-m", "shared.security.broker_config", "--out", str(tmp_path / "secrets"), *more]
        subprocess.run(command, check=True, capture_output=True)
        return {path.name: path.read_text() for path in (tmp_path / "secrets").glob("*.password")}

    first = run()
    assert len(set(first.values())) == len(first) == len(roles()) + 1
    second = run("--rotate", "embedder", "--variant", "generate=legal")
    assert {name for name in first if first[name] != second[name]} == {"embedder.password"}
    assert second["embedder.password"].splitlines()[0] == first["embedder.password"], "the first is still in force"
    assert oct(os.stat(tmp_path / "secrets").st_mode)[-3:] == "700"
    accounts = (tmp_path / "secrets" / "accounts.conf").read_text()
    assert "generate_legal_interactive" in accounts
    assert not any(password in accounts for password in second.values())
