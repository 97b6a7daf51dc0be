"""What the store on Qdrant promises besides the protocol: its rankings are those of the other stores, a commit counts
whole or not at all wherever it breaks off, and a server that is away, full or not ours is told of.

The server's engine is Qdrant's own: see `tests.harness.programs.qdrant_server`.
"""

import logging
import tempfile
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import AsyncQdrantClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.retriever.ranking.ranker import RankOptions
from services.retriever.serving.store import ServingStore
from services.retriever.stores.base import Chunk, IndexedDocument, Permissions, Place, Store
from services.retriever.stores.lance.store import LanceStore
from services.retriever.stores.qdrant import cleanup
from services.retriever.stores.qdrant.address import Address
from services.retriever.stores.qdrant.connection import REQUEST_SECONDS, Connection, RefusedError
from services.retriever.stores.qdrant.store import QdrantStore
from shared.contracts.filters import parse
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import Fusion, SearchMode
from tests.harness.asgi_server import serve
from tests.harness.qdrant import open_qdrant, shared_address

pytestmark = pytest.mark.anyio

T = TypeVar("T")

DIMENSION = 24
WORDS = ("apple", "pear", "plum", "PPR-9061", "PPR-9062", "harbour", "of the", "ship", "2024", "Schiffe", "café")
EVERYTHING = RankOptions(mode=SearchMode.VECTOR)


def vector(seed: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(seed.encode())).standard_normal(DIMENSION).astype(np.float32)


def document(name: str, texts: Sequence[str], *, revision: int = 1, year: int = 2020) -> IndexedDocument:
    chunks = [
        Chunk(position=i, text=text, vector=vector(f"{name} {text}"), metadata={"year": year, "language": "en"})
        for i, text in enumerate(texts)
    ]
    return IndexedDocument(id=f"id-{name}", name=name, version=f"v{revision}", revision=revision, chunks=chunks)


# Rankings

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
written = st.tuples(st.sampled_from("abcdef"), st.lists(texts, max_size=6), st.integers(2019, 2022))
questions = st.tuples(
    texts,
    st.builds(
        RankOptions,
        mode=st.sampled_from(SearchMode),
        fusion=st.sampled_from(Fusion),
        fold_copies=st.booleans(),
        diversity=st.sampled_from([0.0, 0.4]),
    ),
    st.sampled_from([None, {"year": {"$gte": 2021}}, {"document": {"$gt": "b"}}, {"year": {"$ne": 2020}}]),
    st.integers(1, 12),
)


@settings(max_examples=12, deadline=None)
@given(history=st.lists(st.lists(written, min_size=1, max_size=4), min_size=1, max_size=4), asked=st.lists(questions))
async def test_a_search_ranks_as_the_store_in_memory_does(history: list, asked: list) -> None:  # type: ignore[type-arg]
    with tempfile.TemporaryDirectory() as folder:
        store, other = await open_qdrant(folder), ServingStore(await LanceStore.open(folder), memory=64, patience=60)
        try:
            for revision, commit in enumerate(history):
                given_documents = [document(name, held, revision=revision, year=year) for name, held, year in commit]
                assert await store.replace("c", given_documents) == await other.replace("c", given_documents)
            await other.maintain("c")
            known = await store.count("c") > 0
            for text, options, where, top_k in asked if known else ():
                condition = parse(where) if where else None
                ask = {"top_k": top_k, "filter": condition, "options": options}
                found = await store.search("c", text, vector(text), **ask)
                expected = await other.search("c", text, vector(text), **ask)
                assert [hit.id for hit in found] == [hit.id for hit in expected]
                assert found.absent == expected.absent
                for hit, one in zip(found, expected, strict=True):
                    assert hit.score == pytest.approx(one.score, abs=1e-3)
                    assert hit.coverage == pytest.approx(one.coverage)
                    assert (hit.vector_rank, hit.text_rank) == (one.vector_rank, one.text_rank)
                    assert (hit.text, hit.metadata) == (one.text, one.metadata)
                    assert list(hit.copies) == list(one.copies)
        finally:
            await store.close()
            await other.close()


async def collections_of(store: QdrantStore, prefix: str) -> set[str]:
    found = await store._connection.call(lambda client: client.get_collections())
    return {one.name for one in found.collections if one.name.startswith(prefix)}


