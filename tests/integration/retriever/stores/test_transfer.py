"""A table of the index as Arrow files and back: nothing is lost, and what it holds is searched as before."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from services.retriever.stores.base import Chunk, IndexedDocument, Permissions
from services.retriever.stores.lance import transfer
from services.retriever.stores.lance.store import LanceStore
from services.retriever.stores.lance.tables import Tables
from services.retriever.stores.lance.transfer import PinnedTable, TableGoneError, import_table, pin_table, release_pins
from shared.contracts.collections import Owner
from shared.contracts.problems import Problem

pytestmark = pytest.mark.anyio

OWNER = Owner(tenant="acme", collection="c1")
NAME = "lamps-1"


def document(number: int, revision: int, chunks: int = 3) -> IndexedDocument:
    random = np.random.default_rng(number)
    return IndexedDocument(
        id=f"d{number}",
        name=f"{number}.txt",
        version=str(revision),
        revision=revision,
        chunks=[
            Chunk(
                position=position,
                text=f"lamp {number} has part {position} in state {revision}",
                vector=random.random(8, dtype=np.float32),
                metadata={"number": number, "topic": "lamp"},
                section=position,
            )
            for position in range(chunks)
        ],
    )


@pytest.fixture
async def store(tmp_path: Path, anyio_backend: str) -> AsyncIterator[LanceStore]:
    store = await LanceStore.open(str(tmp_path / "index"), keep_versions=timedelta(0), consistency=timedelta(0))
    await store.replace(NAME, [document(number, 1) for number in range(40)], owner=OWNER)
    await store.replace(
        NAME, [document(3, 2, chunks=1), IndexedDocument(id="d4", name="4.txt", version="", revision=2)]
    )
    await store.permit(NAME, [Permissions(document_id="d5", allowed=["group:hr"], revision=3)])
    yield store
    await store.close()


async def pinned(folder: Path, backup: str = "now") -> PinnedTable:
    tables = await Tables.open(str(folder / "index"), read_only=True)
    table = await pin_table(tables, NAME, backup)
    assert table is not None
    return table


async def files(table: PinnedTable) -> list[bytes]:
    return [b"".join([piece async for piece in pieces]) async for pieces in table.files()]


async def restored(folder: Path, data: list[bytes]) -> tuple[LanceStore, int]:
    async def again() -> AsyncIterator[AsyncIterator[bytes]]:
        for file in data:

            async def pieces(file: bytes = file) -> AsyncIterator[bytes]:
                yield file[:100]
                yield file[100:]

            yield pieces()

    tables = await Tables.open(str(folder / "other"))
    rows = await import_table(tables, NAME, again())
    tables.close()
    other = await LanceStore.open(str(folder / "other"))
    await other.maintain(NAME)
    return other, rows


@pytest.mark.parametrize("file_size", [1, transfer.FILE])
async def test_what_is_read_back_is_the_same_table(
    store: LanceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_size: int
) -> None:
    monkeypatch.setattr(transfer, "FILE", file_size)
    monkeypatch.setattr(transfer, "BATCH", 16)
    monkeypatch.setattr(transfer, "COMMIT", 4_000)
    table = await pinned(tmp_path)
    data = await files(table)
    assert (len(data) > 3) is (file_size == 1)
    other, rows = await restored(tmp_path, data)
    assert rows == await table.rows()
    assert await other.documents(NAME, owner=OWNER) == await store.documents(NAME, owner=OWNER)
    vector = np.random.default_rng(7).random(8, dtype=np.float32)
    for readers in (None, frozenset({"group:hr"}), frozenset({"group:it"})):
        before = await store.search(NAME, "lamp 7 part", vector, top_k=10, readers=readers)
        after = await other.search(NAME, "lamp 7 part", vector, top_k=10, readers=readers)
        assert [hit.id for hit in after] == [hit.id for hit in before]
        assert [(hit.text, hit.metadata, hit.section) for hit in after] == [
            (hit.text, hit.metadata, hit.section) for hit in before
        ]
    with pytest.raises(Problem):
        await other.documents(NAME, owner=Owner(tenant="globex", collection="c2"))
    # A deletion still outranks an older revision that arrives late.
    late = await other.replace(NAME, [document(4, 1)], owner=OWNER)
    assert late.superseded == {"d4"}
    await other.close()


async def test_a_pinned_version_outlives_changes_and_upkeep_and_is_what_was_pinned(
    store: LanceStore, tmp_path: Path
) -> None:
    table = await pinned(tmp_path)
    before = await store.documents(NAME)
    for revision in range(5, 9):
        await store.replace(NAME, [document(number, revision) for number in range(40)])
        await store.maintain(NAME)
    other, _ = await restored(tmp_path, await files(table))
    assert await other.documents(NAME) == before
    await other.close()
    await table.release()
    await store.replace(NAME, [document(1, 20)])
    await store.maintain(NAME)
    with pytest.raises(TableGoneError):
        await files(await _at(tmp_path, table.version))


async def _at(folder: Path, version: int) -> PinnedTable:
    tables = await Tables.open(str(folder / "index"), read_only=True)
    table = await tables.open_anew(NAME)
    assert table is not None
    try:
        await table.checkout(version)
    except (RuntimeError, ValueError, OSError) as error:
        raise TableGoneError(str(error)) from error
    return PinnedTable(name=NAME, version=version, tag="", table=table)


async def test_a_table_that_is_dropped_meanwhile_is_said(store: LanceStore, tmp_path: Path) -> None:
    table = await pinned(tmp_path)
    await store.drop(NAME)
    with pytest.raises(TableGoneError):
        await files(table)
    await table.release()


async def test_pins_of_backups_that_did_not_end_are_removed_and_others_stay(store: LanceStore, tmp_path: Path) -> None:
    await pinned(tmp_path, "20260101T000000Z")
    young = await pinned(tmp_path, "20260103T000000Z")
    tables = await Tables.open(str(tmp_path / "index"), read_only=True)
    await release_pins(tables, [NAME], "20260102T000000Z")
    assert set(await young.table.tags.list()) == {"backup-20260103T000000Z"}
