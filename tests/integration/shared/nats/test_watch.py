"""Following a bucket of many records: each value is read once, however often all of them are listed."""

import asyncio
from collections.abc import Mapping

import pytest

from shared.nats.client import connect
from shared.nats.watch import WatchOptions, watch_records
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

BUCKET = "many"
MANY = 500


async def test_each_value_is_read_once_however_often_all_are_listed(own_broker: NatsServer) -> None:
    client = await connect(own_broker.url)
    jetstream = client.jetstream()
    bucket = await jetstream.create_key_value(bucket=BUCKET, storage="memory")
    read: list[str] = []
    told: list[int] = []
    known: dict[str, str] = {}

    def of(key: str, value: bytes, _: str | None) -> str | None:
        read.append(key)
        return None if value == b"unreadable" else value.decode()

    def changed(records: Mapping[str, str]) -> None:
        told.append(len(records))
        known.clear()
        known.update(records)

    async def write(first: int, value: bytes) -> None:
        for number in range(first, first + MANY):
            await client.publish(f"$KV.{BUCKET}.k{number}", value)
        await client.flush()

    await write(0, b"old")
    options = WatchOptions(poll=0.01)
    async with watch_records(client, jetstream, BUCKET, read=of, changed=changed, options=options):
        assert (told, len(read)) == ([MANY], MANY)
        await bucket.put("k0", b"unreadable")
        await until(lambda: asyncio.sleep(0, "k0" not in known), "the change is seen")
        await write(MANY, b"old")
        await until(lambda: asyncio.sleep(0, len(known) == 2 * MANY - 1), "all are seen")
        client.stats["reconnects"] += 1  # so all are listed again
        await bucket.put("k1", b"new")
        await bucket.delete("k2")
        await until(lambda: asyncio.sleep(0, known.get("k1") == "new" and "k2" not in known), "the last are seen")
        assert len(read) == 2 * MANY + 2
    await client.close()
