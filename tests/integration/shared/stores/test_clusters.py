"""What is written twice at once on three clustered nodes, which take a moment to agree on each message."""

import asyncio
from pathlib import Path

import pytest

from shared.contracts.jobs import DeleteSpec
from shared.nats.client import connect
from shared.nats.kv import Repository
from shared.nats.subjects import SCHEDULES
from shared.stores.jobs.store import JobStore
from tests.chaos.nodes import nodes
from tests.harness.stage_harness import open_stage_harness

pytestmark = pytest.mark.anyio

SPEC = DeleteSpec(collection="docs", documents=())
JOBS = 20
AT_ONCE = 3


async def test_many_that_submit_one_job_at_once_in_a_cluster_are_all_told_of_one(tmp_path: Path) -> None:
    with nodes(tmp_path, 3) as cluster:
        async with open_stage_harness(cluster[0].url, replicas=3) as harness:
            boards = [JobStore(harness.client, harness.jetstream) for _ in range(AT_ONCE)]
            for number in range(JOBS):
                submissions = [board.submit(SPEC, job=f"j{number}", tenant="t") for board in boards]
                made = await asyncio.gather(*submissions)
                assert sum(new for _, new in made) == 1
                assert len({job.event for job, _ in made}) == 1
            events = (await harness.jetstream.stream_info("JOB_EVENTS", subjects_filter="event.job.*.queued")).state
            assert set((events.subjects or {}).values()) == {1}


async def test_a_query_that_is_forwarded_twice_at_once_in_a_cluster_is_queued_once(tmp_path: Path) -> None:
    with nodes(tmp_path, 3) as cluster:
        async with open_stage_harness(cluster[0].url, replicas=3) as harness:
            await harness.make_queue("work")
            queries = [harness.query("work") for _ in range(JOBS)]
            for query in queries:
                await asyncio.gather(*(harness.submit(query) for _ in range(AT_ONCE)))
            assert (await harness.queue("work")).num_pending == JOBS


async def test_many_that_create_one_record_at_once_in_a_cluster_are_all_given_one(tmp_path: Path) -> None:
    with nodes(tmp_path, 3) as cluster:
        async with open_stage_harness(cluster[0].url, replicas=3):
            clients = [await connect(node.url) for node in cluster]
            repositories = [
                Repository(client.jetstream(), SCHEDULES, bytes.decode, encode=str.encode) for client in clients
            ]
            for number in range(JOBS):
                writes = (
                    repository.create(f"t.r{number}", f"{place} {turn}")
                    for place, repository in enumerate(repositories)
                    for turn in range(AT_ONCE)
                )
                made = await asyncio.gather(*writes)
                assert sum(new for _, new in made) == 1
                assert len({record for record, _ in made}) == 1
            for client in clients:
                await client.close()
