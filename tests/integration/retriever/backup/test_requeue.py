"""After a restore every job that had not ended is in the queue once, with the number of its try."""

from collections.abc import AsyncIterator

import pytest

from services.retriever.backup.requeue import requeue_unended
from shared.contracts.jobs import DropSpec, Job, JobState
from shared.nats.client import Connection, connect
from shared.nats.settings import QueueSettings
from shared.nats.subjects import JOBS, TIMERS
from shared.nats.topology import Topology
from shared.stores.jobs.store import JobStore
from tests.harness.broker import NatsServer

pytestmark = pytest.mark.anyio

SPEC = DropSpec(collection="lamps", table="lamps-1")


@pytest.fixture
async def client(own_broker: NatsServer, anyio_backend: str) -> AsyncIterator[Connection]:
    client = await connect(own_broker.url)
    await Topology(client.jetstream(), QueueSettings()).ensure()
    yield client
    await client.close()


async def submitted(client: Connection, job: str, **changes: object) -> JobStore:
    store = JobStore(client, client.jetstream())
    await store.submit(SPEC, job=job, tenant="acme")
    if changes:
        await store.update("acme", job, lambda entry: Job.model_validate({**entry.model_dump(), **changes}))
    return store


async def lose_the_queue(client: Connection) -> None:
    """With what the broker knows of messages that come twice."""
    await client.jetstream().delete_stream(JOBS)
    await Topology(client.jetstream(), QueueSettings()).ensure()


async def waiting(client: Connection) -> list[tuple[str, str]]:
    """The jobs in the queue, with the numbers of their tries."""
    jetstream = client.jetstream()
    state = (await jetstream.stream_info(JOBS)).state
    found = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        headers = (await jetstream.get_msg(JOBS, sequence)).headers or {}
        found.append((headers["ce-id"], headers.get("Sluice-Attempt", "1")))
    return sorted(found)


async def test_one_that_is_in_the_queue_stays_there_once(client: Connection) -> None:
    await submitted(client, "waits")
    await submitted(client, "runs", state=JobState.RUNNING, attempt=1)
    assert await requeue_unended(client, client.jetstream()) == 0
    assert await waiting(client) == [("runs", "1"), ("waits", "1")]


async def test_one_that_is_in_no_queue_is_put_there(client: Connection) -> None:
    await submitted(client, "waits")
    await submitted(client, "runs", state=JobState.RUNNING, attempt=2)
    await submitted(client, "rests", state=JobState.QUEUED, attempt=1)
    await submitted(client, "ended", state=JobState.SUCCEEDED, attempt=1)
    await lose_the_queue(client)
    assert await requeue_unended(client, client.jetstream()) == 3
    assert await waiting(client) == [("rests", "2"), ("runs", "2"), ("waits", "1")]
    assert await requeue_unended(client, client.jetstream()) == 0


async def test_one_whose_retry_is_set_waits_for_it(client: Connection) -> None:
    await submitted(client, "rests", state=JobState.QUEUED, attempt=1)
    jetstream = client.jetstream()
    await jetstream.purge_stream(JOBS)
    headers = {"ce-id": "rests", "ce-tenant": "acme", "Sluice-Attempt": "2"}
    await jetstream.publish("timer.retry.acme.rests", b"{}", headers=headers, stream=TIMERS)
    assert await requeue_unended(client, jetstream) == 0


async def test_an_older_entry_is_overruled_by_the_log(client: Connection) -> None:
    store = await submitted(client, "ended")
    before = await store.get("acme", "ended")
    await store.update("acme", "ended", lambda job: job.model_copy(update={"state": JobState.SUCCEEDED}))
    await store._entries.put("acme.ended", before)
    await client.jetstream().purge_stream(JOBS)
    assert await requeue_unended(client, client.jetstream()) == 0
