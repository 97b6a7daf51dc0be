"""What users rely on while processes die: every query ends, every document is indexed exactly once."""

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import lancedb
import pytest

from sluice import Client
from sluice.api.jobs import Job
from tests.harness.platform import Platform, eventually

SERVICES = ("gateway", "embedder", "retriever", "generator", "scheduler")
QUERIES = 200
DOCUMENTS = 500
TIMEOUT = 60.0


class Load:
    """200 queries at once, from a thread of its own. It is under way once some have ended and most have not."""

    def __init__(self, url: str, collection: str) -> None:
        self._url = url
        self._body = {"question": "Who built the blue lamp?", "collection": collection, "timeout": TIMEOUT}
        self.outcomes: list[str] = []
        self.under_way = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "Load":
        self._thread.start()
        assert self.under_way.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(180)
        assert not self._thread.is_alive(), "queries hang"

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=QUERIES)
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT + 10, limits=limits) as client:
            await asyncio.gather(*(self._ask(client) for _ in range(QUERIES)))

    async def _ask(self, client: httpx.AsyncClient) -> None:
        try:
            response = await client.post(f"{self._url}/v1/query", json=self._body)
            if response.status_code == 200:
                self.outcomes.append("answer" if "Ottilie" in response.json()["answer"] else response.text)
            else:
                assert response.headers["content-type"].startswith("application/problem+json")
                self.outcomes.append(response.json()["type"])
        except httpx.TransportError:
            self.outcomes.append("connection")
        finally:
            if len(self.outcomes) >= 20:
                self.under_way.set()


@pytest.fixture(scope="package")
def lamp(platform: Platform) -> str:
    """A collection with one answer in it."""
    with platform.client() as client:
        client.create_collection("lamp")
        job = client.add_texts("lamp", {"lamp.txt": "The blue lamp was built by Ottilie Brandt in 1911."})
        client.wait(job.id)
    return "lamp"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def start_ingest(platform: Platform, collection: str, pool: ThreadPoolExecutor) -> Future[Job]:
    """Submit 500 documents and wait until some are indexed; the future is the ended job."""
    with platform.client() as client:
        client.create_collection(collection)
        texts = {f"item-{n:04}.txt": f"The code of lamp {n} is K{n:04}." for n in range(DOCUMENTS)}
        job = client.add_texts(collection, texts)
        eventually(lambda: client.job(job.id).progress.indexed > 0, "some documents indexed")

    def wait() -> Job:
        with platform.client() as client:
            return client.wait(job.id, timeout=240)

    return pool.submit(wait)


def indexed_rows(platform: Platform, collection: str) -> Counter[str]:
    """How many rows of the index each document has, read from the index itself."""
    database = lancedb.connect(platform.data / "index")
    (table,) = [name for name in database.table_names(limit=1000) if name.startswith(f"{collection}-")]
    rows = database.open_table(table).search().where("position IS NOT NULL").select(["document"]).limit(100_000)
    return Counter(row["document"] for row in rows.to_list())


def assert_indexed_once(platform: Platform, collection: str, job: Job) -> None:
    assert job.state == "succeeded"
    assert (job.progress.indexed, job.progress.failed) == (DOCUMENTS, 0)
    rows = indexed_rows(platform, collection)
    assert len(rows) == DOCUMENTS
    assert set(rows.values()) == {1}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("service", SERVICES)
def test_after_kill_9_every_query_ends_and_every_document_is_indexed_once(
    platform: Platform, lamp: str, pool: ThreadPoolExecutor, service: str
) -> None:
    collection = f"kill-{service}"
    job = start_ingest(platform, collection, pool)
    with Load(platform.url, lamp) as load:
        platform.signal(service, signal.SIGKILL)
    assert len(load.outcomes) == QUERIES
    # Only those whose connection died with the gateway go without an answer.
    allowed = {"answer", "connection"} if service == "gateway" else {"answer"}
    assert set(load.outcomes) <= allowed, Counter(load.outcomes)
    assert_indexed_once(platform, collection, job.result(240))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("service", SERVICES)
def test_after_sigterm_not_one_query_fails(
    platform: Platform, lamp: str, pool: ThreadPoolExecutor, service: str
) -> None:
    collection = f"term-{service}"
    job = start_ingest(platform, collection, pool)
    with Load(platform.url, lamp) as load:
        platform.signal(service, signal.SIGTERM)
    assert Counter(load.outcomes) == {"answer": QUERIES}
    assert_indexed_once(platform, collection, job.result(240))


@pytest.mark.timeout(400)
def test_after_the_broker_was_killed_jobs_go_on_and_queries_end(
    platform: Platform, lamp: str, pool: ThreadPoolExecutor
) -> None:
    job = start_ingest(platform, "kill-nats", pool)
    with Load(platform.url, lamp) as load:
        platform.signal("nats", signal.SIGKILL)
    assert len(load.outcomes) == QUERIES
    assert set(load.outcomes) <= {"answer", "urn:sluice:problem:broker-unavailable"}, Counter(load.outcomes)
    assert_indexed_once(platform, "kill-nats", job.result(240))


def test_a_job_submitted_twice_with_one_key_is_one_job(client: Client) -> None:
    client.create_collection("twice")
    jobs = [client.add_texts("twice", {"a.txt": "Once."}, idempotency_key="the-same") for _ in range(2)]
    assert jobs[0].id == jobs[1].id
    assert client.wait(jobs[0].id).progress.indexed == 1
