"""What the LanceDB store promises beyond the protocol: its indices, its commits, its clean-up."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pytest
from lancedb.table import AsyncTable

from services.retriever.ranking.ranker import RankOptions
from services.retriever.stores.base import Chunk, IndexedDocument, Permissions, Place, Vector
from services.retriever.stores.lance.compaction import MAX_SEGMENTS
from services.retriever.stores.lance.replace import Stored, read_stored, replace_documents
from services.retriever.stores.lance.rows import SECTION, base_schema, rows_of
from services.retriever.stores.lance.store import LanceStore
from shared.contracts.filters import parse
from shared.contracts.retrieval import SearchMode

BY_VECTOR = RankOptions(mode=SearchMode.VECTOR)
BY_WORDS = RankOptions(mode=SearchMode.TEXT)

pytestmark = pytest.mark.anyio

THRESHOLD = 300


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LanceStore]:
    store = await LanceStore.open(str(tmp_path), index_from_rows=THRESHOLD)
    yield store
    await store.close()


async def table_of(path: Path) -> AsyncTable:
    return await (await lancedb.connect_async(path)).open_table("c")


async def index_types(path: Path) -> dict[str, str]:
    return {index.columns[0]: index.index_type for index in await (await table_of(path)).list_indices()}


def files_in(path: Path) -> list[Path]:
    return sorted(path.rglob("*"))


def document(name: str, vectors: Sequence[Vector], *, revision: int = 1) -> IndexedDocument:
    chunks = [Chunk(position=i, text=f"{name} word{i}", vector=v, metadata={"n": i}) for i, v in enumerate(vectors)]
    return IndexedDocument(id=name, name=name, version="v", revision=revision, chunks=chunks)


def vectors(count: int, dimension: int) -> Vector:
    return np.random.default_rng(7).standard_normal((count, dimension)).astype(np.float32)


def nearest(matrix: Vector, query: Vector, count: int) -> list[int]:
    similarity = matrix @ query / np.linalg.norm(matrix, axis=1)
    return [int(i) for i in np.argsort(-similarity)[:count]]


async def test_caches_are_begun_anew_while_documents_come_and_are_searched_for(tmp_path: Path) -> None:
    store = await LanceStore.open(str(tmp_path), index_from_rows=THRESHOLD, cached_commits=3)
    matrix = vectors(24, 16)
    connections = {id(store._tables._connection)}

    async def come(number: int) -> None:
        await store.replace("c", [document(f"d{number}", matrix[number : number + 1])])
        connections.add(id(store._tables._connection))
        (hit,) = await store.search("c", "", matrix[number], top_k=1, options=BY_VECTOR)
        assert hit.document_id == f"d{number}"
        if number % 8 == 7:
            await store.maintain("c")

    await asyncio.gather(*(come(number) for number in range(len(matrix))))
    assert await store.count("c") == len(matrix)
    assert len(connections) > 1
    await store.close()


async def test_what_finds_no_table_writes_nothing(store: LanceStore, tmp_path: Path) -> None:
    before = files_in(tmp_path)
    assert (await store.replace("c", [document("a", [], revision=5)])).absent
    await store.permit("c", [Permissions(document_id="a", allowed=["user:alice"], revision=1)])
    await store.maintain("c")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(("dimension", "kind"), [(128, "IvfRq"), (12, "IvfFlat")])
async def test_the_vector_index_comes_with_the_threshold_and_finds_the_nearest(
    store: LanceStore, tmp_path: Path, dimension: int, kind: str
) -> None:
    matrix = vectors(THRESHOLD, dimension)
    await store.replace("c", [document("a", matrix[:-1])])
    await store.maintain("c")
    assert set(await index_types(tmp_path)) == {"id", "document_id", "terms"}
    await store.replace("c", [document("b", matrix[-1:])])
    await store.maintain("c")
    assert (await index_types(tmp_path))["vector"] == kind
    agreed = 0
    for i in range(0, THRESHOLD, 10):
        hits = await store.search("c", "", matrix[i], top_k=5, options=BY_VECTOR)
        found = [hit.position if hit.document == "a" else THRESHOLD - 1 for hit in hits]
        assert found[0] == i
        agreed += len(set(found) & set(nearest(matrix, matrix[i], 5)))
    assert agreed >= 0.9 * 5 * THRESHOLD / 10


async def test_a_narrow_filter_finds_its_chunks_through_the_vector_index(store: LanceStore) -> None:
    matrix = vectors(2 * THRESHOLD, 32)
    await store.replace("c", [document("a", matrix)])
    await store.maintain("c")
    hits = await store.search("c", "", matrix[0], top_k=10, filter=parse({"n": {"$gte": 595}}), options=BY_VECTOR)
    assert {hit.position for hit in hits} == {595, 596, 597, 598, 599}


async def test_deleted_chunks_are_not_found_through_the_indices(store: LanceStore) -> None:
    matrix = vectors(2 * THRESHOLD, 32)
    await store.replace("c", [document("a", matrix), document("b", matrix[:1])])
    await store.maintain("c")
    await store.replace("c", [document("a", revision=2, vectors=[])])
    for _ in range(2):
        for mode in SearchMode:
            hits = await store.search("c", "word0", matrix[0], top_k=10, options=RankOptions(mode=mode))
            assert [hit.document for hit in hits] == ["b"]
        await store.maintain("c")


async def test_rows_that_no_index_covers_yet_are_found(store: LanceStore) -> None:
    matrix = vectors(2 * THRESHOLD, 32)
    await store.replace("c", [document("a", matrix)])
    await store.maintain("c")
    fresh = np.eye(32, dtype=np.float32)[:1]
    await store.replace("c", [document("fresh", fresh)])
    assert (await store.search("c", "", fresh[0], top_k=1, options=BY_VECTOR))[0].document == "fresh"
    assert (await store.search("c", "fresh", None, top_k=1, options=BY_WORDS))[0].document == "fresh"


async def test_the_vector_index_is_built_anew_when_it_has_many_segments(store: LanceStore, tmp_path: Path) -> None:
    matrix = vectors(THRESHOLD, 32)
    await store.replace("c", [document("a", matrix)])
    for i in range(MAX_SEGMENTS + 4):
        await store.maintain("c")
        await store.replace("c", [document(f"d{i}", matrix[:20])])
    await store.maintain("c")
    (index,) = [i for i in await (await table_of(tmp_path)).list_indices() if i.columns == ["vector"]]
    assert index.num_segments <= MAX_SEGMENTS
    assert index.num_unindexed_rows == 0


async def test_a_replacement_of_many_documents_is_one_version_of_the_table(store: LanceStore, tmp_path: Path) -> None:
    matrix = vectors(5, 8)
    await store.replace("c", [document(f"d{i}", matrix) for i in range(20)])
    before = await (await table_of(tmp_path)).version()
    await store.replace("c", [document(f"d{i}", matrix[: i % 5], revision=2) for i in range(30)])
    assert await (await table_of(tmp_path)).version() == before + 1
    await store.replace("c", [document(f"d{i}", matrix) for i in range(1, 5)])
    assert await (await table_of(tmp_path)).version() == before + 1, "what is superseded writes nothing"


async def test_tombstones_go_once_they_are_old_enough(store: LanceStore, tmp_path: Path) -> None:
    await store.replace("c", [document("a", vectors(5, 8)), document("b", vectors(1, 8))])
    await store.replace("c", [document("a", [], revision=2)])
    await store.maintain("c")
    assert await (await table_of(tmp_path)).count_rows() == 6
    later = await LanceStore.open(str(tmp_path), keep_tombstones=timedelta(seconds=-1))
    await later.maintain("c")
    await later.close()
    assert await (await table_of(tmp_path)).count_rows() == 1


async def test_old_versions_go_once_no_reader_can_need_them(tmp_path: Path) -> None:
    store = await LanceStore.open(str(tmp_path), keep_versions=timedelta(milliseconds=1))
    for revision in range(1, 10):
        await store.replace("c", [document("a", vectors(5, 8), revision=revision)])
    await store.maintain("c")
    assert len(await (await table_of(tmp_path)).list_versions()) <= 3
    assert await store.count("c") == 5
    await store.close()


async def test_what_a_lost_race_left_behind_is_buried_by_the_next_replacement(
    store: LanceStore, tmp_path: Path
) -> None:
    """Rows that only the smaller revision wrote pass the condition of the merge: so the table is until the repair."""
    matrix = vectors(5, 8)
    await store.replace("c", [document("a", matrix[:2], revision=2)])
    table = await table_of(tmp_path)
    left = document("a", matrix, revision=1)
    schema = await table.schema()
    await table.add(rows_of([IndexedDocument(**_without(left, {0, 1}))], {}, schema, now_ms=0))
    assert (await store.replace("c", [left])).superseded == {"a"}
    assert await store.count("c") == 2
    assert {hit.revision for hit in await store.search("c", "a", matrix[0], top_k=9)} == {2}


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2), (2, 1)])
async def test_a_key_that_two_processes_have_inserted_is_there_once_after_the_next_replacement(
    store: LanceStore, tmp_path: Path, first: int, second: int
) -> None:
    """As when one of them stood still with its work in hand, and the broker gave it to the other one."""
    matrix = vectors(2, 8)
    await store.replace("c", [document("a", matrix, revision=first)])
    table = await table_of(tmp_path)
    await table.add(rows_of([document("a", matrix, revision=second)], {}, await table.schema(), now_ms=0))
    assert await store.count("c", parse({"document": "a"})) == 4
    await store.replace("c", [document("a", matrix, revision=2)])
    assert await store.count("c", parse({"document": "a"})) == 2
    assert {hit.revision for hit in await store.search("c", "a", matrix[0], top_k=9)} == {2}


def _without(document: IndexedDocument, positions: set[int]) -> dict[str, object]:
    chunks = [chunk for chunk in document.chunks if chunk.position not in positions]
    names = ("id", "name", "version", "revision")
    return {name: getattr(document, name) for name in names} | {"chunks": chunks}


async def test_a_foreign_commit_between_reading_and_writing_is_noticed(store: LanceStore, tmp_path: Path) -> None:
    matrix = vectors(5, 8)
    await store.replace("c", [document("seed", matrix)])
    other = await LanceStore.open(str(tmp_path))

    async def read_then_lose_the_race(table: AsyncTable, ids: Sequence[str]) -> dict[str, Stored]:
        stored = await read_stored(table, ids)
        await other.replace("c", [document("a", matrix[:2], revision=2)])
        return stored

    documents = [document("a", matrix, revision=1), document("b", matrix[:1])]
    done = await replace_documents(await table_of(tmp_path), documents, read=read_then_lose_the_race)
    assert (done.replaced, done.superseded) == ({"b"}, {"a"})
    assert await store.count("c", parse({"document": "a"})) == 2
    await other.close()


async def test_a_table_that_was_created_without_its_indices_gets_them(store: LanceStore, tmp_path: Path) -> None:
    connection = await lancedb.connect_async(tmp_path)
    await connection.create_table("c", schema=base_schema(8))
    assert await store.search("c", "word0", vectors(1, 8)[0], top_k=1) == []
    await store.replace("c", [document("a", vectors(2, 8))])
    assert set(await index_types(tmp_path)) == {"id", "document_id", "terms"}


async def test_a_table_without_sections_is_read_and_gets_them_with_the_next_document(
    store: LanceStore, tmp_path: Path
) -> None:
    matrix = vectors(2, 8)
    await store.replace("c", [document("old", matrix)])
    await (await table_of(tmp_path)).drop_columns([SECTION])
    await store.close()
    other = await LanceStore.open(str(tmp_path))
    place = Place("old", 1)
    assert (await other.read("c", [place]))[place].section is None
    (hit,) = await other.search("c", "", matrix[1], top_k=1, options=BY_VECTOR)
    assert (hit.position, hit.section) == (1, None)

    chunk = Chunk(position=0, text="x", vector=matrix[0], metadata={"section": "a"}, section=7)
    await other.replace("c", [IndexedDocument(id="new", name="new", version="v", revision=1, chunks=[chunk])])
    found = await other.read("c", [place, Place("new", 0)])
    assert [found[place].section, found[Place("new", 0)].section] == [None, 7]
    await other.close()
