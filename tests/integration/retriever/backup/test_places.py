"""One suite for every place that backups are kept in: a folder, and a bucket that is served over real HTTP."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.retriever.backup import buckets
from services.retriever.backup.buckets import open_place
from services.retriever.backup.errors import BackupError
from services.retriever.backup.places import BackupPlace
from tests.harness.fake_s3 import FakeS3, serving_s3

pytestmark = pytest.mark.anyio


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    with serving_s3() as fake:
        fake.buckets["backups"] = {}
        given = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "eu-central-1"}
        for name, value in (given | {"ENDPOINT": fake.url, "ALLOW_HTTP": "true"}).items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield fake


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: FakeS3) -> BackupPlace:
    return open_place(str(tmp_path / "backups") if request.param == "folder" else "s3://backups/prod")


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def read(place: BackupPlace, path: str) -> bytes:
    return b"".join([piece async for piece in place.read(path)])


async def test_what_is_written_is_read_listed_and_removed(place: BackupPlace) -> None:
    large = [os.urandom(2**20) for _ in range(3)]
    written = await place.write("a/streams/JOBS", pieces(*large))
    assert (written.path, written.size) == ("a/streams/JOBS", 3 * 2**20)
    await place.write("a/manifest.json", pieces(b"{}"))
    await place.write("b/manifest.json", pieces(b""))
    assert await place.paths() == ["a/manifest.json", "a/streams/JOBS", "b/manifest.json"]
    assert await read(place, "a/streams/JOBS") == b"".join(large)
    assert await read(place, "b/manifest.json") == b""
    await place.remove(["a/streams/JOBS", "a/manifest.json", "a/gone"])
    assert await place.paths() == ["b/manifest.json"]
    with pytest.raises(FileNotFoundError):
        await read(place, "a/manifest.json")


async def test_a_file_of_several_parts_is_whole(place: BackupPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "PART", 5 * 2**20)
    data = [os.urandom(2**20) for _ in range(12)]
    await place.write("a/large", pieces(*data))
    assert await read(place, "a/large") == b"".join(data)


async def test_a_file_whose_source_breaks_off_is_not_there(place: BackupPlace) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"first"
        raise BackupError("the broker broke off")

    with pytest.raises(BackupError, match="broke off"):
        await place.write("a/streams/JOBS", broken())
    assert "a/streams/JOBS" not in await place.paths()


async def test_a_place_that_fails_says_why(s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "broken", True)
    monkeypatch.setattr(buckets, "RETRIES", {"max_retries": 0})
    with pytest.raises(BackupError, match="cannot list s3://backups"):
        await open_place("s3://backups").paths()
    with pytest.raises(BackupError, match="cannot be used"):
        open_place("nonsense://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(BackupError, match="is not a folder"):
        open_place(str(tmp_path / "file"))
    with pytest.raises(BackupError, match="cannot write"):
        await open_place(str(tmp_path / "file" / "below")).write("a", pieces(b""))
