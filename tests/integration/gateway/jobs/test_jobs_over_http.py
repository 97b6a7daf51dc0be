"""Jobs over HTTP: submitted, listed, cancelled, tried again, and what they left behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.scheduler.jobs.job_context import JobContext
from shared.contracts.jobs import JobState
from shared.contracts.problems import Problem, ProblemType
from tests.harness.broker import NatsServer
from tests.harness.job_harness import JobHarness, delete_jobs, open_job_harness
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

SWITCH = {"kind": "switch", "collection": "docs"}


@pytest.fixture(scope="module")
def gateway_settings() -> dict[str, object]:
    return {"max_body_bytes": 3_000_000}


@pytest.fixture
async def http(broker: NatsServer, gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway without jobs."""
    await delete_jobs(broker.url)
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
async def job_harness(broker: NatsServer, gateway: ServiceProcess) -> AsyncIterator[JobHarness]:
    async with open_job_harness(broker.url) as job_harness:
        yield job_harness


async def done(_: JobContext) -> None: ...


async def submit(http: httpx.AsyncClient, spec: dict[str, Any] = SWITCH, **members: Any) -> dict[str, Any]:
    response = await http.post("/v1/jobs", json={"spec": spec, **members})
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()["job"]
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    return job


async def test_a_submitted_job_runs_with_what_was_said_about_it(
    http: httpx.AsyncClient, job_harness: JobHarness
) -> None:
    said = {"priority": "high", "labels": {"team": "search"}, "by": "ann", "timeout": 60, "retry": {"limit": 2}}
    job = await submit(http, **said)
    assert job["state"] == "queued"
    assert 0 < job["options"]["deadline"] - job["created_at"] <= 60
    async with job_harness.working({"switch": done}):
        ended = await job_harness.ended(job["id"])
    assert (ended.state, ended.options.retry.limit, ended.options.labels) == (JobState.SUCCEEDED, 2, {"team": "search"})
    spec = (await http.get(f"/v1/jobs/{job['id']}/spec")).json()
    assert SWITCH.items() <= spec.items()


async def test_a_cloud_event_published_to_the_bus_is_the_same_job_as_one_posted(
    http: httpx.AsyncClient, job_harness: JobHarness
) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "from-the-bus",
        "ce-source": "/a/script",
        "ce-type": "io.sluice.job.switch",
        "Sluice-Job-Options": json.dumps({"priority": "high", "labels": {"a": "b"}}),
    }
    posted = await submit(http, priority="high", labels={"a": "b"})
    # What `nats pub` does: a plain publication, without JetStream.
    await job_harness.bus.client.publish("job.switch.high.default", json.dumps(SWITCH).encode(), headers=headers)
    async with job_harness.working({"switch": done}):
        jobs = [await job_harness.ended(job) for job in (posted["id"], "from-the-bus")]
    own = {"id", "created_at", "started_at", "finished_at", "event", "revision"}
    # The bus does not say who asks, so the job sees documents without a list alone.
    assert [job.options.principals for job in jobs] == [("*",), None]
    one, other = (job.model_dump(exclude={**dict.fromkeys(own, True), "options": {"principals"}}) for job in jobs)
    assert one == other
    shown = [(await http.get(f"/v1/jobs/{job.id}/audit")).json()["events"] for job in jobs]
    assert [[event["state"] for event in events] for events in shown] == [["queued", "running", "succeeded"]] * 2
    assert (await http.get("/v1/jobs/from-the-bus/spec")).json()["collection"] == "docs"


async def test_the_same_key_twice_is_one_job_and_another_spec_with_it_a_conflict(http: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "nightly"}
    answers = [await http.post("/v1/jobs", json={"spec": SWITCH}, headers=key) for _ in range(2)]
    assert answers[0].json()["job"]["id"] == answers[1].json()["job"]["id"]
    other = await http.post("/v1/jobs", json={"spec": {**SWITCH, "version": "v7"}}, headers=key)
    assert (other.status_code, other.json()["type"]) == (409, "urn:sluice:problem:conflict")
    assert len((await http.get("/v1/jobs")).json()["jobs"]) == 1


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"spec": {"kind": "dance"}}, "spec"),
        ({"spec": {"kind": "drop", "collection": "c", "table": "t"}}, "spec.kind"),
        ({"spec": {"kind": "ingest", "collection": "c"}}, "spec.source"),
        ({"spec": {**SWITCH, "colection": "d"}}, "spec.switch.colection"),
        ({"spec": SWITCH, "timeout": 0}, "timeout"),
        ({"spec": SWITCH, "priority": "urgent"}, "priority"),
        ({"spec": SWITCH, "speed": 1}, "speed"),
        (
            {"spec": {"kind": "pipeline", "name": "p", "steps": {"a": {"job": SWITCH, "when": "b.ok"}}}},
            "spec.steps.a.when",
        ),
    ],
)
async def test_what_cannot_be_a_job_is_refused_with_its_place(
    http: httpx.AsyncClient, body: dict[str, Any], place: str
) -> None:
    response = await http.post("/v1/jobs", json=body)
    assert (response.status_code, response.json()["type"]) == (422, "urn:sluice:problem:invalid-request")
    assert [error["path"] for error in response.json()["errors"]] == [place]


