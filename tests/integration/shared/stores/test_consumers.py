"""Readers leave nothing behind on the broker, and what breaks off never looks whole."""

import pytest
from nats.errors import Error as NatsError

from shared.nats.settings import QueueSettings
from shared.nats.streams import MAX_CONSUMERS
from shared.nats.subjects import ARTIFACTS, COLLECTIONS, EVERYTHING, bucket_stream, store_stream
from shared.nats.topology import Topology
from shared.stores.artifacts import Artifacts, BrokenArtifactError
from shared.stores.collections import Collections
from tests.harness.stage_harness import StageHarness, until

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 2_000


async def consumers(harness: StageHarness, stream: str) -> int:
    return (await harness.jetstream.stream_info(stream)).state.consumer_count


async def test_every_stream_says_how_many_consumers_it_may_have(harness: StageHarness) -> None:
    """The broker's own number is 1,000."""
    config = (await harness.jetstream.stream_info(bucket_stream(COLLECTIONS))).config
    await harness.jetstream.update_stream(config, max_consumers=-1)  # as a version before left it
    await Topology(harness.jetstream, QueueSettings(ack_wait=1.0)).ensure()
    for stream in EVERYTHING:
        assert (await harness.jetstream.stream_info(stream)).config.max_consumers == MAX_CONSUMERS, stream


async def test_reading_leaves_no_consumer_behind(harness: StageHarness) -> None:
    artifacts, collections = Artifacts(harness.jetstream), Collections(harness.jetstream)
    await artifacts.put("acme", "job/file", DATA)
    await collections.create("acme", "docs")
    before = {
        stream: await consumers(harness, stream) for stream in (store_stream(ARTIFACTS), bucket_stream(COLLECTIONS))
    }
    for _ in range(20):
        assert b"".join([chunk async for chunk in (await artifacts.open("acme", "job/file"))[1]]) == DATA
        _, left = await artifacts.open("acme", "job/file")
        await anext(left)
        await left.aclose()
        assert len(await collections.list("acme")) == 1
    for stream, count in before.items():

        async def as_before(stream: str = stream, count: int = count) -> bool:
            return await consumers(harness, stream) <= count

        await until(as_before, "no consumer more")


async def receive(artifacts: Artifacts, name: str, received: list[bytes]) -> None:
    async for chunk in (await artifacts.open("acme", name))[1]:
        received.append(chunk)  # noqa: PERF401  (what came before it broke off)


@pytest.mark.parametrize("change", ["other", "longer"])
async def test_bytes_that_are_not_those_that_were_stored_never_look_whole(harness: StageHarness, change: str) -> None:
    artifacts = Artifacts(harness.jetstream)
    await artifacts.put("acme", f"job/{change}", DATA)
    info = await artifacts._info("acme", f"job/{change}")
    subject = f"$O.{ARTIFACTS}.C.{info.nuid}"
    first = await harness.jetstream.get_msg(store_stream(ARTIFACTS), subject=subject)
    if change == "other":
        await harness.jetstream.delete_msg(store_stream(ARTIFACTS), first.seq or 0)
        await harness.jetstream.publish(subject, bytes(len(first.data or b"")))
    else:
        await harness.jetstream.delete_msg(store_stream(ARTIFACTS), first.seq or 0)
        await harness.jetstream.publish(subject, (first.data or b"") + b"more")
    received: list[bytes] = []
    with pytest.raises((BrokenArtifactError, NatsError)):
        await receive(artifacts, f"job/{change}", received)
    assert len(b"".join(received)) < len(DATA)
