"""Listing costs what is listed and what has changed since the last time, not what there is."""

import asyncio
import time

import pytest

from shared.contracts.collections import Owner
from shared.contracts.documents import Document
from shared.contracts.jobs import DeleteSpec, Job, JobOptions, JobState, job_id
from shared.contracts.principals import ALL, Principals
from shared.contracts.restrictions import Restrictions
from shared.contracts.warnings import DocumentWarning, WarningKind
from shared.nats.kv import Repository
from shared.nats.subjects import JOB_STATUS
from shared.stores.collection_index import CollectionIndex
from shared.stores.collections import Collections
from shared.stores.document_index import Counts, DocumentIndex
from shared.stores.documents import Documents
from shared.stores.jobs.index import JobList
from shared.stores.jobs.store import JobStore, fresh_job
from tests.harness.stage_harness import StageHarness

pytestmark = pytest.mark.anyio

SPEC = DeleteSpec(collection="docs", documents=())
OWNER = Owner(tenant="acme", collection="c1")


async def history(harness: StageHarness, count: int, tenant: str = "acme") -> list[Job]:
    """Entries of jobs, oldest first."""
    entries = Repository(harness.jetstream, JOB_STATUS, Job.model_validate_json)
    jobs = [
        fresh_job(SPEC, job=f"j{number:04}", tenant=tenant, options=JobOptions(), created_at=1000.0 + number)
        for number in range(count)
    ]
    await asyncio.gather(*(entries.put(f"{tenant}.{job.id}", job) for job in jobs))
    return jobs


async def messages_of(harness: StageHarness, jobs: JobStore, **chosen: object) -> int:
    """What the client receives for one list."""
    await harness.client.flush()
    before = harness.client.stats["in_msgs"]
    await jobs.list("acme", **chosen)  # type: ignore[arg-type]
    return int(harness.client.stats["in_msgs"] - before)


async def test_a_list_of_jobs_costs_the_same_after_a_long_history(harness: StageHarness) -> None:
    jobs = JobStore(harness.client, harness.jetstream)
    await history(harness, 20)
    assert len(await jobs.list("acme", limit=5)) == 5
    short = await messages_of(harness, jobs, limit=5)
    await history(harness, 400)
    assert [job.id for job in await jobs.list("acme", limit=3)] == ["j0399", "j0398", "j0397"]
    assert await messages_of(harness, jobs, limit=5) == short == 6
    assert await messages_of(harness, jobs, limit=5, state=JobState.FAILED) == 1


async def test_a_list_has_every_change_of_another_process(harness: StageHarness) -> None:
    here, there = (JobStore(harness.client, harness.jetstream) for _ in range(2))
    assert await here.list("acme") == []
    made = []
    for number in range(40):
        job, _ = await there.submit(SPEC, job=job_id("acme", str(number)), tenant="acme")
        made.append(job.id)
        assert [each.id for each in await here.list("acme")] == made[::-1]
    await there.cancel("acme", made[3])
    assert [job.id for job in await here.list("acme", state=JobState.CANCELLED)] == [made[3]]
    assert [job.state for job in await here.list("acme", limit=100)].count(JobState.QUEUED) == 39


async def test_a_job_that_has_expired_is_not_listed(harness: StageHarness) -> None:
    jobs = JobStore(harness.client, harness.jetstream)
    await history(harness, 10)
    assert len(await jobs.list("acme")) == 10
    # The broker removes what is old without a word.
    await harness.jetstream.purge_stream(f"KV_{JOB_STATUS}", subject=f"$KV.{JOB_STATUS}.acme.j0009")
    assert [job.id for job in await jobs.list("acme", limit=2)] == ["j0008", "j0007"]


async def test_of_very_many_jobs_the_newest_are_known(harness: StageHarness) -> None:
    await history(harness, 50)
    known = JobList(harness.jetstream, "acme.>", most=20)
    await known.look()
    assert [job.id for job in known.newest()] == [f"j{number:04}" for number in range(49, 29, -1)]