async def test_tables_of_several_tenants_share_collections_and_know_nothing_of_each_other(tmp_path: Path) -> None:
    store = await open_qdrant(tmp_path)
    prefix = shared_address(tmp_path).prefix
    await store.replace("ours", [document("a", ["apple PPR-9061", "pear"])])
    made = await collections_of(store, prefix)
    assert made >= {f"{prefix}_tables", f"{prefix}_documents", f"{prefix}_passages_{DIMENSION}"}
    for number in range(3):
        await store.replace(f"theirs-{number}", [document(f"d{number}", ["PPR-9062", "apple apple"], year=1999)])
    hits = await store.search("ours", "apple PPR-9062", vector("x"), top_k=9)
    assert {hit.document for hit in hits} == {"a"}
    assert hits.absent == ("PPR-9062",)
    assert await store.documents("ours") == {"id-a": 1}
    await store.drop("theirs-0")
    assert await store.count("theirs-1") == 2
    assert await collections_of(store, prefix) == made
    await store.close()


# Commits that break off


class BrokenOffError(Exception):
    """The process has ended."""


class Breaking(Connection):
    """Ends with the process after so many requests: none is sent any more, be it to clean up."""

    def __init__(self, client: AsyncQdrantClient, *, requests: int) -> None:
        super().__init__(client, name="breaking")
        self._left = requests

    async def call(
        self, request: Callable[[AsyncQdrantClient], Awaitable[T]], *, seconds: float = REQUEST_SECONDS
    ) -> T:
        if not self._left:
            raise BrokenOffError
        self._left -= 1
        return await super().call(request, seconds=seconds)


async def held(store: Store) -> dict[tuple[str, int], str]:
    hits = await store.search("c", "", vector("x"), top_k=100, options=EVERYTHING)
    return {(hit.document, hit.position): hit.text for hit in hits}


async def break_off(
    path: Path, write: Callable[[QdrantStore], Awaitable[object]], check: Callable[[Store], Awaitable[bool]]
) -> int:
    """Break the write off after each number of requests. Every time a reader sees all of it or nothing, and what comes
    next finds a table that can be written. Returns how many times it did not come to an end."""
    address = shared_address(path)
    for requests in range(200):
        reader = QdrantStore(Connection.open(address), address, freshness=0)
        await reader.replace("c", [document("a", ["old"] * 3), document("b", ["kept"])], dimension=DIMENSION)
        await reader.permit("c", [Permissions(document_id="id-a", allowed=None, revision=0)])
        broken = Breaking(AsyncQdrantClient(url=address.url, check_compatibility=False), requests=requests)
        writer = QdrantStore(broken, address, lease_seconds=0)
        ended = False
        try:
            await write(writer)
            ended = True
        except BrokenOffError:
            pass
        await writer.close()
        done = await check(reader)
        assert done or not ended
        # Another process takes the place of the one that is gone.
        heir = QdrantStore(Connection.open(address), address, lease_seconds=0)
        await write(heir)
        assert await check(reader), "doing it again is the repair"
        await heir.maintain("c")
        assert await check(reader)
        await heir.drop("c")
        await heir.close()
        await reader.close()
        if ended:
            return requests
    raise AssertionError("the write never ends")


async def test_a_replacement_that_breaks_off_anywhere_counts_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = await open_qdrant(tmp_path)
    monkeypatch.setattr(cleanup, "REMEMBERED", cleanup.REMEMBERED * 0)
    before = {("a", 0): "old", ("a", 1): "old", ("a", 2): "old", ("b", 0): "kept"}
    after = {("a", 0): "new", ("a", 1): "new", ("c", 0): "more"}

    async def write(store: QdrantStore) -> None:
        changes = [document("a", ["new"] * 2, revision=2, year=2021), document("b", [], revision=2)]
        await store.replace("c", [*changes, document("c", ["more"], revision=2)])

    async def check(store: Store) -> bool:
        found = await held(store)
        assert found in (before, after)
        documents = {"id-a": 2, "id-c": 2} if found == after else {"id-a": 1, "id-b": 1}
        assert await store.documents("c") == documents
        assert await store.count("c") == len(found)
        return found == after

    assert await break_off(tmp_path, write, check) > 5
    await keeper.close()