async def test_jobs_are_found_by_kind_state_and_labels(http: httpx.AsyncClient) -> None:
    plain = await submit(http)
    mine = await submit(http, labels={"team": "search", "env": "test"})
    await http.post(f"/v1/jobs/{plain['id']}/cancel")

    async def found(**params: Any) -> list[str]:
        return [job["id"] for job in (await http.get("/v1/jobs", params=params)).json()["jobs"]]

    assert await found(kind="switch") == [mine["id"], plain["id"]]
    assert await found(kind="ingest") == []
    assert await found(label=["team=search", "env=test"]) == [mine["id"]]
    assert await found(label=["team=search", "env=live"]) == []
    assert await found(state="cancelled") == [plain["id"]]
    assert (await http.get("/v1/jobs", params={"label": "team"})).status_code == 422


async def test_a_running_job_is_cancelled_and_the_audit_log_says_by_whom_and_why(
    http: httpx.AsyncClient, job_harness: JobHarness
) -> None:
    started = asyncio.Event()

    async def for_ever(_: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    job = await submit(http, by="ann")
    async with job_harness.working({"switch": for_ever}):
        await started.wait()
        answer = await http.post(f"/v1/jobs/{job['id']}/cancel", json={"reason": "déjà fait", "by": "bob\r\n"})
        assert (answer.status_code, answer.json()["job"]["cancel_requested"]) == (202, True)
        assert (await job_harness.ended(job["id"])).state is JobState.CANCELLED
    events = (await http.get(f"/v1/jobs/{job['id']}/audit")).json()["events"]
    assert [(event["state"], event["by"]) for event in events] == [
        ("queued", "ann"),
        ("running", "w"),
        ("cancelled", "bob"),
    ]
    assert events[-1]["reason"] == "déjà fait"
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)


async def test_a_failed_job_is_tried_again_and_its_dead_letter_forgotten(
    http: httpx.AsyncClient, job_harness: JobHarness
) -> None:
    tries = 0

    async def broken_at_first(_: JobContext) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("the disk is full")

    job = await submit(http, retry={"limit": 1}, timeout=600)
    early = await http.post(f"/v1/jobs/{job['id']}/retry")
    assert (early.status_code, early.json()["detail"]) == (
        409,
        "Only a failed job can be tried again; this one is queued.",
    )
    async with job_harness.working({"switch": broken_at_first}):
        assert (await job_harness.ended(job["id"])).state is JobState.FAILED
        dead_letters = (await http.get("/v1/dead-letters")).json()["dead_letters"]
        assert [letter["job"] for letter in dead_letters] == [job["id"]]
        again = await http.post(f"/v1/jobs/{job['id']}/retry", json={"reason": "more disk", "by": "bob"})
        assert again.status_code == 202

        async def succeeded() -> bool:
            return (await job_harness.job_store.get("default", job["id"])).state is JobState.SUCCEEDED

        await until(succeeded)
    ended = await job_harness.job_store.get("default", job["id"])
    assert (ended.attempt, ended.error, tries) == (2, None, 2)
    assert (await http.get("/v1/dead-letters")).json()["dead_letters"] == []


async def test_a_retry_gives_a_job_that_met_its_deadline_as_long_again(
    http: httpx.AsyncClient, job_harness: JobHarness
) -> None:
    quick = False

    async def slow_at_first(_: JobContext) -> None:
        if not quick:
            await asyncio.Event().wait()

    job = await submit(http, timeout=1)
    async with job_harness.working({"switch": slow_at_first}):
        assert (await job_harness.ended(job["id"])).state is JobState.FAILED
        quick = True
        assert (await http.post(f"/v1/jobs/{job['id']}/retry")).status_code == 202

        async def succeeded() -> bool:
            return (await job_harness.job_store.get("default", job["id"])).state is JobState.SUCCEEDED

        await until(succeeded)


