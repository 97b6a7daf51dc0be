"""Snapshots of streams by the broker's own API, and what a restored stream has kept."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, RetentionPolicy, StreamConfig

from services.retriever.backup.errors import BackupError
from services.retriever.backup.snapshots import open_snapshot, restore_stream
from shared.nats.client import Connection, connect
from shared.nats.kv import Repository
from tests.harness.broker import NatsServer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(own_broker: NatsServer, anyio_backend: str) -> AsyncIterator[Connection]:
    client = await connect(own_broker.url)
    yield client
    await client.close()


@pytest.fixture
async def other(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Connection]:
    """A connection to another broker, an empty one."""
    with NatsServer(tmp_path / "other") as server:
        client = await connect(server.url)
        yield client
        await client.close()


async def copy(client: Connection, other: Connection, stream: str) -> None:
    async with open_snapshot(client, stream) as snapshot:
        pieces = [piece async for piece in snapshot.pieces]
        config = snapshot.config

    async def again() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    await restore_stream(other, stream, config, again())


async def test_messages_keep_their_numbers_times_and_headers(client: Connection, other: Connection) -> None:
    js, there = client.jetstream(), other.jetstream()
    await js.add_stream(StreamConfig(name="JOBS", subjects=["job.>"], retention=RetentionPolicy.WORK_QUEUE))
    for number in range(50):
        await js.publish(f"job.{number}", b"x" * 50_000, headers={"ce-id": str(number)})
    await js.purge_stream("JOBS", seq=40)
    await copy(client, other, "JOBS")
    state = (await there.stream_info("JOBS")).state
    assert (state.messages, state.first_seq, state.last_seq) == (11, 40, 50)
    before, after = await js.get_msg("JOBS", 45), await there.get_msg("JOBS", 45)
    assert (after.subject, after.data, after.headers, after.time) == (
        before.subject,
        before.data,
        before.headers,
        before.time,
    )
    assert (await there.publish("job.new", b"")).seq == 51


async def test_an_emptied_queue_goes_on_counting(client: Connection, other: Connection) -> None:
    js, there = client.jetstream(), other.jetstream()
    await js.add_stream(StreamConfig(name="JOBS", subjects=["job.>"]))
    for _ in range(5):
        await js.publish("job.a", b"")
    await js.purge_stream("JOBS")
    await copy(client, other, "JOBS")
    assert (await there.publish("job.b", b"")).seq == 6


async def test_a_timer_that_is_set_still_goes_off(client: Connection, other: Connection) -> None:
    timers = StreamConfig(name="TIMERS", subjects=["timer.>", "due.>"], allow_msg_schedules=True)
    js, there = client.jetstream(), other.jetstream()
    await js.add_stream(timers)
    headers = {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "due.tick"}
    await js.publish("timer.tick", b"tick", headers=headers)
    await copy(client, other, "TIMERS")
    due = await there.subscribe("due.>")
    assert (await due.next_msg(timeout=20)).data == b"tick"


async def test_of_a_key_the_last_value_is_kept_though_it_changes_meanwhile(
    client: Connection, other: Connection
) -> None:
    bucket = await client.jetstream().create_key_value(KeyValueConfig(bucket="jobs", history=1))
    for number in range(300):
        await bucket.put(f"job{number}", b"0" * 10_000)
    async with open_snapshot(client, "KV_jobs") as snapshot:
        pieces = []
        async for piece in snapshot.pieces:
            pieces.append(piece)
            await bucket.put(f"job{len(pieces)}", b"1")
        config = snapshot.config

    async def again() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    await restore_stream(other, "KV_jobs", config, again())
    restored = Repository(other.jetstream(), "jobs", bytes.decode)
    assert len(await restored.list()) == 300


async def test_a_stream_that_is_there_already_is_not_touched(client: Connection) -> None:
    js: JetStreamContext = client.jetstream()
    await js.add_stream(StreamConfig(name="JOBS", subjects=["job.>"]))
    await js.publish("job.a", b"")
    with pytest.raises(BackupError, match="cannot restore the stream JOBS"):
        await copy(client, client, "JOBS")
    assert (await js.stream_info("JOBS")).state.messages == 1


async def test_what_breaks_off_leaves_no_stream(client: Connection, other: Connection) -> None:
    js = client.jetstream()
    await js.add_stream(StreamConfig(name="JOBS", subjects=["job.>"]))
    for _ in range(20):
        await js.publish("job.a", os.urandom(100_000))

    async with open_snapshot(client, "JOBS") as snapshot:
        first = await anext(snapshot.pieces)

    async def broken() -> AsyncIterator[bytes]:
        yield first
        raise BackupError("the backup is damaged")

    with pytest.raises(BackupError, match="damaged"):
        await restore_stream(other, "JOBS", snapshot.config, broken())
    with pytest.raises(nats.js.errors.NotFoundError):
        await other.jetstream().stream_info("JOBS")


async def test_a_stream_that_is_not_there_is_said(client: Connection) -> None:
    with pytest.raises(BackupError, match="cannot back up the stream JOBS"):
        async with open_snapshot(client, "JOBS"):
            pass
