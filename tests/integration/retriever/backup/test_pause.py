"""Changes of the index are held, those in work are waited for, and nobody is held for longer than the lease."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.js import JetStreamContext

from services.retriever.backup import pause
from services.retriever.backup.errors import BackupError
from services.retriever.backup.pause import QUEUE, index_paused
from shared.contracts.envelope import Lane
from shared.nats.client import Connection, connect
from shared.nats.settings import QueueSettings
from shared.nats.subjects import BUILT_IN_QUEUES, QUERIES
from shared.nats.topology import Topology
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

SUBJECT = f"query.index.default.{Lane.BATCH}.acme"


@pytest.fixture
async def client(own_broker: NatsServer, anyio_backend: str) -> AsyncIterator[Connection]:
    client = await connect(own_broker.url)
    topology = Topology(client.jetstream(), QueueSettings())
    await topology.ensure()
    await topology.ensure_queues(BUILT_IN_QUEUES)
    yield client
    await client.close()


@pytest.fixture
def jetstream(client: Connection) -> JetStreamContext:
    return client.jetstream()


async def worker(jetstream: JetStreamContext) -> JetStreamContext.PullSubscription:
    return await jetstream.pull_subscribe_bind(consumer=QUEUE, stream=QUERIES)


async def test_nothing_is_delivered_until_the_block_ends(client: Connection, jetstream: JetStreamContext) -> None:
    retriever = await worker(jetstream)
    async with index_paused(client, jetstream):
        await jetstream.publish(SUBJECT, b"change")
        with pytest.raises(TimeoutError):
            await retriever.fetch(1, timeout=0.5)
    (message,) = await retriever.fetch(1, timeout=10)
    assert message.data == b"change"


async def test_a_change_in_work_is_waited_for(client: Connection, jetstream: JetStreamContext) -> None:
    retriever = await worker(jetstream)
    await jetstream.publish(SUBJECT, b"change")
    (message,) = await retriever.fetch(1, timeout=10)
    order: list[str] = []

    async def back_up() -> None:
        async with index_paused(client, jetstream):
            order.append("taken")

    async def is_paused() -> bool:
        return bool((await client.request(f"$JS.API.CONSUMER.INFO.{QUERIES}.{QUEUE}")).data.find(b'"paused":true') > 0)

    running = asyncio.create_task(back_up())
    await until(is_paused, "the pause")
    order.append("written")
    await message.ack()
    await running
    assert order == ["written", "taken"]


async def test_a_change_that_does_not_end_is_said_and_the_queue_goes_on(
    client: Connection, jetstream: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pause, "DRAIN", 0.2)
    retriever = await worker(jetstream)
    await jetstream.publish(SUBJECT, b"change")
    (message,) = await retriever.fetch(1, timeout=10)
    with pytest.raises(BackupError, match="did not end within"):
        async with index_paused(client, jetstream):
            raise AssertionError
    await message.ack()
    await jetstream.publish(SUBJECT, b"next")
    assert [each.data for each in await retriever.fetch(1, timeout=10)] == [b"next"]


async def test_a_backup_that_dies_holds_nobody_for_longer_than_its_lease(
    client: Connection, jetstream: JetStreamContext, own_broker: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pause, "LEASE", 1.0)
    dying = await connect(own_broker.url)
    await pause._pause(dying, pause.LEASE)
    await dying.close()
    await jetstream.publish(SUBJECT, b"change")
    retriever = await worker(jetstream)
    (message,) = await retriever.fetch(1, timeout=20)
    assert message.data == b"change"


async def test_services_that_start_meanwhile_do_not_end_the_pause(
    client: Connection, jetstream: JetStreamContext
) -> None:
    retriever = await worker(jetstream)
    async with index_paused(client, jetstream):
        starting = Topology(jetstream, QueueSettings())
        await starting.ensure()
        await starting.ensure_queues(BUILT_IN_QUEUES)
        await jetstream.publish(SUBJECT, b"change")
        with pytest.raises(TimeoutError):
            await retriever.fetch(1, timeout=0.5)
    assert len(await retriever.fetch(1, timeout=10)) == 1


async def test_without_a_queue_there_is_nothing_to_hold(client: Connection, jetstream: JetStreamContext) -> None:
    await jetstream.delete_consumer(QUERIES, QUEUE)
    async with index_paused(client, jetstream) as paused:
        pass
    assert paused.seconds < pause.LEASE
