"""Folders and buckets that jobs ingest from: what is listed, what is read, and what is refused."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.scheduler.ingestion.reader.reader import MAX_DOCUMENT_BYTES
from services.scheduler.ingestion.sources import Source, open_source
from services.scheduler.settings import SchedulerSettings
from shared.contracts.jobs import FolderSource, S3Source
from shared.contracts.problems import Problem, ProblemType
from tests.harness.fake_s3 import FakeS3, serving_s3

pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("docs/a.md", "docs/guide/b.txt", "docs/.hidden", "docs/.git/config", "other/c.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"text of {name}")
    return root


def folder(root: Path, path: Path | str, pattern: str = "**/*") -> Source:
    settings = SchedulerSettings(source_roots=str(root))
    return open_source(FolderSource(path=str(path), pattern=pattern), settings)


async def names(source: Source) -> list[str]:
    return [file.name for file in await source.list()]


async def test_a_folder_is_listed_by_names_as_the_command_line_gives_them_without_hidden_files(root: Path) -> None:
    source = folder(root, root / "docs")
    assert await names(source) == ["docs/a.md", "docs/guide/b.txt"]
    first = (await source.list())[0]
    assert await first.load() == b"text of docs/a.md"
    assert first.size == len(b"text of docs/a.md")


async def test_a_name_that_is_no_text_is_spelled_and_its_file_is_read(root: Path) -> None:
    (root / "docs" / os.fsdecode(b"caf\xe9.md")).write_text("roses")
    found = {file.name: file for file in await folder(root, root / "docs").list()}
    assert await found["docs/caf⟨E9⟩.md"].load() == b"roses"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["docs/a.md"]),
        ("**/*.txt", ["docs/guide/b.txt"]),
        ("guide/*", ["docs/guide/b.txt"]),
        ("**/guide/**/*", ["docs/guide/b.txt"]),
        ("*.pdf", []),
    ],
)
async def test_a_pattern_is_matched_by_whole_parts_of_the_path(root: Path, pattern: str, found: list[str]) -> None:
    assert await names(folder(root, root / "docs", pattern)) == found


async def test_a_stamp_changes_with_the_file(root: Path) -> None:
    source = folder(root, root / "docs")
    before = {file.name: file.stamp for file in await source.list()}
    (root / "docs/a.md").write_text("another text")
    after = {file.name: file.stamp for file in await source.list()}
    assert before["docs/a.md"] != after["docs/a.md"]
    assert before["docs/guide/b.txt"] == after["docs/guide/b.txt"]


@pytest.mark.parametrize("path", ["/etc", "docs", "{root}/../..", "{root}-not", "{root}/docs/../../.."])
async def test_a_folder_outside_of_the_roots_is_refused(root: Path, path: str) -> None:
    with pytest.raises(Problem) as refused:
        folder(root, path.format(root=root))
    assert refused.value.kind is ProblemType.SOURCE_REFUSED


async def test_without_roots_every_folder_is_refused(root: Path) -> None:
    with pytest.raises(Problem) as refused:
        open_source(FolderSource(path=str(root)), SchedulerSettings())
    assert refused.value.kind is ProblemType.SOURCE_REFUSED


async def test_links_out_of_the_folder_are_refused_or_left_out(root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (root / "way-out").symlink_to(tmp_path)
    with pytest.raises(Problem) as refused:
        folder(root, root / "way-out")
    assert refused.value.kind is ProblemType.SOURCE_REFUSED

    (root / "docs/leak.txt").symlink_to(secret)
    (root / "docs/other.md").symlink_to(root / "other/c.md")
    (root / "docs/gone.md").symlink_to(root / "docs/nowhere")
    (root / "docs/again.md").symlink_to(root / "docs/a.md")
    assert await names(folder(root, root / "docs")) == ["docs/a.md", "docs/again.md", "docs/guide/b.txt"]


async def test_a_file_that_became_a_link_after_it_was_listed_is_not_read(root: Path, tmp_path: Path) -> None:
    listed = (await folder(root, root / "docs").list())[0]
    (tmp_path / "secret.txt").write_text("secret")
    (root / "docs/a.md").unlink()
    (root / "docs/a.md").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(Problem) as refused:
        await listed.load()
    assert refused.value.kind is ProblemType.SOURCE_REFUSED


async def test_pipes_are_left_out_and_large_files_refused(root: Path) -> None:
    os.mkfifo(root / "docs/pipe.txt")
    with (root / "docs/large.txt").open("wb") as large:
        large.truncate(MAX_DOCUMENT_BYTES + 1)
    files = {file.name: file for file in await folder(root, root / "docs").list()}
    assert "docs/pipe.txt" not in files
    with pytest.raises(Problem) as refused:
        await files["docs/large.txt"].load()
    assert refused.value.kind is ProblemType.TOO_LARGE


async def test_a_folder_that_is_not_there_and_a_pattern_that_leaves_it_are_told(root: Path) -> None:
    for path, pattern, kind in (
        (root / "nowhere", "*", ProblemType.NOT_FOUND),
        (root / "docs", "../*", ProblemType.INVALID_REQUEST),
        (root / "docs", "/etc/*", ProblemType.INVALID_REQUEST),
        (root / "docs\0", "*", ProblemType.INVALID_REQUEST),
        (root / "docs", "a\0b", ProblemType.INVALID_REQUEST),
        (root / ("long" * 100), "*", ProblemType.NOT_FOUND),
    ):
        with pytest.raises(Problem) as told:
            folder(root, path, pattern)
        assert told.value.kind is kind


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    with serving_s3() as fake:
        fake.buckets["team"] = {
            "handbook/a.md": b"text of a",
            "handbook/b c.txt": b"text of b",
            "handbook/d/e.txt": b"text of e",
            "handbook/.hidden": b"hidden",
            "handbooks/f.txt": b"not below the prefix",
        }
        yield fake


def bucket(s3: FakeS3, prefix: str = "handbook", roots: str = "s3://team/handbook", name: str = "team") -> Source:
    settings = SchedulerSettings(source_roots=roots, source_endpoints=s3.url)
    return open_source(S3Source(bucket=name, prefix=prefix, endpoint=s3.url), settings)


async def test_a_bucket_is_listed_page_by_page_below_its_prefix(s3: FakeS3) -> None:
    source = bucket(s3)
    files = await source.list()
    assert [file.name for file in files] == ["team/handbook/a.md", "team/handbook/b c.txt", "team/handbook/d/e.txt"]
    assert await files[1].load() == b"text of b"
    assert s3.url in source.origin


async def test_the_stamp_of_an_object_is_its_etag(s3: FakeS3) -> None:
    before = {file.name: file.stamp for file in await bucket(s3).list()}
    s3.buckets["team"]["handbook/a.md"] = b"TEXT OF A"
    after = {file.name: file.stamp for file in await bucket(s3).list()}
    assert [name for name in before if before[name] != after[name]] == ["team/handbook/a.md"]


@pytest.mark.parametrize(
    ("prefix", "roots", "name"),
    [
        ("", "s3://team/handbook", "team"),
        ("handbooks", "s3://team/handbook", "team"),
        ("handbook/../secret", "s3://team/handbook", "team"),
        ("handbook", "s3://team", "other"),
        ("handbook", "/srv", "team"),
        ("handbook", "", "team"),
    ],
)
async def test_what_is_outside_of_the_roots_is_refused(s3: FakeS3, prefix: str, roots: str, name: str) -> None:
    with pytest.raises(Problem) as refused:
        bucket(s3, prefix, roots, name)
    assert refused.value.kind is ProblemType.SOURCE_REFUSED


@pytest.mark.parametrize("prefix", ["handbook//d", "handbook/./d", "handbook/a\0b", "handbook/a\nb", "handbook/\x7f"])
async def test_a_prefix_that_no_key_has_is_told(s3: FakeS3, prefix: str) -> None:
    with pytest.raises(Problem) as told:
        bucket(s3, prefix)
    assert told.value.kind is ProblemType.INVALID_REQUEST


async def test_an_endpoint_that_the_settings_do_not_name_is_refused(s3: FakeS3) -> None:
    with pytest.raises(Problem) as refused:
        open_source(S3Source(bucket="team", endpoint=s3.url), SchedulerSettings(source_roots="s3://team"))
    assert refused.value.kind is ProblemType.SOURCE_REFUSED


async def test_what_a_store_cannot_do_is_told_and_never_an_empty_listing(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Problem) as told:
        await bucket(s3, name="nowhere", roots="s3://nowhere").list()
    assert told.value.kind is ProblemType.NOT_FOUND
    listed = await bucket(s3).list()
    s3.broken = True
    with pytest.raises(Problem) as told:
        await listed[0].load()
    assert told.value.kind is ProblemType.SOURCE_UNAVAILABLE


async def test_credentials_that_the_store_refuses_are_told(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with pytest.raises(Problem) as told:
        await bucket(s3).list()
    assert told.value.kind is ProblemType.SOURCE_REFUSED
