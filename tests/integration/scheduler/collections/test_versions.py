"""Versions of a collection: built, made live and left again, whatever happens meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from shared.contracts.collections import Collection, Owner, VersionState
from shared.contracts.documents import Document, document_id
from shared.contracts.envelope import Passage
from shared.contracts.jobs import DeleteSpec, DropSpec, JobState, ReindexSpec, SwitchSpec
from shared.contracts.problems import Problem
from shared.contracts.retrieval import RetrievalOptions
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import OWNER, CollectionHarness, open_collection_harness
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

LONG = " ".join(f"On day {day} the keeper lit the lamp and wrote the log of the day." for day in range(40))
TEXTS = {name: LONG.replace("keeper", f"keeper of {name}") for name in ("a", "b", "c")}


@pytest.fixture
async def collection_harness(broker: NatsServer, tmp_path: Path) -> AsyncIterator[CollectionHarness]:
    async with open_collection_harness(broker.url, tmp_path) as collection_harness:
        yield collection_harness


async def fill(collection_harness: CollectionHarness, texts: Mapping[str, str] = TEXTS) -> Collection:
    await collection_harness.collections.create("default", "docs")
    job = await collection_harness.do(await collection_harness.upload("docs", texts))
    assert (job.state, job.progress.indexed) == (JobState.SUCCEEDED, len(texts)), job
    return await collection_harness.collection()


def states(collection: Collection) -> dict[str, str]:
    return {version.name: version.state.value for version in collection.versions}


async def test_a_new_version_is_cut_anew_and_becomes_live_while_the_old_one_stays(
    collection_harness: CollectionHarness,
) -> None:
    before = await fill(collection_harness)
    job = await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=48))
    after = await collection_harness.collection()
    assert job.state is JobState.SUCCEEDED, job.error
    assert states(after) == {"v1": "retired", "v2": "live"}
    assert (after.id, after.table) == (before.id, after.version("v2").table)
    assert await collection_harness.names(after.table) == ["a", "b", "c"]
    assert len(await collection_harness.texts(after.table)) > len(await collection_harness.texts(before.table)) > 3
    counts = (job.outputs["version"], job.outputs["documents"], job.outputs["live"], job.outputs["previous"])
    assert counts == ("v2", 3, True, "v1")
    assert (job.progress.documents, job.progress.indexed) == (3, 3)


async def test_another_embedding_goes_with_the_version_and_back_with_the_rollback(
    collection_harness: CollectionHarness,
) -> None:
    await fill(collection_harness)
    job = await collection_harness.do(ReindexSpec(collection="docs", embedding_variant="wide"))
    assert job.state is JobState.SUCCEEDED, job.error
    switched = await collection_harness.collection()
    assert switched.embedding_variant == "wide"
    await collection_harness.do(await collection_harness.upload("docs", {"d": "A new document."}))
    assert ("wide", "d") in collection_harness.embedded
    assert ("default", "d") not in collection_harness.embedded

    await collection_harness.do(SwitchSpec(collection="docs"))
    back = await collection_harness.collection()
    assert (back.live.name, back.embedding_variant) == ("v1", "default")
    assert ("default", "d") in collection_harness.embedded, "the rollback has brought the new document along"
    assert await collection_harness.names(back.table) == ["a", "b", "c", "d"]


async def test_a_job_that_runs_through_the_switch_loses_nothing(collection_harness: CollectionHarness) -> None:
    await fill(collection_harness)
    arrived, free = asyncio.Event(), asyncio.Event()

    async def hold(_: str, passages: tuple[Passage, ...]) -> None:
        if passages[0].document == "late" and not arrived.is_set():
            arrived.set()
            await free.wait()

    collection_harness.before_embedding = hold
    late = await collection_harness.submit(await collection_harness.upload("docs", {"late": "The late document."}))
    async with collection_harness.job_harness.working(collection_harness.kinds):
        await arrived.wait()
        reindex = await collection_harness.submit(ReindexSpec(collection="docs", chunk_tokens=48))
        assert (await collection_harness.job_harness.ended(reindex)).state is JobState.SUCCEEDED
        assert "late" not in await collection_harness.names((await collection_harness.collection()).table)
        free.set()
        job = await collection_harness.job_harness.ended(late)
    assert (job.state, job.progress.indexed) == (JobState.SUCCEEDED, 1)
    now = await collection_harness.collection()
    assert now.live.name == "v2"
    assert await collection_harness.names(now.table) == ["a", "b", "c", "late"]
    assert "The late document." in await collection_harness.texts(now.table)


async def test_what_changes_while_a_version_is_built_is_in_it(collection_harness: CollectionHarness) -> None:
    await fill(collection_harness)
    arrived, free = asyncio.Event(), asyncio.Event()
    small: list[str] = []

    async def hold(_: str, passages: tuple[Passage, ...]) -> None:
        small.extend(p.document for p in passages if len(p.text) < 300)
        if small and not arrived.is_set():
            arrived.set()
            await free.wait()

    collection_harness.before_embedding = hold
    async with collection_harness.job_harness.working(collection_harness.kinds):
        reindex = await collection_harness.submit(ReindexSpec(collection="docs", chunk_tokens=48))
        await arrived.wait()
        delete = await collection_harness.submit(DeleteSpec(collection="docs", documents=(document_id("b"),)))
        change = await collection_harness.submit(
            await collection_harness.upload("docs", {"a": LONG + " The end.", "new": LONG})
        )
        assert (await collection_harness.job_harness.ended(delete)).progress.deleted == 1
        assert (await collection_harness.job_harness.ended(change)).progress.indexed == 2
        free.set()
        job = await collection_harness.job_harness.ended(reindex)
    assert job.state is JobState.SUCCEEDED, job.error
    now = await collection_harness.collection()
    assert await collection_harness.names(now.table) == ["a", "c", "new"]
    assert any(text.endswith("The end.") for text in await collection_harness.texts(now.table))


async def test_a_removal_holds_against_the_first_upload_that_it_overtakes(
    collection_harness: CollectionHarness,
) -> None:
    await collection_harness.collections.create("default", "docs")
    arrived, free = asyncio.Event(), asyncio.Event()

    async def hold(_: str, passages: tuple[Passage, ...]) -> None:
        if passages[0].document in TEXTS:
            arrived.set()
            await free.wait()

    collection_harness.before_embedding = hold
    async with collection_harness.job_harness.working(collection_harness.kinds):
        upload = await collection_harness.submit(await collection_harness.upload("docs", TEXTS))
        await arrived.wait()
        delete = await collection_harness.submit(DeleteSpec(collection="docs", documents=(document_id("b"),)))
        assert (await collection_harness.job_harness.ended(delete)).state is JobState.SUCCEEDED
        free.set()
        job = await collection_harness.job_harness.ended(upload)
    assert (job.state, job.progress.indexed, job.progress.skipped) == (JobState.SUCCEEDED, 2, 1)
    now = await collection_harness.collection()
    assert await collection_harness.names(now.table) == ["a", "c"]
    assert not any("keeper of b" in text for text in await collection_harness.texts(now.table))


async def test_a_removal_from_an_empty_collection_makes_no_table_and_embeds_nothing(
    collection_harness: CollectionHarness,
) -> None:
    collection, _ = await collection_harness.collections.create("default", "docs")
    async with collection_harness.job_harness.working(collection_harness.kinds):
        delete = await collection_harness.submit(DeleteSpec(collection="docs", documents=(document_id("b"),)))
        job = await collection_harness.job_harness.ended(delete)
        assert (job.state, job.progress.deleted) == (JobState.SUCCEEDED, 1)
        assert collection_harness.embedded == []
        assert await collection_harness.store.open_anew(collection.table) is None
        # A later upload of the same document is not held back.
        upload = await collection_harness.submit(await collection_harness.upload("docs", TEXTS))
        assert (await collection_harness.job_harness.ended(upload)).progress.indexed == len(TEXTS)
    assert await collection_harness.names(collection.table) == sorted(TEXTS)


async def test_a_job_broken_off_goes_on_with_what_is_missing(collection_harness: CollectionHarness) -> None:
    await fill(collection_harness, {f"doc{number}": LONG for number in range(4)})
    collection_harness.embedded.clear()
    arrived = asyncio.Event()

    async def hold(_: str, passages: tuple[Passage, ...]) -> None:
        if passages[0].document == "doc3":
            arrived.set()
            await asyncio.Event().wait()

    collection_harness.before_embedding = hold
    job = await collection_harness.submit(ReindexSpec(collection="docs", chunk_tokens=48, version="small"))
    async with collection_harness.job_harness.working(collection_harness.kinds, long=frozenset({"reindex"})):
        await arrived.wait()
        table = (await collection_harness.collection()).version("small").table

        async def three() -> bool:
            return len(await collection_harness.names(table)) == 3

        await until(three, "three documents in the new version")
    collection_harness.before_embedding = None
    done = collection_harness.embedded.copy()
    assert {document for _, document in done} == {"doc0", "doc1", "doc2"}
    async with collection_harness.job_harness.working(collection_harness.kinds):
        ended = await collection_harness.job_harness.ended(job)
    assert ended.state is JobState.SUCCEEDED, ended.error
    assert {document for _, document in collection_harness.embedded[len(done) :]} == {"doc3"}
    assert states(await collection_harness.collection()) == {"v1": "retired", "small": "live"}


async def test_originals_are_kept_for_as_long_as_a_document_is_and_no_longer(
    collection_harness: CollectionHarness,
) -> None:
    await fill(collection_harness, {"a": "The first text.", "b": "The second text."})
    collection = await collection_harness.collection()
    table, owner = collection.table, collection.owner
    first = await collection_harness.documents.get(table, document_id("a"), owner=owner)
    assert first is not None
    assert await collection_harness.originals.load(first.original, owner=owner) == b"The first text."

    await collection_harness.do(await collection_harness.upload("docs", {"a": "The first text.", "b": "Another text."}))
    kept = await collection_harness.kept()
    assert kept == 4, "a chunk and an entry for each"
    second = await collection_harness.documents.get(table, document_id("b"), owner=owner)
    assert second is not None
    assert await collection_harness.originals.load(second.original, owner=owner) == b"Another text."

    await collection_harness.do(DeleteSpec(collection="docs", documents=(document_id("a"),)))
    assert await collection_harness.kept() == 2
    collection = await collection_harness.collection()
    await collection_harness.do(DropSpec(collection="docs", table=collection.table, id=collection.id))
    assert await collection_harness.kept() == 0


async def test_an_original_that_an_older_version_needs_outlives_the_switch(
    collection_harness: CollectionHarness,
) -> None:
    await fill(collection_harness, {"a": LONG})
    await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=48))
    await collection_harness.do(SwitchSpec(collection="docs"))
    job = await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=64))
    assert job.state is JobState.SUCCEEDED, job.error


async def test_versions_beyond_those_to_keep_are_dropped(collection_harness: CollectionHarness) -> None:
    first = await fill(collection_harness)
    for tokens in (48, 64):
        await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=tokens, keep=1))
    assert states(await collection_harness.collection()) in (
        {"v1": "leaving", "v2": "retired", "v3": "live"},
        {"v2": "retired", "v3": "live"},
    )

    async def gone() -> bool:
        return states(await collection_harness.collection()) == {"v2": "retired", "v3": "live"}

    async with collection_harness.job_harness.working(collection_harness.kinds):
        await until(gone, "the first version gone")
    assert await collection_harness.store.count(first.table) == 0
    assert await collection_harness.names(first.table) == []
    assert await collection_harness.names((await collection_harness.collection()).table) == ["a", "b", "c"]


async def test_versions_that_share_a_table_are_switched_at_no_cost_and_the_last_takes_it_along(
    collection_harness: CollectionHarness,
) -> None:
    first = await fill(collection_harness)
    embedded = len(collection_harness.embedded)
    tuned = first.live.model_copy(
        update={"name": "tuned", "state": VersionState.READY, "retrieval": RetrievalOptions(dense_weight=0.4)}
    )
    await collection_harness.collections.update(first, lambda collection: collection.adding(tuned))
    job = await collection_harness.do(SwitchSpec(collection="docs", version="tuned"))
    assert (job.outputs["version"], job.outputs["previous"]) == ("tuned", "v1"), job.error
    assert len(collection_harness.embedded) == embedded
    await collection_harness.do(await collection_harness.upload("docs", {"d": "A new document of the day."}))
    await collection_harness.do(SwitchSpec(collection="docs"))
    back = await collection_harness.collection()
    assert (back.live.name, back.table) == ("v1", first.table)
    assert await collection_harness.names(back.table) == ["a", "b", "c", "d"]

    async def left(*names: str) -> bool:
        return {version.name for version in (await collection_harness.collection()).versions} == set(names)

    async with collection_harness.job_harness.working(collection_harness.kinds):
        job_id = await collection_harness.submit(ReindexSpec(collection="docs", keep=1))
        assert (await collection_harness.job_harness.ended(job_id)).state is JobState.SUCCEEDED
        await until(lambda: left("v1", "v3"), "the version gone that was live before the last one")
        assert await collection_harness.store.count(first.table)
        job_id = await collection_harness.submit(ReindexSpec(collection="docs", keep=0))
        assert (await collection_harness.job_harness.ended(job_id)).state is JobState.SUCCEEDED

        async def gone() -> bool:
            return not await collection_harness.store.count(first.table)

        await until(gone, "the table gone that no version uses")
    assert not await collection_harness.names(first.table)


async def test_a_version_in_use_cannot_be_dropped(collection_harness: CollectionHarness) -> None:
    collection = await fill(collection_harness)
    job = await collection_harness.do(DropSpec(collection="docs", table=collection.table, version="v1"))
    assert (job.state, job.error and job.error.type.rpartition(":")[2]) == (JobState.FAILED, "conflict")
    assert await collection_harness.store.count(collection.table) > 0


async def test_without_originals_a_reindex_says_so_before_it_begins(broker: NatsServer, tmp_path: Path) -> None:
    async with open_collection_harness(broker.url, tmp_path, keep_originals=False) as collection_harness:
        await fill(collection_harness)
        assert await collection_harness.kept() == 0
        job = await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=48))
        assert job.error is not None
        assert (job.state, job.error.type.rpartition(":")[2]) == (JobState.FAILED, "originals-missing")
        assert (await collection_harness.collection()).live.name == "v1"


async def test_a_version_that_would_lack_a_document_never_becomes_live(collection_harness: CollectionHarness) -> None:
    collection = await fill(collection_harness)
    record = await collection_harness.documents.get(collection.table, document_id("b"), owner=OWNER)
    assert record is not None
    await collection_harness.originals._remove(record.original)
    job = await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=48))
    assert job.error is not None
    assert (job.state, job.error.type.rpartition(":")[2]) == (JobState.FAILED, "version-not-ready")
    assert [error.document for error in job.errors] == ["b"]
    assert (await collection_harness.collection()).live.name == "v1"

    await collection_harness.do(await collection_harness.upload("docs", {"b": TEXTS["b"] + " Again."}))
    assert (await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=64))).state is JobState.SUCCEEDED
    now = await collection_harness.collection()
    assert now.live.name == "v3"
    assert now.find("v2") is None or now.version("v2").state is VersionState.LEAVING


async def test_a_failed_switch_leaves_everything_as_it_was(collection_harness: CollectionHarness) -> None:
    await fill(collection_harness)
    await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=48, switch=False, version="small"))
    await collection_harness.do(await collection_harness.upload("docs", {"d": LONG}))
    record = await collection_harness.documents.get(
        (await collection_harness.collection()).table, document_id("d"), owner=OWNER
    )
    assert record is not None
    await collection_harness.originals._remove(record.original)
    job = await collection_harness.do(SwitchSpec(collection="docs", version="small"))
    assert job.state is JobState.FAILED
    assert states(await collection_harness.collection()) == {"v1": "live", "small": "ready"}


async def test_an_empty_collection_can_be_reindexed(collection_harness: CollectionHarness) -> None:
    await collection_harness.collections.create("default", "docs")
    job = await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=48))
    assert (job.state, job.outputs["documents"]) == (JobState.SUCCEEDED, 0)


async def test_a_collection_deleted_meanwhile_leaves_no_table_behind(collection_harness: CollectionHarness) -> None:
    collection = await fill(collection_harness)
    arrived, free = asyncio.Event(), asyncio.Event()

    async def hold(_: str, passages: tuple[Passage, ...]) -> None:
        arrived.set()
        await free.wait()

    collection_harness.before_embedding = hold
    async with collection_harness.job_harness.working(collection_harness.kinds):
        reindex = await collection_harness.submit(ReindexSpec(collection="docs", chunk_tokens=48, version="small"))
        await arrived.wait()
        table = (await collection_harness.collection()).version("small").table
        await collection_harness.collections.delete("default", "docs")
        drop = await collection_harness.submit(DropSpec(collection="docs", table=collection.table, others=(table,)))
        await collection_harness.job_harness.ended(drop)
        free.set()
        job = await collection_harness.job_harness.ended(reindex)
    assert job.error is not None
    assert job.error.type.endswith("collection-not-found")
    assert await collection_harness.store.count(table) == 0
    assert await collection_harness.names(table) == []
    with pytest.raises(Problem):
        await collection_harness.collection()


@pytest.mark.parametrize("sizes", [{"chunk_tokens": 64, "chunk_overlap": 60}, {"version": "v1"}])
async def test_what_cannot_be_built_is_refused_at_once(
    collection_harness: CollectionHarness, sizes: dict[str, object]
) -> None:
    await fill(collection_harness)
    job = await collection_harness.do(ReindexSpec.model_validate({"collection": "docs", **sizes}))
    assert job.state is JobState.FAILED
    assert states(await collection_harness.collection()) == {"v1": "live"}


async def test_of_two_switches_to_one_version_the_slower_removes_nothing_that_came_after_the_other(
    collection_harness: CollectionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one compares with the version before, which is live no more and gets no new documents."""
    await fill(collection_harness)
    await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=48, switch=False, version="small"))
    small = (await collection_harness.collection()).version("small").table
    reads, free = asyncio.Queue[asyncio.Event](), asyncio.Event()
    read = collection_harness.documents.list

    async def held(table: str, *, owner: Owner) -> list[Document]:
        if table == small and not free.is_set():
            gate = asyncio.Event()
            reads.put_nowait(gate)
            await gate.wait()
        return await read(table, owner=owner)

    async with collection_harness.job_harness.working(collection_harness.kinds):
        monkeypatch.setattr(collection_harness.documents, "list", held)
        slow = await collection_harness.submit(SwitchSpec(collection="docs", version="small", force=True))
        gate = await reads.get()
        free.set()
        quick = await collection_harness.submit(SwitchSpec(collection="docs", version="small", force=True))
        assert (await collection_harness.job_harness.ended(quick)).state is JobState.SUCCEEDED
        upload = await collection_harness.submit(await collection_harness.upload("docs", {"new": "A new day."}))
        assert (await collection_harness.job_harness.ended(upload)).state is JobState.SUCCEEDED
        gate.set()
        ended = await collection_harness.job_harness.ended(slow)
    assert (ended.state, ended.outputs["live"]) == (JobState.SUCCEEDED, True), ended.error
    now = await collection_harness.collection()
    assert states(now) == {"v1": "retired", "small": "live"}
    assert "new" in await collection_harness.names(now.table)
    assert "A new day." in await collection_harness.texts(now.table)