def document(name: str, chunks: int, allowed: tuple[str, ...] | None = None, revision: int = 1) -> Document:
    return Document(
        id=name,
        name=name,
        sha256="0",
        bytes=1,
        chunks=chunks,
        indexed_at=time.time(),
        revision=revision,
        job="j",
        allowed=allowed,
        allowed_revision=revision,
    )


async def test_counts_follow_what_is_written_changed_and_removed(harness: StageHarness) -> None:
    documents, index = Documents(harness.jetstream), DocumentIndex(harness.jetstream)

    async def counted(*principals: str) -> tuple[int, int]:
        found = await index.counts("t", owner=OWNER, principals=principals or (ALL,))
        return found.documents, found.chunks

    assert await counted() == (0, 0)
    for number in range(40):
        await documents.put("t", document(f"d{number}", 2), owner=OWNER)
    await documents.put("t", document("secret", 5, ("group:hr",)), owner=OWNER)
    assert await counted() == (41, 85)
    assert await counted("group:it") == (40, 80)
    assert await counted("group:hr") == (41, 85)
    await documents.put("t", document("d1", 7, revision=2), owner=OWNER)
    await documents.delete("t", "d2", 3, owner=OWNER)
    assert await counted() == (40, 88)
    await documents.permit("t", "d1", ("group:hr",), 4, owner=OWNER)
    assert await counted("group:it") == (38, 76)
    await documents.forget("t", owner=OWNER)
    assert await index.counts("t", owner=OWNER, principals=(ALL,)) == Counts(documents=0, chunks=0)


async def test_counts_are_of_the_owner_alone(harness: StageHarness) -> None:
    documents, index = Documents(harness.jetstream), DocumentIndex(harness.jetstream)
    await documents.put("t", document("mine", 2), owner=OWNER)
    other = Owner(tenant="other", collection="c2")
    assert await index.counts("t", owner=other, principals=(ALL,)) == Counts(documents=0, chunks=0)


async def test_pages_of_documents_are_in_order_and_follow_what_is_written(harness: StageHarness) -> None:
    documents, index = Documents(harness.jetstream), DocumentIndex(harness.jetstream)
    names = [f"{folder}/Report-{number:03}" for folder in ("b", "a", "c") for number in range(200)]
    for name in names:
        await documents.put("t", document(name, 1), owner=OWNER)

    async def listed(
        limit: int = 70, principals: Principals = (ALL,), prefix: str = "", text: str = "", warned: bool = False
    ) -> list[str]:
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page, after = await index.page(
                "t",
                owner=OWNER,
                principals=principals,
                prefix=prefix,
                text=text,
                warned=warned,
                after=after,
                limit=limit,
            )
            found += page
        return found

    assert await listed() == await listed(599) == await listed(600) == sorted(names)
    assert await listed(prefix="b/") == sorted(names)[200:400]
    assert await listed(1, text="PORT-007") == [f"{folder}/Report-007" for folder in "abc"]
    assert await listed(prefix="c/", text="report-19") == [f"c/Report-{number}" for number in range(190, 200)]
    assert await listed(prefix="d/") == await listed(text="nowhere") == await listed(warned=True) == []

    gap = DocumentWarning(kind=WarningKind.CUT_OFF, detail="The end is missing.")
    changed = document("a/Report-001", 3, revision=2).model_copy(update={"warnings": (gap,)})
    await documents.put("t", changed, owner=OWNER)
    await documents.delete("t", "a/Report-000", 3, owner=OWNER)
    await documents.put("t", document("a/New", 1, ("group:hr",)), owner=OWNER)
    assert (await listed(prefix="a/"))[:3] == ["a/New", "a/Report-001", "a/Report-002"]
    assert await listed(prefix="a/N", principals=("group:it",)) == []
    assert await listed(warned=True) == ["a/Report-001"]
    await documents.forget("t", owner=OWNER)
    assert await listed() == []