async def test_a_try_whose_worker_dies_after_a_retry_counts_as_a_crash(
    http: httpx.AsyncClient, job_harness: JobHarness
) -> None:
    async def refused(_: JobContext) -> None:
        raise Problem(ProblemType.COLLECTION_NOT_FOUND, "There is no such collection.")

    job = await submit(http)
    async with job_harness.working({"switch": refused}):
        assert (await job_harness.ended(job["id"])).state is JobState.FAILED
    started = asyncio.Event()

    async def die(_: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    await http.post(f"/v1/jobs/{job['id']}/retry")
    async with job_harness.working({"switch": die}) as queue:
        await started.wait()
        for delivery in queue._held.by_task.values():
            delivery.settled = True  # as if the process had died: the broker hears nothing any more
        await queue._held.cancel(list(queue._held.by_task))
    async with job_harness.working({"switch": done}):
        ended = await job_harness.ended(job["id"])
    assert (ended.state, ended.attempt, ended.crashes) == (JobState.SUCCEEDED, 2, 1)


async def test_what_a_job_has_made_is_listed_and_downloaded(http: httpx.AsyncClient, job_harness: JobHarness) -> None:
    lines = b'{"n": 1}\n' * 100_000

    async def make(run: JobContext) -> None:
        await run.attach("results.jsonl", lines)
        await run.attach("page.html", b"<script>alert(1)</script>")

    job = await submit(http)
    async with job_harness.working({"switch": make}):
        await job_harness.ended(job["id"])
    listed = (await http.get(f"/v1/jobs/{job['id']}/artifacts")).json()["artifacts"]
    assert listed[0] == {"name": f"{job['id']}/results.jsonl", "file": "results.jsonl", "bytes": len(lines)}
    response = await http.get(f"/v1/jobs/{job['id']}/artifacts/results.jsonl")
    assert (response.content, response.headers["content-length"]) == (lines, str(len(lines)))
    page = await http.get(f"/v1/jobs/{job['id']}/artifacts/page.html")
    assert page.headers["content-disposition"].startswith("attachment")
    assert page.headers["content-security-policy"] == "sandbox"
    assert (await http.get(f"/v1/jobs/{job['id']}/artifacts/nothing")).status_code == 404


async def test_a_file_is_uploaded_for_jobs_replaced_and_removed(
    http: httpx.AsyncClient, job_harness: JobHarness
) -> None:
    path = "/v1/artifacts/questions/nightly.jsonl"
    large = b"x" * 2_500_000
    for content in (b"first", large):
        response = await http.put(path, content=content)
        assert (response.status_code, response.json()) == (
            201,
            {"name": "questions/nightly.jsonl", "file": "nightly.jsonl", "bytes": len(content)},
        )
    assert await job_harness.artifacts.get("default", "questions/nightly.jsonl") == large
    assert (await http.get(path)).content == large
    assert (await http.delete(path)).status_code == 204
    assert (await http.get(path)).status_code == 404
    assert (await http.put(path, content=b"x" * 3_000_001)).status_code == 413
    assert (await http.put("/v1/artifacts/questions/.hidden", content=b"")).status_code == 422


async def test_nobody_uploads_into_what_a_job_has_made(http: httpx.AsyncClient) -> None:
    job = await submit(http)
    assert (await http.put(f"/v1/artifacts/{job['id']}/results.jsonl", content=b"mine")).status_code == 409


async def test_a_job_that_is_not_there_is_404_for_every_verb(http: httpx.AsyncClient) -> None:
    for verb in ("cancel", "retry"):
        assert (await http.post(f"/v1/jobs/nope/{verb}")).status_code == 404
    for part in ("spec", "audit", "artifacts", "steps"):
        assert (await http.get(f"/v1/jobs/nope/{part}")).status_code == 404


async def test_the_asyncapi_page_describes_jobs_and_their_events(http: httpx.AsyncClient) -> None:
    page = (await http.get("/asyncapi")).text
    for told in ("job.<kind>.<priority>.<tenant>", "event.job.<job>.<state>", "PipelineSpec", "Sluice-Job-Options"):
        assert told in page
