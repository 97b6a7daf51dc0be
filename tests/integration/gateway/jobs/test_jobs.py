"""Jobs over HTTP: listed, looked at, and followed until they end."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import nats
import pytest
from httpx_sse import EventSource, ServerSentEvent

from shared.contracts.jobs import Job, JobOptions, JobProgress, JobState, SwitchSpec
from shared.stores.jobs.store import JobStore
from tests.harness.broker import NatsServer
from tests.harness.job_harness import delete_jobs
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

DOCUMENTS = "/v1/collections/default/documents"


@pytest.fixture(scope="module")
def gateway_collections() -> list[dict[str, object]]:
    return [{"name": "default"}]


@asynccontextmanager
async def client_of(gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as client:
        yield client


@asynccontextmanager
async def job_store(broker: NatsServer) -> AsyncIterator[JobStore]:
    connection = await nats.connect(broker.url)
    yield JobStore(connection, connection.jetstream())
    await connection.close()


@pytest.fixture
async def http(broker: NatsServer, gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway without jobs."""
    await delete_jobs(broker.url)
    async with client_of(gateway) as client:
        yield client


@pytest.fixture
async def board(broker: NatsServer) -> AsyncIterator[JobStore]:
    async with job_store(broker) as store:
        yield store


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
    own_broker: NatsServer, own_gateway: ServiceProcess
) -> None:
    async with client_of(own_gateway) as http:
        job = await submit(http)
        async with http.stream("GET", f"/v1/jobs/{job}/events") as response:
            events = EventSource(response).aiter_sse()
            assert (await next_event(events))[0] == "progress"
            own_broker.kill()
            own_broker.start()
            async with job_store(own_broker) as board:
                await move(board, job, JobState.SUCCEEDED)
            assert (await next_event(events))[0] == "end"


async def test_a_gateway_that_stops_lets_its_followers_go(own_gateway: ServiceProcess) -> None:
    async with client_of(own_gateway) as http:
        job = await submit(http)
        async with http.stream("GET", f"/v1/jobs/{job}/events") as response:
            events = EventSource(response).aiter_sse()
            await next_event(events)
            own_gateway.signal(signal.SIGTERM)
            with pytest.raises(StopAsyncIteration):
                await anext(events)
    assert own_gateway.wait() == 0


async def test_followers_that_leave_are_all_forgotten(http: httpx.AsyncClient) -> None:
    job = await submit(http)

    async def look() -> None:
        async with http.stream("GET", f"/v1/jobs/{job}/events") as response:
            await next_event(EventSource(response).aiter_sse())

    async def counted() -> float:
        counter = 'sluice_gateway_requests_total{route="GET /v1/jobs/{job}/events",status="200"} '
        _, _, rest = (await http.get("/metrics")).text.partition(counter)
        return float(rest.split("\n")[0] or 0)

    async def all_counted() -> bool:
        return await counted() == before + 200

    before = await counted()
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


async def test_jobs_are_listed_in_pages_and_by_collection(http: httpx.AsyncClient, board: JobStore) -> None:
    ids = [await submit(http) for _ in range(5)]
    spec = SwitchSpec(collection="other")
    other, _ = await board.submit(spec, job="other", tenant="default")

    async def page(**params: str) -> tuple[list[str], str | None]:
        found = (await http.get("/v1/jobs", params=params)).json()
        return [job["id"] for job in found["jobs"]], found["next"]

    step, _ = await board.submit(spec, job="a-step", tenant="default", options=JobOptions(parent=other.id))
    assert await page(collection="other") == ([step.id, other.id], None)
    assert await page(collection="other", steps="false") == ([other.id], None)
    await board.cancel("default", step.id)
    assert await page(limit="3", steps="false") == ([other.id, ids[4], ids[3]], ids[3])
    await submit(http)  # what comes meanwhile does not move the following page
    assert await page(limit="2", after=ids[3]) == ([ids[2], ids[1]], ids[1])
    assert await page(limit="2", after=ids[1]) == ([ids[0]], None)
    assert await page(after=ids[0]) == ([], None)
    for unknown in ("nope", "a.b", "*"):
        assert (await http.get("/v1/jobs", params={"after": unknown})).status_code == 404


async def test_a_job_that_is_not_there_is_404(http: httpx.AsyncClient) -> None:
    for path in ("nope", "nope/events", "*", ">", "a.b", "%2e%2e"):
        response = await http.get(f"/v1/jobs/{path}")
        assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
