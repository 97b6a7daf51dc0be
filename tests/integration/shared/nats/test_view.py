"""A view of a bucket is as fresh as reading all of it, and a look costs what has changed."""

import random

import pytest
from nats.js.api import KeyValueConfig
from nats.js.kv import KeyValue

from shared.nats.kv import snapshot
from shared.nats.view import STEPS, BucketView, BucketViews
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import StageHarness, open_stage_harness, until

pytestmark = pytest.mark.anyio

MANY = STEPS * 5


async def made(harness: StageHarness) -> KeyValue:
    return await harness.jetstream.create_key_value(KeyValueConfig(bucket="b", history=1))


def view(harness: StageHarness, keys: str = "t.>") -> BucketView[str]:
    return BucketView(harness.jetstream, "b", keys, bytes.decode)


async def test_a_look_sees_what_reading_all_would(harness: StageHarness, broker: NatsServer) -> None:
    """After writes, removals and purges by another process, few and many at a time."""
    dice = random.Random(3)
    async with open_stage_harness(broker.url) as other:
        bucket = await made(other)
        seen = view(harness)
        for _ in range(12):
            for _ in range(dice.choice((0, 1, STEPS - 1, STEPS, STEPS + 1, MANY))):
                key = f"{dice.choice('tu')}.{dice.randrange(40)}"
                match dice.randrange(6):
                    case 0:
                        await bucket.delete(key)
                    case 1:
                        await bucket.purge(key)
                    case _:
                        await bucket.put(key, str(dice.random()).encode())
            await seen.look()
            assert dict(seen.records) == {key: value.decode() async for key, value in snapshot(bucket, "t.>")}


async def test_a_look_at_what_has_not_changed_is_one_request(harness: StageHarness) -> None:
    bucket = await made(harness)
    for number in range(MANY):
        await bucket.put(f"t.{number}", b"v")
    seen = view(harness)
    await seen.look()
    await harness.client.flush()
    before = harness.client.stats["in_msgs"]
    await seen.look()
    await bucket.put("u.1", b"not of these keys")
    await seen.look()
    assert harness.client.stats["in_msgs"] - before == 3
    assert len(seen) == MANY


async def test_looks_leave_no_consumer_behind(harness: StageHarness) -> None:
    bucket = await made(harness)
    seen = view(harness)
    for turn in range(5):
        for number in range(MANY):
            await bucket.put(f"t.{number}", str(turn).encode())
        await seen.look()
        assert set(seen.records.values()) == {str(turn)}

    async def none() -> bool:
        return (await harness.jetstream.stream_info("KV_b")).state.consumer_count == 0

    await until(none, "no consumer left")


async def test_the_views_that_were_used_last_are_kept(harness: StageHarness) -> None:
    bucket = await made(harness)
    for number in range(9):
        await bucket.put(f"{'abc'[number % 3]}.{number}", b"v")
    views = BucketViews(lambda keys: view(harness, keys), most=6)
    first = await views.look("a.>")
    await views.look("b.>")
    assert await views.look("a.>") is first
    await views.look("c.>")
    assert await views.look("a.>") is first
    alone = BucketViews(lambda keys: view(harness, keys), most=1)
    large = await alone.look(">")
    assert await alone.look(">") is large
    assert len(large) == 9