async def test_documents_are_read_in_the_order_that_is_asked_for(harness: StageHarness) -> None:
    documents = Documents(harness.jetstream)
    for name in "abc":
        await documents.put("t", document(name, 1), owner=OWNER)
    found = await documents.get_each("t", ["c", "gone", "a"], owner=OWNER)
    assert [record.name for record in found] == ["c", "a"]


async def test_pages_of_collections_are_in_order_and_complete(harness: StageHarness) -> None:
    collections, index = Collections(harness.jetstream), CollectionIndex(harness.jetstream)
    names = [f"c{number:02}" for number in range(30)]
    await asyncio.gather(*(collections.create("acme", name) for name in names))
    await collections.create("other", "c00")

    async def paged(limit: int) -> list[str]:
        found: list[str] = []
        more = True
        while more:
            page, more = await index.page(
                "acme", after=found[-1] if found else "", limit=limit, sees=lambda name: name != "c07"
            )
            found += [record.name for record in page]
        return found

    seen = [name for name in names if name != "c07"]
    assert await paged(7) == await paged(29) == await paged(30) == seen
    every, more = await index.page("acme", after="", limit=None, sees=lambda _: True)
    assert every == [await collections.get("acme", name) for name in names]
    assert not more
    created = await index.created("acme", sees=lambda name: name != "c07")
    assert created == [(record.name, record.created_at) for record in every if record.name != "c07"]
    await collections.delete("acme", "c10")
    await collections.create("acme", "c105")
    assert "c10" not in await paged(100)
    assert (await paged(100))[9] == "c105"


async def test_the_counts_of_many_tables_cost_what_has_changed(harness: StageHarness) -> None:
    documents, index = Documents(harness.jetstream), DocumentIndex(harness.jetstream)
    tables = [(f"t{number:02}", OWNER) for number in range(50)]

    async def counted() -> tuple[list[int], int]:
        await harness.client.flush()
        before = harness.client.stats["in_msgs"]
        found = await index.counts_each(tables, principals=(ALL,))
        return [each.documents for each in found], int(harness.client.stats["in_msgs"] - before)

    assert (await counted())[0] == [0] * 50
    await documents.put("t07", document("a", 1), owner=OWNER)
    await documents.put("other", document("a", 1), owner=OWNER)
    counts, _ = await counted()
    assert counts == [int(number == 7) for number in range(50)]
    # Nothing was written since, so the broker is asked for the last write and nothing else.
    assert await counted() == (counts, 1)
    assert await documents.delete("t07", document("a", 1).id, 2, owner=OWNER) is not None
    await documents.note_removal("t08", document("a", 1).id, 2, owner=OWNER)
    # Two changes, the last write, and that there is no other change; at each of two tables the same without the last.
    assert await counted() == ([0] * 50, 8)


async def test_after_very_many_changes_the_counts_are_looked_at_anew(
    harness: StageHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.nats.view.MOST_CHANGES", 3)
    documents, index = Documents(harness.jetstream), DocumentIndex(harness.jetstream)
    assert await index.counts_each([("u", OWNER)], principals=(ALL,)) == [Counts(documents=0, chunks=0)]
    for name in "abcdef":
        await documents.put("u", document(name, 1), owner=OWNER)
    (found,) = await index.counts_each([("u", OWNER)], principals=(ALL,))
    assert found.documents == 6


async def test_which_collections_are_restricted_is_known_from_their_changes(harness: StageHarness) -> None:
    collections, index = Collections(harness.jetstream), CollectionIndex(harness.jetstream)
    record, _ = await collections.create("acme", "docs")
    assert await index.restrictions("acme") == Restrictions.of({"docs": False})
    await collections.update(record, lambda known: known.model_copy(update={"restricted": True}))
    assert await index.restrictions("acme") == Restrictions.of({"docs": True})