async def test_a_change_of_permissions_that_breaks_off_anywhere_counts_whole_or_not_at_all(tmp_path: Path) -> None:
    keeper = await open_qdrant(tmp_path)

    async def write(store: QdrantStore) -> None:
        lists = [Permissions(document_id=f"id-{name}", allowed=("user:alice",), revision=5) for name in "ab"]
        await store.permit("c", lists)

    async def check(store: Store) -> bool:
        left = await store.count("c", readers=frozenset())
        assert left in (4, 0)
        assert await store.count("c", readers=frozenset({"user:alice"})) == 4
        return left == 0

    assert await break_off(tmp_path, write, check) > 5
    await keeper.close()


async def test_nothing_is_left_of_what_ended_or_broke_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = await open_qdrant(tmp_path)
    address = shared_address(tmp_path)
    monkeypatch.setattr(cleanup, "REMEMBERED", cleanup.REMEMBERED * 0)
    nothing = cleanup.REMEMBERED * 0
    store = QdrantStore(
        Connection.open(address), address, keep_versions=nothing, keep_tombstones=nothing, lease_seconds=0
    )
    await store.replace("c", [document("a", ["old"] * 3)])
    # Sixteen requests write the passages alone, so none of these comes to its commit.
    for requests in range(8, 20, 2):
        client = AsyncQdrantClient(url=address.url, check_compatibility=False)
        writer = QdrantStore(Breaking(client, requests=requests), address, lease_seconds=0)
        with pytest.raises(BrokenOffError):
            await writer.replace("c", [document(f"d{n}", ["x"] * 40, revision=requests) for n in range(40)])
        await writer.close()
    await store.replace("c", [document("a", ["new"], revision=2), document("b", [], revision=2)])
    await anyio.sleep(0.002)  # what ended in this millisecond is kept
    await store.maintain("c")
    points = {}
    for name in (store._layout.passages(DIMENSION), store._layout.documents):
        points[name] = (await store._connection.call(lambda client, name=name: client.count(name))).count
    assert list(points.values()) == [1, 1]
    assert await held(store) == {("a", 0): "new"}
    await store.close()
    await keeper.close()


async def test_a_table_whose_drop_broke_off_is_gone_and_can_be_made_anew(tmp_path: Path) -> None:
    keeper = await open_qdrant(tmp_path)
    address = shared_address(tmp_path)
    for requests in range(60):
        store = QdrantStore(Connection.open(address), address, freshness=0, lease_seconds=0)
        await store.replace("c", [document("a", ["old"])])
        client = AsyncQdrantClient(url=address.url, check_compatibility=False)
        writer = QdrantStore(Breaking(client, requests=requests), address, lease_seconds=0)
        ended = False
        try:
            await writer.drop("c")
            ended = True
        except BrokenOffError:
            pass
        assert await held(store) in ({}, {("a", 0): "old"})
        await store.replace("c", [document("b", ["new"], revision=9)])
        assert set(await held(store)) in ({("b", 0)}, {("a", 0), ("b", 0)})
        await store.drop("c")
        assert await store.count("c") == 0
        await writer.close()
        await store.close()
        if ended:
            break
    assert ended
    await keeper.close()


async def test_a_collection_that_is_removed_from_the_server_is_a_damaged_index(tmp_path: Path) -> None:
    store = await open_qdrant(tmp_path)
    await store.replace("c", [document("a", ["old"])])
    name = store._layout.passages(DIMENSION)
    await store._connection.call(lambda client: client.delete_collection(name))
    for call in (
        lambda: store.search("c", "old", vector("x"), top_k=1),
        lambda: store.read("c", [Place("id-a", 0)]),
        lambda: store.replace("c", [document("a", ["old"], revision=2)]),
    ):
        with pytest.raises(Problem) as caught:
            await call()
        assert caught.value.kind is ProblemType.INDEX_DAMAGED
    await store.drop("c")
    await store.replace("c", [document("a", ["new"])])
    assert await held(store) == {("a", 0): "new"}
    await store.close()


# Servers that do not do their part

KEY = "hush-hush"


