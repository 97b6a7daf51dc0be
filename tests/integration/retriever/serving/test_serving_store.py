"""What answers from memory promises beyond the protocol: its bound, its cache, its way back to the disk."""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from services.retriever.ranking.ranker import RankOptions
from services.retriever.serving import index, merging
from services.retriever.serving.store import ServingStore
from services.retriever.stores.base import Chunk, IndexedDocument
from services.retriever.stores.lance.store import LanceStore
from shared.contracts.filters import parse
from shared.contracts.retrieval import SearchMode

pytestmark = pytest.mark.anyio

BY_VECTOR = RankOptions(mode=SearchMode.VECTOR)
DIMENSION = 40

Opener = Callable[..., Awaitable[ServingStore]]


@pytest.fixture
async def open_store(tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens stores with a cache on one storage, and closes those that are open at the end."""
    stores: list[ServingStore] = []

    async def opener(*, memory: int = 64) -> ServingStore:
        disk = await LanceStore.open(str(tmp_path / "index"))
        stores.append(ServingStore(disk, memory=memory, patience=60, cache=tmp_path / "cache"))
        return stores[-1]

    yield opener
    for store in stores:
        await store.close()


@pytest.fixture(autouse=True)
def _small_collections_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "CACHED_PASSAGES", 1)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that collections were loaded from."""
    sources: list[str] = []

    class Counted:
        def labels(self, source: str) -> "Counted":
            sources.append(source)
            return self

        def inc(self) -> None: ...

    monkeypatch.setattr(index, "LOADS", Counted())
    return sources


def vectors(count: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)


def document(name: str, rows: np.ndarray, *, revision: int = 1) -> IndexedDocument:
    chunks = [
        Chunk(position=i, text=f"{name} word{i} r{revision}", vector=row, metadata={"n": i})
        for i, row in enumerate(rows)
    ]
    return IndexedDocument(id=name, name=name, version="v", revision=revision, chunks=chunks)


async def found(store: ServingStore, asked: np.ndarray, top_k: int = 5) -> list[tuple[str, str]]:
    hits = await store.search("c", "word1", asked, top_k=top_k)
    return [(hit.id, hit.text) for hit in hits]


async def reopened(store: ServingStore, open_store: Opener) -> ServingStore:
    await store.close()
    return await open_store()


async def test_a_start_maps_the_cache_and_reads_only_what_was_committed_since(
    open_store: Opener, loads: list[str]
) -> None:
    rows = vectors(300)
    store = await open_store()
    await store.replace("c", [document("a", rows[:200]), document("b", rows[200:])])
    await found(store, rows[0])
    store = await reopened(store, open_store)
    writer = await LanceStore.open(store._disk._tables._connection.uri)
    await writer.replace("c", [document("b", [], revision=2), document("d", rows[:1], revision=2)])
    await writer.maintain("c")
    await writer.close()
    texts = [text for _, text in await found(store, rows[0], top_k=300)]
    assert "d word0 r2" in texts
    assert not any(text.startswith("b ") for text in texts)
    assert loads == ["table", "cache"]


def damage_byte(folder: Path) -> None:
    for path in folder.rglob("postings.rows.npy"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)


def cut(folder: Path) -> None:
    for path in folder.rglob("rows.arrow"):
        os.truncate(path, path.stat().st_size // 2)


def remove_segment(folder: Path) -> None:
    for path in list(folder.rglob("vectors.values.npy")):
        path.unlink()


def spoil_manifest(folder: Path) -> None:
    for path in folder.rglob("manifest.json"):
        path.write_text(path.read_text()[:-5])


def other_format(folder: Path) -> None:
    for path in folder.rglob("manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))


@pytest.mark.parametrize("harm", [damage_byte, cut, remove_segment, spoil_manifest, other_format])
async def test_a_damaged_cache_is_thrown_away(
    open_store: Opener, loads: list[str], tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    rows = vectors(50)
    store = await open_store()
    await store.replace("c", [document("a", rows)])
    before = await found(store, rows[0])
    await store.close()
    harm(tmp_path / "cache")
    store = await open_store()
    assert await found(store, rows[0]) == before
    assert loads == ["table", "table"]
    store = await reopened(store, open_store)
    assert await found(store, rows[0]) == before
    assert loads[-1] == "cache"


async def test_what_a_killed_process_left_half_written_is_not_read_and_goes(
    open_store: Opener, loads: list[str], tmp_path: Path
) -> None:
    rows = vectors(50)
    store = await open_store()
    await store.replace("c", [document("a", rows)])
    before = await found(store, rows[0])
    await store.close()
    left = tmp_path / "cache" / "0" / "c" / "0123"
    left.mkdir()
    (left / "keys.npy").write_bytes(b"half")
    (left.parent / "manifest.json.new").write_text("{")
    store = await open_store()
    assert await found(store, rows[0]) == before
    assert loads[-1] == "cache"
    await store.replace("c", [document("b", rows[:3])])
    await store.close()
    assert not left.exists()


async def test_two_processes_that_share_a_cache_do_not_disturb_each_other(open_store: Opener) -> None:
    rows = vectors(50)
    first, second = await open_store(), await open_store()
    await first.replace("c", [document("a", rows)])
    assert await found(first, rows[0]) == await found(second, rows[0])
    await first.replace("c", [document("a", rows[:20], revision=2)])
    await second._index.follow("c")
    assert await found(first, rows[0]) == await found(second, rows[0])


async def test_a_collection_that_is_larger_than_the_bound_is_searched_on_disk(open_store: Opener) -> None:
    store = await open_store(memory=1)
    rows = vectors(600)
    await store.replace("c", [document("a", rows)])
    hits = await store.search("c", "", rows[7], top_k=1, options=BY_VECTOR)
    assert [hit.position for hit in hits] == [7]
    assert not store._index._held


async def test_the_collection_that_was_searched_longest_ago_makes_room(open_store: Opener) -> None:
    store = await open_store(memory=1)
    rows = vectors(270)
    for name in "cdefghijklmnop":
        await store.replace(name, [document("a", rows)])
        await store.search(name, "", rows[0], top_k=1, options=BY_VECTOR)
        assert store._index.nbytes <= 2**20
        assert name in store._index._held
    assert "c" not in store._index._held
    assert len(await store.search("c", "", rows[0], top_k=1, options=BY_VECTOR)) == 1


async def test_a_collection_that_outgrows_the_bound_goes_back_to_the_disk(open_store: Opener) -> None:
    store = await open_store(memory=1)
    rows = vectors(1600)
    await store.replace("c", [document("a", rows[:100])])
    await found(store, rows[0])
    assert store._index._held
    for n in range(1, 16):
        await store.replace("c", [document(f"d{n}", np.tile(rows[n * 100 : n * 100 + 100], (4, 1)))])
    assert not store._index._held
    hits = await store.search("c", "", rows[1550], top_k=1, options=BY_VECTOR)
    assert hits[0].document_id == "d15"


async def test_large_segments_are_merged_while_commits_go_on(
    open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "SMALL_ROWS", 10)
    store = await open_store()
    rows = vectors(600)
    await store.replace("c", [document("d0", rows[:1])])
    await found(store, rows[0])
    for n in range(40):
        await store.replace("c", [document(f"d{n % 30}", rows[n * 15 : n * 15 + 15], revision=n + 2)])
        (hit,) = await store.search("c", "", rows[n * 15 + 3], top_k=1, options=BY_VECTOR)
        assert (hit.document_id, hit.revision) == (f"d{n % 30}", n + 2)
    await store._index._tasks.ended()
    held = store._index._held["c"].snapshot
    assert held.passages == 450
    assert len(held.segments) < 10


async def test_a_row_that_vanishes_without_another_in_its_place_is_noticed(open_store: Opener) -> None:
    store = await open_store()
    rows = vectors(20)
    await store.replace("c", [document("a", rows)])
    await found(store, rows[0])
    table = await store._disk.open_anew("c")
    assert table is not None
    await table.delete("position = 3")
    await store._index.follow("c")
    hits = await store.search("c", "", rows[3], top_k=30, options=BY_VECTOR)
    assert sorted(hit.position for hit in hits) == [n for n in range(20) if n != 3]


async def test_filters_of_any_selectivity_find_the_nearest_among_all_that_match(open_store: Opener) -> None:
    store = await open_store()
    # As embeddings, they differ in fewer directions than they have dimensions.
    random = np.random.default_rng(8)
    space = random.standard_normal((16, 256)).astype(np.float32)
    rows = random.standard_normal((6000, 16)).astype(np.float32) @ space
    questions = random.standard_normal((20, 16)).astype(np.float32) @ space
    await store.replace("c", [document("a", rows)])
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for bound in (3000, 60, 1):
        agreed = 0
        for asked in questions:
            hits = await store.search("c", "", asked, top_k=10, filter=parse({"n": {"$lt": bound}}), options=BY_VECTOR)
            best = np.argsort(-(unit[:bound] @ asked))[:10]
            assert all(hit.position < bound for hit in hits)
            assert len(hits) == min(bound, 10)
            agreed += len({hit.position for hit in hits} & set(best.tolist()))
        assert agreed >= 0.99 * 20 * min(bound, 10)
