"""Jobs over HTTP: listed, looked at, and followed until they end."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import httpx
import nats
import pytest
from httpx_sse import EventSource, ServerSentEvent

from shared.contracts.jobs import Job, JobProgress, JobState
from shared.stores.jobs.store import JobStore
from tests.harness.bench import until
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess

pytestmark = pytest.mark.anyio

DOCUMENTS = "/v1/collections/default/documents"


@pytest.fixture
def gateway(broker: NatsServer, request: pytest.FixtureRequest) -> Iterator[ServiceProcess]:
    folder = request.getfixturevalue("tmp_path")
    with ServiceProcess("services.gateway", folder, nats_url=broker.url) as process:
        yield process


@pytest.fixture
async def http(gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as client:
        (await client.post("/v1/collections", json={"name": "default"})).raise_for_status()
        yield client


@pytest.fixture
async def board(broker: NatsServer) -> AsyncIterator[JobStore]:
    connection = await nats.connect(broker.url)
    yield JobStore(connection, connection.jetstream())
    await connection.close()


async def submit(http: httpx.AsyncClient) -> str:
    response = await http.post(DOCUMENTS, json={"documents": [{"name": "a", "text": "x"}]})
    return str(response.json()["job"]["id"])


async def move(board: JobStore, job: str, state: JobState, indexed: int = 0) -> Job:
    progress = JobProgress(documents=1, indexed=indexed)
    return await board.update("default", job, lambda j: j.model_copy(update={"state": state, "progress": progress}))


async def next_event(events: AsyncIterator[ServerSentEvent]) -> tuple[str, str, int]:
    event = await anext(events)
    job = Job.model_validate_json(event.data)
    return event.event, job.state.value, job.progress.indexed


async def test_a_followed_job_is_told_at_once_at_each_change_and_at_its_end(
    http: httpx.AsyncClient, board: JobStore
) -> None:
    job = await submit(http)
    async with http.stream("GET", f"/v1/jobs/{job}/events") as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = EventSource(response).aiter_sse()
        assert await next_event(events) == ("progress", "queued", 0)
        await move(board, job, JobState.RUNNING)
        assert await next_event(events) == ("progress", "running", 0)
        await move(board, job, JobState.RUNNING, indexed=1)
        assert await next_event(events) == ("progress", "running", 1)
        await move(board, job, JobState.SUCCEEDED, indexed=1)
        assert await next_event(events) == ("end", "succeeded", 1)
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_an_ended_job_is_told_once(http: httpx.AsyncClient, board: JobStore) -> None:
    job = await submit(http)
    await move(board, job, JobState.FAILED)
    response = await http.get(f"/v1/jobs/{job}/events")
    assert [event.event async for event in EventSource(response).aiter_sse()] == ["end"]


async def test_a_followed_job_is_still_followed_after_the_broker_came_back(
    broker: NatsServer, http: httpx.AsyncClient, board: JobStore
) -> None:
    job = await submit(http)
    async with http.stream("GET", f"/v1/jobs/{job}/events") as response:
        events = EventSource(response).aiter_sse()
        assert (await next_event(events))[0] == "progress"
        broker.kill()
        broker.start()
        connection = await nats.connect(broker.url)
        await move(JobStore(connection, connection.jetstream()), job, JobState.SUCCEEDED)
        await connection.close()
        assert (await next_event(events))[0] == "end"


async def test_a_gateway_that_stops_lets_its_followers_go(
    gateway: ServiceProcess, http: httpx.AsyncClient, board: JobStore
) -> None:
    job = await submit(http)
    async with http.stream("GET", f"/v1/jobs/{job}/events") as response:
        events = EventSource(response).aiter_sse()
        await next_event(events)
        gateway.signal(signal.SIGTERM)
        with pytest.raises(StopAsyncIteration):
            await anext(events)
    assert gateway.wait() == 0


async def test_followers_that_leave_are_all_forgotten(http: httpx.AsyncClient) -> None:
    job = await submit(http)

    async def look() -> None:
        async with http.stream("GET", f"/v1/jobs/{job}/events") as response:
            await next_event(EventSource(response).aiter_sse())

    async def all_counted() -> bool:
        counter = 'sluice_gateway_requests_total{route="GET /v1/jobs/{job}/events",status="200"} 200.0'
        return counter in (await http.get("/metrics")).text

    for _ in range(10):
        await asyncio.gather(*(look() for _ in range(20)))
    await until(all_counted)


async def test_jobs_are_listed_newest_first_and_by_state(http: httpx.AsyncClient, board: JobStore) -> None:
    ids = [await submit(http) for _ in range(3)]
    await move(board, ids[1], JobState.RUNNING)

    async def listed(**params: str) -> list[str]:
        return [job["id"] for job in (await http.get("/v1/jobs", params=params)).json()["jobs"]]

    assert await listed() == ids[::-1]
    assert await listed(limit="2") == [ids[2], ids[1]]
    assert await listed(state="running") == [ids[1]]
    assert (await http.get("/v1/jobs", params={"state": "lost"})).status_code == 422


async def test_a_job_that_is_not_there_is_404(http: httpx.AsyncClient) -> None:
    for path in ("nope", "nope/events", "*", ">", "a.b", "%2e%2e"):
        response = await http.get(f"/v1/jobs/{path}")
        assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
