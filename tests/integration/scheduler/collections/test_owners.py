"""An index, its records and its objects belong to one collection of one tenant, whatever they are called.

A table's name proves nothing: here another tenant's collection has got hold of it.
"""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.collections import Collection
from shared.contracts.documents import document_id
from shared.contracts.envelope import Stop
from shared.contracts.jobs import DeleteSpec, DropSpec, Job, JobState, ReindexSpec
from shared.contracts.problems import Problem, ProblemType
from shared.nats.objects import owned_name
from shared.nats.subjects import UPLOADS
from shared.runtime.requester import Requester
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import CollectionHarness, open_collection_harness

pytestmark = pytest.mark.anyio

TEXTS = {"a": "The key is under the mat.", "b": "The second text."}


@pytest.fixture
async def collection_harness(broker: NatsServer, tmp_path: Path) -> AsyncIterator[CollectionHarness]:
    async with open_collection_harness(broker.url, tmp_path) as collection_harness:
        yield collection_harness


@pytest.fixture
async def victim(collection_harness: CollectionHarness) -> Collection:
    """A collection of the tenant `default`, and one of `rival` whose record names the same table."""
    await collection_harness.collections.create("default", "docs")
    job = await collection_harness.do(await collection_harness.upload("docs", TEXTS))
    assert job.state is JobState.SUCCEEDED, job
    collection = await collection_harness.collection()
    rival, _ = await collection_harness.collections.create("rival", "docs")

    def taken(record: Collection) -> Collection:
        return record.changed("v1", table=collection.table).model_copy(update={"table": collection.table})

    await collection_harness.collections.update(rival, taken)
    return collection


async def rivals(collection_harness: CollectionHarness) -> Collection:
    return await collection_harness.collections.get("rival", "docs")


def requester(collection_harness: CollectionHarness) -> Requester:
    bus = collection_harness.job_harness.bus
    return Requester(bus.client, bus.jetstream, bus.topology, name="rival", seconds=30, tries=1)


async def run(collection_harness: CollectionHarness, spec: DeleteSpec | DropSpec, tenant: str) -> Job:
    """Run a job of a tenant to its end."""
    store = collection_harness.job_harness.job_store
    job, _ = await store.submit(spec, job=f"{spec.kind}-{tenant}", tenant=tenant)
    async with collection_harness.job_harness.working(collection_harness.kinds):
        while not (job := await store.get(tenant, job.id)).state.ended:
            pass
    return job


async def test_another_tenants_question_does_not_reach_the_table(
    collection_harness: CollectionHarness, victim: Collection
) -> None:
    rival = await rivals(collection_harness)
    assert rival.table == victim.table
    for owner in (rival.id, ""):
        with pytest.raises(Problem) as caught:
            await requester(collection_harness).ask(
                Stop(stage="retrieve", params={"mode": "text"}),
                tenant="rival",
                collection=rival.table,
                collection_id=owner,
                question="key",
            )
        assert caught.value.kind is ProblemType.COLLECTION_NOT_FOUND
    assert await collection_harness.documents.list(rival.table, owner=rival.owner) == []
    assert await collection_harness.documents.get(rival.table, document_id("a"), owner=rival.owner) is None


async def test_another_collection_of_the_tenants_does_not_reach_it_either(
    collection_harness: CollectionHarness, victim: Collection
) -> None:
    with pytest.raises(Problem) as caught:
        await requester(collection_harness).ask(
            Stop(stage="retrieve", params={"mode": "text"}),
            tenant="default",
            collection=victim.table,
            collection_id="another",
            question="key",
        )
    assert caught.value.kind is ProblemType.COLLECTION_NOT_FOUND


async def test_another_tenants_jobs_neither_change_nor_remove_anything(
    collection_harness: CollectionHarness, victim: Collection
) -> None:
    rival = await rivals(collection_harness)
    job = await run(collection_harness, DeleteSpec(collection="docs", documents=(document_id("a"),)), "rival")
    assert job.state is JobState.FAILED
    job = await run(collection_harness, DropSpec(collection="docs", table=rival.table, id=rival.id), "rival")
    assert job.state is JobState.FAILED
    assert await collection_harness.names(victim.table) == ["a", "b"]
    assert await collection_harness.store.count(victim.table) == len(TEXTS)
    record = await collection_harness.documents.get(victim.table, document_id("a"), owner=victim.owner)
    assert record is not None
    assert await collection_harness.originals.load(record.original, owner=victim.owner) == TEXTS["a"].encode()
    with pytest.raises(Problem):
        await collection_harness.originals.load(record.original, owner=rival.owner)


async def test_an_upload_of_another_tenant_is_not_read(collection_harness: CollectionHarness) -> None:
    await collection_harness.collections.create("default", "docs")
    spec = await collection_harness.upload("docs", {"a": "Somebody else's."})
    uploads = await collection_harness.job_harness.bus.jetstream.object_store(UPLOADS)
    for tenant, indexed in (("rival", 0), ("default", 1)):
        stored = owned_name(tenant, f"upload-{tenant}")
        await uploads.put(stored, b"Somebody else's.")
        document = spec.documents[0].model_copy(update={"object": stored})
        job = await collection_harness.do(spec.model_copy(update={"documents": (document,)}))
        assert job.progress.indexed == indexed
    assert (await uploads.get(owned_name("rival", "upload-rival"))).data == b"Somebody else's."


async def test_a_table_of_an_earlier_version_stays_readable_under_its_name(
    collection_harness: CollectionHarness, victim: Collection
) -> None:
    """It says nothing of an owner, and neither do its records."""
    old = "docs-0123abcd"
    kept = await collection_harness.documents.list(victim.table, owner=victim.owner)
    assert {(record.tenant, record.collection) for record in kept} == {("default", victim.id)}
    bus = collection_harness.job_harness.bus
    bucket = await bus.jetstream.key_value("documents")
    for record in kept:
        bare = record.model_copy(update={"tenant": "", "collection": ""})
        await bucket.put(f"{old}.{record.id}", bare.model_dump_json(exclude_defaults=True).encode())
    listed = await collection_harness.documents.list(old, owner=victim.owner)
    assert [record.name for record in listed] == ["a", "b"]
    await collection_harness.documents.put(old, listed[0], owner=victim.owner)
    assert len(await collection_harness.documents.list(old, owner=(await rivals(collection_harness)).owner)) == 1


async def test_the_table_of_a_new_version_does_not_follow_from_its_job(
    collection_harness: CollectionHarness, victim: Collection
) -> None:
    """Whoever chooses the id of a job does not choose the table."""
    await collection_harness.job_harness.submit(ReindexSpec(collection="docs", switch=False), "steered")
    async with collection_harness.job_harness.working(collection_harness.kinds):
        job = await collection_harness.job_harness.ended("steered")
    assert job.state is JobState.SUCCEEDED, job.error
    table = (await collection_harness.collection()).version("v2").table
    assert table.startswith("docs-")
    assert len(table) == len("docs-") + 32
    assert hashlib.sha256(b"default/steered").hexdigest()[:8] not in table
