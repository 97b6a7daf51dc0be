"""Collections, documents and snapshots of buckets."""

import asyncio
import time
from typing import Any

import pytest

from shared.contracts.collections import Owner
from shared.contracts.documents import Document, check_document_name, document_id, spell_name
from shared.contracts.problems import Problem, ProblemType
from shared.nats.kv import snapshot
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from tests.harness.stage_harness import StageHarness, until

pytestmark = pytest.mark.anyio

OWNER = Owner(tenant="acme", collection="docs-1")


def record(revision: int, name: str = "a.txt") -> Document:
    return Document(
        id=document_id(name),
        name=name,
        sha256=f"{revision}",
        bytes=1,
        chunks=1,
        indexed_at=time.time(),
        revision=revision,
        job="j",
    )


async def test_of_two_versions_of_a_document_the_later_jobs_stays_in_whatever_order_they_come(
    harness: StageHarness,
) -> None:
    documents = Documents(harness.jetstream)
    for revision in (2, 1, 3, 3, 2):
        await documents.put("table", record(revision), owner=OWNER)
    assert (await documents.get("table", document_id("a.txt"), owner=OWNER)) is not None
    (kept,) = await documents.list("table", owner=OWNER)
    assert kept.revision == 3


async def test_of_many_who_write_a_document_at_once_the_latest_job_wins(harness: StageHarness) -> None:
    everyone = [Documents(harness.jetstream) for _ in range(30)]
    await asyncio.gather(*(each.put("table", record(revision), owner=OWNER) for revision, each in enumerate(everyone)))
    (kept,) = await Documents(harness.jetstream).list("table", owner=OWNER)
    assert kept.revision == 29


async def test_a_document_is_removed_unless_a_later_job_has_written_it(harness: StageHarness) -> None:
    documents = Documents(harness.jetstream)
    key = document_id("a.txt")
    await documents.put("table", record(5), owner=OWNER)
    await documents.delete("table", key, 4, owner=OWNER)
    assert await documents.get("table", key, owner=OWNER) is not None
    await documents.delete("table", key, 5, owner=OWNER)
    await documents.delete("table", key, 6, owner=OWNER)
    assert await documents.get("table", key, owner=OWNER) is None
    await documents.put("table", record(7), owner=OWNER)
    assert await documents.get("table", key, owner=OWNER) is not None


async def test_a_record_does_not_come_after_its_removal_by_a_later_job(harness: StageHarness) -> None:
    documents = Documents(harness.jetstream)
    key = document_id("a.txt")
    for removed in (5, 4):
        await documents.delete("table", key, removed, owner=OWNER)
        late = record(4)
        assert await documents.put("table", late, owner=OWNER) is late
        assert await documents.get("table", key, owner=OWNER) is None
    assert await documents.put("table", record(5), owner=OWNER) is None
    assert await documents.delete("table", key, 6, owner=OWNER) is not None
    late = record(5)
    assert await documents.put("table", late, owner=OWNER) is late
    assert await documents.list("table", owner=OWNER) == []
    assert await documents.put("table", record(7), owner=OWNER) is None