async def test_whatever_runs_beside_switches_to_and_fro_ends_up_in_the_live_version(
    collection_harness: CollectionHarness,
) -> None:
    await fill(collection_harness)
    await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=48, switch=False, version="small"))
    async with collection_harness.job_harness.working(collection_harness.kinds):
        jobs = []
        for number in range(12):
            jobs.append(
                await collection_harness.submit(
                    await collection_harness.upload("docs", {f"n{number}": f"Number {number}."})
                )
            )
            jobs.append(
                await collection_harness.submit(
                    await collection_harness.upload("docs", {"shared": f"Document {number}."})
                )
            )
            if number % 3 == 1:
                jobs.append(
                    await collection_harness.submit(
                        DeleteSpec(collection="docs", documents=(document_id(f"n{number}"),))
                    )
                )
            if number % 4 == 0:
                jobs.append(
                    await collection_harness.submit(
                        SwitchSpec(collection="docs", version="small" if number % 8 else "v1")
                    )
                )
            if number % 4 == 2:
                jobs.append(await collection_harness.submit(SwitchSpec(collection="docs", version="small")))
        ended = [await collection_harness.job_harness.ended(job) for job in jobs]
    assert [(job.id, job.error) for job in ended if job.state is not JobState.SUCCEEDED] == []
    now = await collection_harness.collection()
    gone = {f"n{number}" for number in range(12) if number % 3 == 1}
    assert (
        set(await collection_harness.names(now.table))
        == ({*TEXTS, "shared"} | {f"n{number}" for number in range(12)}) - gone
    )
    texts = await collection_harness.texts(now.table)
    assert [text for text in texts if text.startswith("Document")] == ["Document 11."]


async def test_documents_from_before_originals_were_kept_get_theirs_when_they_come_again(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with open_collection_harness(broker.url, tmp_path / "before", keep_originals=False) as collection_harness:
        await fill(collection_harness)
    async with open_collection_harness(broker.url, tmp_path / "before") as collection_harness:
        job = await collection_harness.do(await collection_harness.upload("docs", TEXTS))
        assert (job.state, job.progress.skipped) == (JobState.SUCCEEDED, 3)
        assert collection_harness.embedded == []
        assert (
            await collection_harness.do(ReindexSpec(collection="docs", chunk_tokens=48))
        ).state is JobState.SUCCEEDED
