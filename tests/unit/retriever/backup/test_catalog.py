"""Which backups of a place are whole, which are damaged, and which are removed."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.retriever.backup.catalog import Catalog, backup_name
from services.retriever.backup.errors import BackupError
from services.retriever.backup.manifest import FORMAT, BackedUpStream, Manifest
from services.retriever.backup.places import FolderPlace

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def make(catalog: Catalog, at: datetime, *, whole: bool = True) -> Manifest:
    name = backup_name(at)
    file = await catalog.write(name, "streams/JOBS", pieces(b"first", b"second"))
    manifest = Manifest(
        name=name,
        product="1",
        broker="2.15.1",
        created_at=0,
        finished_at=1,
        paused_seconds=0.1,
        streams=(BackedUpStream(name="JOBS", config={"name": "JOBS"}, messages=2, last_sequence=7, file=file),),
    )
    if whole:
        await catalog.finish(manifest)
    return manifest


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(FolderPlace(tmp_path / "backups"))


def say(_: str) -> None:
    pass


async def test_the_newest_whole_one_is_opened_and_it_says_what_it_holds(catalog: Catalog) -> None:
    old = await make(catalog, NOW - timedelta(hours=2))
    new = await make(catalog, NOW - timedelta(hours=1))
    await make(catalog, NOW, whole=False)
    assert await catalog.open() == new
    assert await catalog.open(old.name) == old
    await catalog.verify(new, say)
    assert new.size == len(b"firstsecond")


async def test_one_without_a_manifest_is_never_whole(catalog: Catalog) -> None:
    await make(catalog, NOW, whole=False)
    assert await catalog.whole() == []
    assert await catalog.interrupted() == [backup_name(NOW)]
    with pytest.raises(BackupError, match=rf"no whole backup.*{backup_name(NOW)} was interrupted"):
        await catalog.open()


async def test_an_empty_place_has_none(catalog: Catalog) -> None:
    with pytest.raises(BackupError, match="there is no whole backup"):
        await catalog.open()


@pytest.mark.parametrize(("data", "reason"), [(b"firstsecon", "10 bytes"), (b"firstsecone", "checksum")])
async def test_a_file_with_other_bytes_is_damaged(catalog: Catalog, tmp_path: Path, data: bytes, reason: str) -> None:
    manifest = await make(catalog, NOW)
    (tmp_path / "backups" / manifest.name / "streams" / "JOBS").write_bytes(data)
    with pytest.raises(BackupError, match=rf"damaged.*{reason}"):
        await catalog.verify(manifest, say)


async def test_a_file_that_is_missing_is_damage(catalog: Catalog, tmp_path: Path) -> None:
    manifest = await make(catalog, NOW)
    (tmp_path / "backups" / manifest.name / "streams" / "JOBS").unlink()
    with pytest.raises(BackupError, match=r"damaged.*missing"):
        await catalog.verify(manifest, say)


async def test_a_manifest_with_a_flipped_bit_or_of_a_later_format_is_refused(catalog: Catalog) -> None:
    data = (await make(catalog, NOW)).encode()
    middle = data.index(b'"last_sequence": 7') + len(b'"last_sequence": ')
    with pytest.raises(BackupError, match="its checksum"):
        Manifest.decode(data[:middle] + b"6" + data[middle + 1 :], "it")
    with pytest.raises(BackupError, match="cannot be read"):
        Manifest.decode(data[: len(data) // 2], "it")
    later = data.replace(b'"format": %d' % FORMAT, b'"format": %d' % (FORMAT + 1))
    with pytest.raises(BackupError, match="later release"):
        Manifest.decode(later, "it")


async def test_old_ones_are_removed_and_a_young_interrupted_one_stays(catalog: Catalog) -> None:
    names = [(await make(catalog, NOW - timedelta(days=day))).name for day in (1, 2, 3, 4)]
    abandoned = await make(catalog, NOW - timedelta(days=5), whole=False)
    running = await make(catalog, NOW, whole=False)
    assert set(await catalog.prune(2)) == {*names[2:], abandoned.name}
    assert await catalog.whole() == names[:2]
    assert await catalog.interrupted() == [running.name]


async def test_only_the_owner_can_read_what_is_written(catalog: Catalog, tmp_path: Path) -> None:
    await make(catalog, NOW)
    files = [path for path in (tmp_path / "backups").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