async def test_a_removal_that_comes_while_an_older_record_is_written_stays(
    harness: StageHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, other = Documents(harness.jetstream), Documents(harness.jetstream)
    key = document_id("a.txt")
    bucket = await documents._records._open()
    get = bucket.get

    async def overtaken(*args: Any) -> Any:
        monkeypatch.undo()
        try:
            return await get(*args)
        finally:
            await other.delete("table", key, 5, owner=OWNER)

    monkeypatch.setattr(bucket, "get", overtaken)
    late = record(4)
    assert await documents.put("table", late, owner=OWNER) is late
    assert await documents.list("table", owner=OWNER) == []


async def test_a_later_version_that_comes_while_an_older_one_is_removed_stays(
    harness: StageHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, other = Documents(harness.jetstream), Documents(harness.jetstream)
    key = document_id("a.txt")
    await documents.put("table", record(1), owner=OWNER)
    bucket = await documents._records._open()
    get = bucket.get

    async def overtaken(*args: Any) -> Any:
        entry = await get(*args)
        monkeypatch.undo()
        await other.put("table", record(2), owner=OWNER)
        return entry

    monkeypatch.setattr(bucket, "get", overtaken)
    await documents.delete("table", key, 1, owner=OWNER)
    kept = await documents.get("table", key, owner=OWNER)
    assert kept is not None
    assert kept.revision == 2


async def test_an_id_that_can_be_no_key_is_no_document(harness: StageHarness) -> None:
    for odd in ("", "a b", "*", "a..b"):
        assert await Documents(harness.jetstream).get("table", odd, owner=OWNER) is None


async def test_a_snapshot_of_an_empty_bucket_is_empty(harness: StageHarness) -> None:
    assert await Documents(harness.jetstream).list("table", owner=OWNER) == []


async def test_a_snapshot_where_all_was_deleted_is_empty(harness: StageHarness) -> None:
    documents = Documents(harness.jetstream)
    for number in range(5):
        await documents.put("table", record(number, f"{number}.txt"), owner=OWNER)
    await documents.forget("table", owner=OWNER)
    assert await documents.list("table", owner=OWNER) == []


async def test_a_snapshot_holds_all_of_five_thousand_entries_and_none_of_another_table(harness: StageHarness) -> None:
    bucket = await harness.jetstream.key_value("documents")
    for first in range(0, 5000, 500):
        await asyncio.gather(*(bucket.put(f"table.{first + n}", b"x" * 200) for n in range(500)))
    await bucket.put("other.1", b"")
    await bucket.delete("table.4999")
    found = {key: value async for key, value in snapshot(bucket, "table.>")}
    assert found == {f"table.{n}": b"x" * 200 for n in range(4999)}


async def test_snapshots_leave_nothing_at_the_broker_for_long(harness: StageHarness) -> None:
    documents = Documents(harness.jetstream)
    await documents.put("table", record(1), owner=OWNER)
    for _ in range(20):
        await documents.list("table", owner=OWNER)
    info = await harness.jetstream.consumers_info("KV_documents")
    assert {consumer.config.inactive_threshold for consumer in info} <= {5.0}

    async def gone() -> bool:
        return not await harness.jetstream.consumers_info("KV_documents")

    await until(gone, "the end of all reading positions")


async def test_a_collection_is_made_once_and_two_settings_are_a_conflict(harness: StageHarness) -> None:
    everyone = [Collections(harness.jetstream) for _ in range(8)]
    made = await asyncio.gather(*(each.create("t", "docs", description="d") for each in everyone))
    assert sum(created for _, created in made) == 1
    assert len({collection.table for collection, _ in made}) == 1
    with pytest.raises(Problem) as caught:
        await everyone[0].create("t", "docs", description="other")
    assert caught.value.kind is ProblemType.CONFLICT


async def test_a_collection_that_was_deleted_and_made_again_has_another_table(harness: StageHarness) -> None:
    collections = Collections(harness.jetstream)
    first, _ = await collections.create("t", "docs")
    assert (await collections.delete("t", "docs")).table == first.table
    with pytest.raises(Problem) as caught:
        await collections.get("t", "docs")
    assert caught.value.kind is ProblemType.COLLECTION_NOT_FOUND
    second, created = await collections.create("t", "docs")
    assert created
    assert second.table != first.table
    assert [each.table for each in await collections.list("t")] == [second.table]
    assert await collections.list("another") == []


@pytest.mark.parametrize("name", ["", "Docs", "-a", "a.b", "a b", "a" * 49, "ü"])
async def test_a_collection_name_that_can_be_no_key_is_refused(harness: StageHarness, name: str) -> None:
    with pytest.raises(Problem) as caught:
        await Collections(harness.jetstream).create("t", name)
    assert caught.value.kind is ProblemType.INVALID_NAME


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a\x00b",
        "a\nb",
        "a\u2028b",
        "a\udce9b",
        "a\ufffeb",
        "C:\\..\\x",
        "ü" * 257,
    ],
)
def test_a_document_name_that_tries_to_be_a_path_out_of_its_folder_is_refused(name: str) -> None:
    with pytest.raises(Problem) as caught:
        check_document_name(name)
    assert caught.value.kind is ProblemType.INVALID_NAME


@pytest.mark.parametrize(
    "name",
    [
        "報告\u3000一.txt",
        "le\u00a0plan.txt",
        "\u06cc\u200c\u062f.txt",
        "\U0001f469\u200d\U0001f52c.txt",
        "a\u00adb",
        " a ",
        "-a",
        "a;b&c",
    ],
)
def test_a_name_that_a_file_system_allows_is_a_name(name: str) -> None:
    assert check_document_name(name) == name
    assert spell_name(name) == name


def test_a_document_name_has_one_form() -> None:
    assert check_document_name("a\\b.txt") == "a/b.txt"
    assert document_id("a/b.txt") == document_id("a/b.txt") != document_id("a/B.txt")
