"""What a collection has lost does not become final unnoticed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.scheduler.collections.index_check import IndexCheck
from services.scheduler.collections.index_scan import DAMAGED, scan_indices
from shared.contracts.collections import Collection
from shared.contracts.documents import document_id
from shared.contracts.indexing import summary_of
from shared.contracts.jobs import Job, JobState, ReindexSpec, SwitchSpec
from shared.runtime.requester import Requester
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import OWNER, CollectionHarness, open_collection_harness

pytestmark = pytest.mark.anyio

TEXTS = {"a": "The lamp is lit.", "b": "The log is written.", "c": "The keeper sleeps."}


@pytest.fixture
async def harness(broker: NatsServer, tmp_path: Path) -> AsyncIterator[CollectionHarness]:
    async with open_collection_harness(broker.url, tmp_path, check_pause=0.02) as harness:
        await harness.collections.create("default", "docs")
        assert (await harness.do(await harness.upload("docs", TEXTS))).state is JobState.SUCCEEDED
        yield harness


async def lose_a_record(harness: CollectionHarness, collection: Collection) -> None:
    """As a truncated bucket does."""
    await harness.documents.delete(collection.table, document_id("a"), 2**62, owner=OWNER)


def damaged(job: Job) -> bool:
    return job.state is JobState.FAILED and job.error is not None and job.error.type.endswith(":index-damaged")


async def test_a_collection_that_has_lost_records_is_not_indexed_anew_unless_that_is_forced(
    harness: CollectionHarness,
) -> None:
    collection = await harness.collection()
    await lose_a_record(harness, collection)
    job = await harness.do(ReindexSpec(collection="docs"))
    assert damaged(job)
    assert job.error is not None
    assert "name 2 documents, and its index holds 3" in job.error.detail
    assert (await harness.collection()).live.name == "v1"
    assert await harness.store.count(collection.table) == 3
    forced = await harness.do(ReindexSpec(collection="docs", force=True))
    assert forced.state is JobState.SUCCEEDED, forced.error
    assert forced.outputs["documents"] == 2


async def test_a_version_that_has_lost_its_index_does_not_become_the_live_one(harness: CollectionHarness) -> None:
    await harness.do(ReindexSpec(collection="docs", chunk_tokens=48))
    old = (await harness.collection()).version("v1")
    await harness.store.drop(old.table)
    job = await harness.do(SwitchSpec(collection="docs"))
    assert damaged(job)
    assert (await harness.collection()).live.name == "v2"


async def test_what_the_live_version_has_lost_is_not_removed_from_the_one_before(harness: CollectionHarness) -> None:
    await harness.do(ReindexSpec(collection="docs", chunk_tokens=48))
    collection = await harness.collection()
    await lose_a_record(harness, collection)
    assert damaged(await harness.do(SwitchSpec(collection="docs")))
    assert await harness.names(collection.version("v1").table) == ["a", "b", "c"]
    back = await harness.do(SwitchSpec(collection="docs", force=True))
    assert back.state is JobState.SUCCEEDED, back.error


async def test_a_scan_counts_the_damaged_collections(harness: CollectionHarness) -> None:
    bus = harness.job_harness.bus
    check = IndexCheck(
        Requester(bus.client, bus.jetstream, bus.topology, name="scan", seconds=30, tries=2), harness.documents, pause=0
    )
    await scan_indices(harness.collections, check)
    assert DAMAGED._value.get() == 0
    await harness.store.drop((await harness.collection()).table)
    await scan_indices(harness.collections, check)
    assert DAMAGED._value.get() == 1


def test_a_summary_is_the_same_in_any_order_and_differs_by_document_and_revision() -> None:
    summary = summary_of({"a": 1, "b": 2})
    assert summary == summary_of({"b": 2, "a": 1})
    others = ({"a": 1}, {"a": 2, "b": 1}, {"a": 1, "c": 2}, {})
    assert all(summary.digest != summary_of(other).digest for other in others)
