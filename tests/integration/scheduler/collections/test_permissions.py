"""Who may see documents: through every version of a collection, whatever happens meanwhile."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.documents import Document, document_id
from shared.contracts.envelope import Passage
from shared.contracts.jobs import DeleteSpec, JobState, PermitSpec, ReindexSpec, SwitchSpec
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import BY_WORDS, OWNER, CollectionHarness, open_collection_harness

pytestmark = pytest.mark.anyio

HR = ("group:hr",)
IT = ("group:it",)
EVERYBODY = ("public",)
TEXTS = {name: f"On day one the document {name} was written." for name in ("a", "b")}
A = document_id("a")


@pytest.fixture
async def harness(broker: NatsServer, tmp_path: Path) -> AsyncIterator[CollectionHarness]:
    async with open_collection_harness(broker.url, tmp_path) as collection_harness:
        await collection_harness.collections.create("default", "docs")
        yield collection_harness


async def ingest(
    harness: CollectionHarness, *names: str, allowed: tuple[str, ...] | None = None, word: str = ""
) -> None:
    spec = await harness.upload("docs", {name: f"{TEXTS[name]} {word}" for name in names}, allowed=allowed)
    job = await harness.do(spec)
    assert (job.state, job.progress.failed) == (JobState.SUCCEEDED, 0), job


async def permit(harness: CollectionHarness, allowed: tuple[str, ...], document: str = A) -> None:
    job = await harness.do(PermitSpec(collection="docs", documents=(document,), allowed=allowed))
    assert job.state is JobState.SUCCEEDED, job.error


async def seen(harness: CollectionHarness, *principals: str, version: str | None = None) -> list[str]:
    """The documents that a reader finds in a version."""
    collection = await harness.collection()
    table = collection.table if version is None else collection.version(version).table
    hits = await harness.store.search(
        table, "day document", None, top_k=200, options=BY_WORDS, readers=frozenset(principals)
    )
    return sorted({hit.document for hit in hits})


async def record(harness: CollectionHarness, name: str = "a") -> Document:
    found = await harness.documents.get((await harness.collection()).table, document_id(name), owner=OWNER)
    assert found is not None
    return found


async def test_a_list_is_set_kept_changed_and_taken_away_without_indexing_anew(harness: CollectionHarness) -> None:
    await ingest(harness, "b")
    assert not (await harness.collection()).restricted
    await ingest(harness, "a", allowed=HR)
    assert (await harness.collection()).restricted
    assert (await seen(harness), await seen(harness, *HR)) == (["b"], ["a", "b"])
    await ingest(harness, "a", word="anew")
    assert (await seen(harness), await seen(harness, *HR)) == (["b"], ["a", "b"])
    embedded = len(harness.embedded)
    await permit(harness, IT)
    assert (await seen(harness, *HR), await seen(harness, *IT)) == (["b"], ["a", "b"])
    await ingest(harness, "a", word="anew", allowed=HR)
    assert (await seen(harness, *HR), await seen(harness, *IT)) == (["a", "b"], ["b"])
    await permit(harness, ())
    assert await seen(harness, *HR) == ["b"]
    assert (await record(harness)).allowed == ()
    await permit(harness, EVERYBODY)
    assert await seen(harness) == ["a", "b"]
    assert (await record(harness)).allowed is None
    assert len(harness.embedded) == embedded


async def test_a_list_goes_with_its_document(harness: CollectionHarness) -> None:
    await ingest(harness, "a", allowed=HR)
    await harness.do(DeleteSpec(collection="docs", documents=(A,)))
    await permit(harness, IT)
    await ingest(harness, "a")
    assert await seen(harness) == ["a"]


async def test_a_list_holds_in_all_versions(harness: CollectionHarness) -> None:
    await ingest(harness, "a", "b")
    await permit(harness, HR)
    await harness.do(ReindexSpec(collection="docs", chunk_tokens=48, version="small", switch=False))
    assert (await seen(harness, version="small"), await seen(harness, *HR, version="small")) == (["b"], ["a", "b"])
    await permit(harness, IT)
    for version in ("v1", "small"):
        assert await seen(harness, *HR, version=version) == ["b"]
        assert await seen(harness, *IT, version=version) == ["a", "b"]
    await harness.do(SwitchSpec(collection="docs", version="small"))
    await permit(harness, HR)
    for version in ("v1", "small"):
        assert await seen(harness, *IT, version=version) == ["b"]
    assert (await record(harness)).allowed == HR


async def test_a_list_that_changes_while_its_document_is_copied_holds_in_the_copy(harness: CollectionHarness) -> None:
    await ingest(harness, "a", "b")
    changed: list[str] = []

    async def change(_: str, passages: tuple[Passage, ...]) -> None:
        if passages[0].document == "a" and not changed:
            job = await harness.submit(PermitSpec(collection="docs", documents=(A,), allowed=HR))
            changed.append(job)
            await harness.job_harness.ended(job)

    harness.before_embedding = change
    job = await harness.do(ReindexSpec(collection="docs", chunk_tokens=48, version="small"))
    assert job.state is JobState.SUCCEEDED, job.error
    assert changed
    for version in ("v1", "small"):
        assert (await seen(harness, version=version), await seen(harness, *HR, version=version)) == (["b"], ["a", "b"])


async def test_a_list_that_comes_with_an_older_upload_holds_all_the_same(harness: CollectionHarness) -> None:
    """The later upload says nothing of who may see the document, and is faster."""
    await ingest(harness, "b")
    overtaken: list[str] = []

    async def overtake(_: str, passages: tuple[Passage, ...]) -> None:
        if passages[0].document == "a" and not overtaken:
            overtaken.append("a")
            later = await harness.submit(await harness.upload("docs", {"a": f"{TEXTS['a']} later"}))
            await harness.job_harness.ended(later)

    harness.before_embedding = overtake
    await ingest(harness, "a", allowed=HR)
    assert (await seen(harness), await seen(harness, *HR)) == (["b"], ["a", "b"])
    assert (await record(harness)).allowed == HR


async def test_a_retriever_that_knows_no_lists_opens_no_document(harness: CollectionHarness) -> None:
    await ingest(harness, "b")

    harness.unknown_to_index = frozenset({"restricted", "permissions"})
    retry = {"limit": 1}
    job = await harness.do(await harness.upload("docs", {"a": TEXTS["a"]}, allowed=HR), retry=retry)
    assert job.state is JobState.FAILED
    assert "Update all retrievers" in str(job.error)
    job = await harness.do(PermitSpec(collection="docs", documents=(document_id("b"),), allowed=HR), retry=retry)
    assert job.state is JobState.FAILED
    assert await seen(harness) == ["b"]
    assert (await record(harness, "b")).allowed is None
    harness.unknown_to_index = frozenset()
    await ingest(harness, "a", allowed=HR)
    assert (await seen(harness), await seen(harness, *HR)) == (["b"], ["a", "b"])
