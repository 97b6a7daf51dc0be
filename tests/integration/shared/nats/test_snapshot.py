"""What is read from a bucket as a whole is whole."""

import asyncio

import pytest
from nats.js.api import KeyValueConfig

from shared.nats.kv import snapshot
from shared.tasks import background
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import open_stage_harness

pytestmark = pytest.mark.anyio


async def test_a_snapshot_has_every_entry_that_was_there_when_it_began(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url) as writer, open_stage_harness(broker.url) as reader:
        written = await writer.jetstream.create_key_value(KeyValueConfig(bucket="b", history=1))
        read = await reader.jetstream.key_value("b")
        keys = [f"t.{number}" for number in range(20)]
        for key in keys:
            await written.put(key, b"v")

        # Writes go on during each snapshot, and are as many on a slow machine as on a fast one.
        allowed = asyncio.Semaphore(0)

        async def keep_writing() -> None:
            while True:
                await allowed.acquire()
                keys.append(f"t.{len(keys)}")
                await written.put(keys[-1], b"v")

        async with background(keep_writing()):
            for _ in range(200):
                for _ in range(5):
                    allowed.release()
                known = set(keys[:-1])
                assert known <= {key async for key, _ in snapshot(read, "t.>")}


async def test_a_snapshot_leaves_out_what_was_removed_and_can_be_empty(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url) as harness:
        bucket = await harness.jetstream.create_key_value(KeyValueConfig(bucket="b", history=1))
        assert [entry async for entry in snapshot(bucket, "t.>")] == []
        for key in ("t.1", "t.2", "t.3", "u.1"):
            await bucket.put(key, key.encode())
        await bucket.delete("t.1")
        await bucket.purge("t.3")
        assert [entry async for entry in snapshot(bucket, "t.>")] == [("t.2", b"t.2")]
        await bucket.delete("t.2")
        assert [entry async for entry in snapshot(bucket, "t.>")] == []
