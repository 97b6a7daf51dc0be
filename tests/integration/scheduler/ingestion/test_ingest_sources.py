"""Ingesting from a source: what differs is read, the rest is not, and what is gone is removed if asked."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.documents import document_id
from shared.contracts.jobs import FolderSource, IngestSpec, Job, JobState, S3Source
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import OWNER, CollectionHarness, open_collection_harness
from tests.harness.fake_s3 import serving_s3

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "root" / "docs"
    folder.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (folder / f"{name}.txt").write_text(f"The document {name}.")
    return folder


@pytest.fixture
async def collection_harness(broker: NatsServer, tmp_path: Path, folder: Path) -> AsyncIterator[CollectionHarness]:
    async with open_collection_harness(broker.url, tmp_path, source_roots=str(folder.parent)) as collection_harness:
        await collection_harness.collections.create("default", "docs")
        yield collection_harness


async def ingest(collection_harness: CollectionHarness, folder: Path, **options: object) -> Job:
    source = FolderSource(path=str(folder))
    return await collection_harness.do(IngestSpec.model_validate({"collection": "docs", "source": source, **options}))


def counts(job: Job) -> tuple[int, int, int, int]:
    assert job.state is JobState.SUCCEEDED, job.error
    return job.progress.indexed, job.progress.skipped, job.progress.deleted, job.progress.failed


async def names(collection_harness: CollectionHarness) -> list[str]:
    return await collection_harness.names((await collection_harness.collection()).table)


async def test_a_folder_is_ingested_and_only_what_changed_is_ingested_again(
    collection_harness: CollectionHarness, folder: Path
) -> None:
    assert counts(await ingest(collection_harness, folder)) == (3, 0, 0, 0)
    assert await names(collection_harness) == ["docs/a.txt", "docs/b.txt", "docs/c.txt"]
    (folder / "b.txt").write_text("Another document b.")
    assert counts(await ingest(collection_harness, folder)) == (1, 2, 0, 0)
    assert "Another document b." in await collection_harness.texts((await collection_harness.collection()).table)


async def test_what_is_not_read_of_a_document_is_in_its_record_and_in_the_job(
    collection_harness: CollectionHarness, folder: Path
) -> None:
    (folder / "cut.jsonl").write_text('{"lamp": 1}\n{"la')
    job = await ingest(collection_harness, folder)
    assert counts(job) == (4, 0, 0, 0)
    assert job.progress.warned == 1
    told = [(warning.document, warning.kind, warning.detail) for warning in job.warnings]
    assert told == [("docs/cut.jsonl", "cut-off", "Line 2, the last one, is cut off and not read.")]
    table = (await collection_harness.collection()).table
    record = await collection_harness.documents.get(table, document_id("docs/cut.jsonl"), owner=OWNER)
    assert record is not None
    assert [warning.kind for warning in record.warnings] == ["cut-off"]
    again = await ingest(collection_harness, folder)
    assert (again.progress.warned, again.warnings) == (0, ())


async def test_a_field_called_page_keeps_no_document_out(collection_harness: CollectionHarness, folder: Path) -> None:
    assert counts(await ingest(collection_harness, folder, metadata={"title": 7})) == (3, 0, 0, 0)
    (folder / "d.md").write_text("# Lamps\n\nThe lamp is blue.")
    source = FolderSource(path=str(folder), pattern="d.md")
    job = await collection_harness.do(IngestSpec(collection="docs", source=source))
    assert counts(job) == (1, 0, 0, 0)
    assert [warning.detail for warning in job.warnings] == [
        "Its title is not in the metadata: the field holds a number in this collection."
    ]


async def test_a_file_with_the_same_stamp_is_not_even_read(collection_harness: CollectionHarness, folder: Path) -> None:
    await ingest(collection_harness, folder)
    status = (folder / "a.txt").stat()
    (folder / "a.txt").write_text("The document A.")
    os.utime(folder / "a.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert counts(await ingest(collection_harness, folder)) == (0, 3, 0, 0)


async def test_a_file_that_was_only_touched_is_skipped_and_known_by_its_new_stamp(
    collection_harness: CollectionHarness, folder: Path
) -> None:
    await ingest(collection_harness, folder)
    table = (await collection_harness.collection()).table
    before = await collection_harness.documents.get(table, document_id("docs/a.txt"), owner=OWNER)
    os.utime(folder / "a.txt", ns=(1, 1))
    assert counts(await ingest(collection_harness, folder)) == (0, 3, 0, 0)
    after = await collection_harness.documents.get(table, document_id("docs/a.txt"), owner=OWNER)
    assert before is not None
    assert after is not None
    assert (before.stamp != after.stamp, before.revision) == (True, after.revision)


async def test_other_metadata_is_a_change(collection_harness: CollectionHarness, folder: Path) -> None:
    await ingest(collection_harness, folder)
    assert counts(await ingest(collection_harness, folder, metadata={"team": "harbour"})) == (3, 0, 0, 0)


async def test_prune_removes_what_the_source_no_longer_has_and_nothing_else(
    collection_harness: CollectionHarness, folder: Path
) -> None:
    await collection_harness.do(await collection_harness.upload("docs", {"docs/uploaded.txt": "Uploaded by hand."}))
    await ingest(collection_harness, folder)
    (folder / "c.txt").unlink()
    assert counts(await ingest(collection_harness, folder)) == (0, 2, 0, 0)
    assert "docs/c.txt" in await names(collection_harness)
    assert counts(await ingest(collection_harness, folder, prune=True)) == (0, 2, 1, 0)
    assert await names(collection_harness) == ["docs/a.txt", "docs/b.txt", "docs/uploaded.txt"]


async def test_an_empty_source_prunes_nothing(collection_harness: CollectionHarness, folder: Path) -> None:
    await ingest(collection_harness, folder)
    for name in ("a", "b", "c"):
        (folder / f"{name}.txt").unlink()
    job = await ingest(collection_harness, folder, prune=True)
    assert job.error is not None
    assert (job.state, job.error.type.rpartition(":")[2]) == (JobState.FAILED, "source-refused")
    assert len(await names(collection_harness)) == 3


async def test_a_bad_file_fails_alone(collection_harness: CollectionHarness, folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    job = await ingest(collection_harness, folder)
    assert counts(job) == (3, 0, 0, 1)
    assert [error.document for error in job.errors] == ["docs/bad.png"]


async def test_a_bucket_is_ingested_and_only_what_changed_is_read_again(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "test")
    with serving_s3() as s3:
        s3.buckets["team"] = {f"handbook/{name}.txt": f"The document {name}.".encode() for name in "abc"}
        settings = {"source_roots": "s3://team", "source_endpoints": s3.url}
        spec = IngestSpec(
            collection="docs", source=S3Source(bucket="team", prefix="handbook", endpoint=s3.url), prune=True
        )
        async with open_collection_harness(broker.url, tmp_path, **settings) as collection_harness:
            await collection_harness.collections.create("default", "docs")
            assert counts(await collection_harness.do(spec)) == (3, 0, 0, 0)
            s3.loads.clear()
            s3.buckets["team"]["handbook/b.txt"] = b"Another document b."
            del s3.buckets["team"]["handbook/c.txt"]
            assert counts(await collection_harness.do(spec)) == (1, 1, 1, 0)
            assert s3.loads == ["handbook/b.txt"]
            assert await names(collection_harness) == ["team/handbook/a.txt", "team/handbook/b.txt"]
