"""What the stage retrieve gives a passage as its context, from a real store."""

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.retriever.stages import retrieve
from services.retriever.stages.context import surroundings, within
from services.retriever.stages.retrieve import Retrieve
from services.retriever.stores.base import Chunk, IndexedDocument
from services.retriever.stores.lance.store import LanceStore
from shared.contracts.envelope import Message, Neighbour, Query, Stop, pack_vector

pytestmark = pytest.mark.anyio

AXES = np.eye(8, dtype=np.float32)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LanceStore]:
    store = await LanceStore.open(str(tmp_path))
    yield store
    await store.close()


def document(sections: Sequence[int | None], *, name: str = "a", revision: int = 1, size: int = 1) -> IndexedDocument:
    chunks = [
        Chunk(position=n, text=f"{name}{n} r{revision}. " * size, vector=AXES[n], section=section)
        for n, section in enumerate(sections)
    ]
    return IndexedDocument(id=name, name=f"{name}.md", version=f"v{revision}", revision=revision, chunks=chunks)


def question(position: int, **changes: Any) -> Query:
    made = Query(
        id="q",
        asked_at=0.0,
        deadline=time.time() + 60,
        reply="reply.g.q",
        slip=(Stop(stage="retrieve"),),
        collection="c",
        embedding=pack_vector(AXES[position].tolist()),
    )
    return made.model_copy(update=changes)


async def found(store: LanceStore, asked: Query, **params: Any) -> Query:
    context: Any = SimpleNamespace(params={"mode": "vector", "top_k": 1} | params)
    return await Retrieve(store)(asked, context)


async def positions(store: LanceStore, position: int, **params: Any) -> list[int]:
    (passage,) = (await found(store, question(position), **params)).passages
    return [one.position for one in passage.context]


async def test_neighbours_come_in_reading_order_as_far_as_is_asked(store: LanceStore) -> None:
    await store.replace("c", [document([0] * 6)])
    assert await positions(store, 2) == []
    assert await positions(store, 2, context=0) == []
    assert await positions(store, 2, context=1) == [1, 3]
    assert await positions(store, 1, context=2) == [0, 2, 3]
    assert await positions(store, 5, context=8) == [0, 1, 2, 3, 4]


async def test_a_context_ends_where_the_section_ends(store: LanceStore) -> None:
    await store.replace("c", [document([0, 0, 1, 1, 2])])
    assert await positions(store, 2, context=2) == [3]
    assert await positions(store, 1, context=2) == [0]
    assert await positions(store, 4, context=2) == []


async def test_without_known_sections_chunks_must_show_that_they_belong_together(store: LanceStore) -> None:
    texts = ["A\n\nOne.", "A\n\nTwo.", "Three. Four.", "Four. Five.", "Six."]
    chunks = [Chunk(position=n, text=text, vector=AXES[n]) for n, text in enumerate(texts)]
    await store.replace("c", [IndexedDocument(id="a", name="a", version="v", revision=1, chunks=chunks)])
    assert [await positions(store, n, context=1) for n in range(5)] == [[1], [0], [3], [2], []]


async def test_a_document_that_was_replaced_since_the_search_gives_no_context(store: LanceStore) -> None:
    await store.replace("c", [document([0] * 3), document([0] * 3, name="b")])
    hits = await store.search(
        "c", "", AXES[1], top_k=2, options=retrieve.RetrieveParams(mode="vector").ranking(embedded=True)
    )
    assert [hit.position for hit in hits] == [1, 1]
    await store.replace("c", [document([0] * 3, revision=2)])
    contexts = await surroundings(store, "c", hits, 1)
    by_document = {hit.document_id: context for hit, context in zip(hits, contexts, strict=True)}
    assert by_document["a"] == ()
    assert [one.text for one in by_document["b"]] == ["b0 r1. ", "b2 r1. "]


async def test_a_hit_is_the_context_of_a_hit_beside_it(store: LanceStore) -> None:
    await store.replace("c", [document([0] * 3)])
    passages = (await found(store, question(1), top_k=3, context=1)).passages
    assert {p.position: [one.position for one in p.context] for p in passages} == {0: [1], 1: [0, 2], 2: [1]}


async def test_a_message_that_is_large_already_gets_no_context(store: LanceStore) -> None:
    await store.replace("c", [document([0] * 3)])
    long = (Message(role="user", content="x" * retrieve.LARGEST),)
    (passage,) = (await found(store, question(1, messages=long), context=1)).passages
    assert passage.context == ()


async def test_passages_with_their_context_stay_within_the_bound(store: LanceStore) -> None:
    await store.replace("c", [document([0] * 8, name=f"d{n}", size=4000) for n in range(4)])
    query = await found(store, question(3), top_k=4, context=4)
    contexts = [len(passage.context) for passage in query.passages]
    assert contexts[0] == 7
    assert 0 in contexts
    assert len(query.encode()) <= retrieve.LARGEST + 4096


def test_the_contexts_of_the_first_passages_come_first() -> None:
    contexts = [(Neighbour(position=n, text="x" * size),) for n, size in enumerate([100, 500, 100])]
    assert [bool(one) for one in within(contexts, 400)] == [True, False, True]
    assert [bool(one) for one in within(contexts, -1)] == [False, False, False]