class FaultyServer:
    """Answers as Qdrant does, after the `failures`, each a status with what the server says."""

    def __init__(self, *failures: tuple[int, str], version: str = "1.20.1") -> None:
        self.failures, self.version, self.keys, self.asked = list(failures), version, [], anyio.Event()
        self.app = Starlette(routes=[Route("/{path:path}", self.answer)])

    async def answer(self, request: Request) -> Response:
        self.keys.append(request.headers.get("api-key"))
        self.asked.set()
        if self.failures:
            status, said = self.failures.pop(0)
            if status == 0:
                await anyio.sleep_forever()
            if status == 200:
                return Response(said)
            return JSONResponse(
                {"status": {"error": said}}, status, headers={"retry-after": "0"} if status == 429 else {}
            )
        if request.url.path == "/":
            return JSONResponse({"title": "qdrant", "version": self.version})
        return JSONResponse({"result": {"collections": []}, "status": "ok", "time": 0})


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[str], Connection]]:
    made: list[Connection] = []

    def opener(url: str) -> Connection:
        made.append(Connection.open(Address(url=url), KEY))
        return made[-1]

    yield opener
    for one in made:
        await one.close()


Connect = Callable[[str], Connection]


def list_collections(client: AsyncQdrantClient) -> Awaitable[object]:
    return client.get_collections()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_passes_is_tried_again(connect: Connect, status: int) -> None:
    server = FaultyServer((status, "later"), (status, "later"))
    async with serve(server.app) as url:
        await connect(url).call(list_collections)
    assert server.keys == [KEY] * 3


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ((503, "no"), "it said 503"),
        ((429, "no"), "too much to do"),
        ((200, "no JSON"), "cannot be read"),
        ((0, ""), "too long"),
    ],
)
async def test_what_stays_is_an_index_that_is_not_available(
    connect: Connect, failure: tuple[int, str], said: str
) -> None:
    server = FaultyServer(*[failure] * 9)
    async with serve(server.app) as url:
        with pytest.raises(Problem, match=said) as caught:
            await connect(url).call(list_collections, seconds=0.2 if failure[0] == 0 else 30)
    assert caught.value.kind is ProblemType.INDEX_UNAVAILABLE
    assert len(server.keys) == 3, "tries have a limit"
    assert KEY not in str(caught.value.details)


async def test_a_server_that_is_away_is_an_index_that_is_not_available(connect: Connect) -> None:
    async with serve(FaultyServer().app) as url:
        connection = connect(url)
        await connection.check()
    with pytest.raises(Problem, match="no connection can be made") as caught:
        await connection.call(list_collections)
    assert caught.value.kind is ProblemType.INDEX_UNAVAILABLE
    with pytest.raises(Problem):
        await connection.check()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_told_of_at_once_and_not_repeated(
    connect: Connect, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = FaultyServer(*[(status, f"no such key: {KEY}")] * 2)
    async with serve(server.app) as url:
        with pytest.raises(Problem, match="SLUICE_INDEX_API_KEY") as caught:
            await connect(url).call(list_collections)
        assert len(server.keys) == 1
        with pytest.raises(RefusedError):
            await connect(url).check()
    assert caught.value.kind is ProblemType.INDEX_UNAVAILABLE
    assert KEY not in f"{caught.value.details} {caplog.text}"


@pytest.mark.parametrize("status", [500, 507, 400])
async def test_a_full_disk_is_told_of_as_one(connect: Connect, status: int) -> None:
    server = FaultyServer((status, "Service internal error: No space left on device: WAL buffer size exceeds"))
    async with serve(server.app) as url:
        with pytest.raises(Problem) as caught:
            await connect(url).call(list_collections)
    assert caught.value.kind is ProblemType.STORAGE_FULL


@pytest.mark.parametrize(
    ("version", "fits"), [("1.18.3", False), ("1.19.0", True), ("1.20.0-dev", True), ("2.0.0", True)]
)
async def test_a_server_that_is_too_old_is_refused(connect: Connect, version: str, fits: bool) -> None:
    async with serve(FaultyServer(version=version).app) as url:
        if fits:
            await connect(url).check()
        else:
            with pytest.raises(RefusedError, match=r"needs 1\.19"):
                await connect(url).check()


async def test_what_is_no_qdrant_is_refused(connect: Connect) -> None:
    async with serve(Starlette()) as url:
        with pytest.raises(RefusedError, match="does not answer as Qdrant does"):
            await connect(url).check()
