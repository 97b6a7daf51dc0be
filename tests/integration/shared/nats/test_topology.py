"""One module owns the whole topology and makes it idempotently, whoever comes first."""

import asyncio
from typing import Any

import nats
import pytest

from shared.contracts.envelope import Lane
from shared.nats.settings import QueueSettings
from shared.nats.subjects import QUERIES, StageQueue
from shared.nats.topology import Topology
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import StageHarness, open_stage_harness

pytestmark = pytest.mark.anyio

STREAMS = {"QUERIES", "JOBS", "JOB_EVENTS", "DEAD_LETTERS", "TIMERS", "PAYLOADS", "CACHE"}
STORES = {
    "KV_answers",
    "KV_feedback",
    "KV_batches",
    "KV_canaries",
    "KV_checkpoints",
    "KV_collections",
    "KV_conversations",
    "KV_documents",
    "KV_files",
    "KV_job-specs",
    "KV_joins",
    "KV_jobs",
    "KV_keys",
    "KV_models",
    "KV_releases",
    "KV_routes",
    "KV_schedules",
    "KV_step-cache",
    "KV_usage",
    "OBJ_artifacts",
    "OBJ_tensors",
    "OBJ_models",
    "OBJ_training",
    "OBJ_originals",
    "OBJ_uploads",
    "OBJ_vectors",
}


async def streams(harness: StageHarness) -> dict[str, Any]:
    return {info.config.name: info.config for info in await harness.jetstream.streams_info()}


async def test_many_processes_may_make_everything_at_once(broker: NatsServer) -> None:
    clients = [await nats.connect(broker.url) for _ in range(8)]
    await asyncio.gather(*(Topology(client.jetstream(), QueueSettings()).ensure() for client in clients))
    async with open_stage_harness(broker.url) as harness:
        assert set(await streams(harness)) == STREAMS | STORES
        names = {info.name for info in await harness.jetstream.consumers_info("TIMERS")}
        assert names == {"due"}
    for client in clients:
        await client.close()


async def test_making_it_again_changes_nothing(harness: StageHarness) -> None:
    await harness.submit(harness.query("work"))
    before = await streams(harness)
    await harness.topology.ensure()
    assert await streams(harness) == before
    assert await harness.stored("query.work.>") == 1


async def test_changed_settings_change_what_exists_and_lose_nothing(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url) as harness:
        await harness.make_queue("work")
        await harness.submit(harness.query("work"))
        assert (await harness.queue("work")).config.ack_wait == 1.0
    changed = {
        "queue_limit": 7,
        "queue_bytes": 2**20,
        "longest_deadline": 60.0,
        "job_limit": 9,
        "job_tenant_limit": 8,
        "history_seconds": 3600.0,
        "history_bytes": 2**21,
        "payload_days": 2,
        "upload_seconds": 1800.0,
        "ack_wait": 2.5,
    }
    async with open_stage_harness(broker.url, **changed) as harness:
        await harness.make_queue("work")
        assert (await harness.queue("work")).config.ack_wait == 2.5
        assert await harness.stored("query.work.>") == 1
        config = await streams(harness)
        queries = config["QUERIES"]
        assert (queries.max_msgs_per_subject, queries.max_bytes, queries.max_age) == (7, 2**20, 60.0)
        assert (config["JOBS"].max_msgs, config["JOBS"].max_msgs_per_subject) == (9, 8)
        assert config["JOB_EVENTS"].max_age == config["DEAD_LETTERS"].max_age == config["KV_jobs"].max_age == 3600.0
        assert config["JOB_EVENTS"].max_bytes == config["DEAD_LETTERS"].max_bytes == 2**21
        assert config["OBJ_uploads"].max_age == 1800.0
        assert (config["PAYLOADS"].max_age, config["PAYLOADS"].max_bytes) == (2 * 86400.0, 2**21)


async def test_many_calls_at_once_are_at_most_two_rounds(
    harness: StageHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    stream_info = harness.jetstream.stream_info

    async def counted(name: str, *rest: Any) -> Any:
        looked.append(name)
        return await stream_info(name, *rest)

    monkeypatch.setattr(harness.jetstream, "stream_info", counted)
    await harness.topology.ensure()
    once = looked.count(QUERIES)
    looked.clear()
    await asyncio.gather(*(harness.topology.ensure() for _ in range(500)))
    assert looked.count(QUERIES) <= 2 * once


async def test_a_round_that_failed_counts_for_nobody(harness: StageHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    add_stream = harness.jetstream.add_stream
    failures = [TimeoutError()]

    async def failing_once(config: Any) -> Any:
        if failures:
            raise failures.pop()
        return await add_stream(config)

    monkeypatch.setattr(harness.jetstream, "add_stream", failing_once)
    await harness.jetstream.delete_stream(QUERIES)
    results = await asyncio.gather(harness.topology.ensure(), harness.topology.ensure(), return_exceptions=True)
    assert [type(result) for result in results] == [TimeoutError, type(None)]
    assert QUERIES in await streams(harness)


async def test_whoever_forwards_first_after_the_broker_lost_its_memory_makes_the_queues_again(
    harness: StageHarness,
) -> None:
    await harness.topology.ensure_queues([StageQueue(stage="work", variant="default", lane=lane) for lane in Lane])
    await harness.jetstream.delete_stream(QUERIES)
    await asyncio.gather(*(harness.submit(harness.query("work")) for _ in range(50)))
    assert (await harness.queue("work")).num_pending == 50
