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


async def test_a_first_look_at_nothing_is_one_request(harness: StageHarness) -> None:
    bucket = await made(harness)
    await bucket.put("u.1", b"not of these keys")
    seen = view(harness)
    await harness.client.flush()
    before = harness.client.stats["in_msgs"]
    await seen.look()
    await seen.look()
    assert harness.client.stats["in_msgs"] - before == 2
    await bucket.put("t.1", b"v")
    await seen.look()
    assert dict(seen.records) == {"t.1": "v"}


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


async def test_views_of_nothing_are_let_go_of_as_well(harness: StageHarness) -> None:
    await made(harness)
    views = BucketViews(lambda keys: view(harness, keys), most=5)
    first = await views.look("t0.>")
    for number in range(1, 5):
        await views.look(f"t{number}.>")
    assert await views.look("t0.>") is first
    for number in range(5, 10):
        await views.look(f"t{number}.>")
    assert await views.look("t0.>") is not first


async def test_a_look_at_one_view_asks_no_other_one_for_its_size(harness: StageHarness) -> None:
    asked: list[str] = []

    class Counted(BucketView[str]):
        def __len__(self) -> int:
            asked.append("")
            return super().__len__()

    await made(harness)
    views = BucketViews(lambda keys: Counted(harness.jetstream, "b", keys, bytes.decode), most=1000)
    for number in range(50):
        await views.look(f"t{number}.>")
    assert len(asked) == 50


async def test_a_view_in_use_is_read_anew_while_it_serves(harness: StageHarness) -> None:
    bucket = await made(harness)
    for number in range(9):
        await bucket.put(f"t.{number}", b"v")
    views = BucketViews(lambda keys: view(harness, keys), most=100, read_again=0.0)
    first = await views.look("t.>")
    # As a record that has expired, it leaves no trace.
    await harness.jetstream.purge_stream("KV_b", subject="$KV.b.t.3")
    assert await views.look("t.>") is first
    assert len(first) == 9

    async def renewed() -> bool:
        return len(await views.look("t.>")) == 8

    await until(renewed, "a view without the record")


async def test_a_view_that_cannot_be_read_anew_goes_on_serving(harness: StageHarness) -> None:
    bucket = await made(harness)
    await bucket.put("t.1", b"v")
    made_views: list[BucketView[str]] = []

    def make(keys: str) -> BucketView[str]:
        made_views.append(view(harness, keys) if not made_views else BucketView(harness.jetstream, "none", keys, str))
        return made_views[-1]

    views = BucketViews(make, most=100, read_again=0.0)
    first = await views.look("t.>")

    async def tried() -> bool:
        assert await views.look("t.>") is first
        return len(made_views) > 3

    await until(tried, "three tries")
    await bucket.put("t.2", b"v")
    assert len(await views.look("t.>")) == 2
