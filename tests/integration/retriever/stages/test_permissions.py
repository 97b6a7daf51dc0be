"""What the stages of the retriever make of who asks, and of who may see a document, on a real store."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.retriever.serving.store import ServingStore
from services.retriever.stages.retrieve import Retrieve
from services.retriever.stores.base import Chunk, IndexedDocument, Store
from services.retriever.stores.lance.store import LanceStore
from shared.contracts.envelope import Query, Stop, pack_vector
from shared.contracts.filters import guarded
from shared.contracts.problems import Problem, ProblemType

pytestmark = pytest.mark.anyio

AXES = np.eye(8, dtype=np.float32)


@pytest.fixture(params=["lance", "serving"])
async def store(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    disk = await LanceStore.open(str(tmp_path))
    store: Store = disk if request.param == "lance" else ServingStore(disk, memory=64, patience=60)
    await store.replace("open", [document("a"), document("b")])
    await store.replace("mixed", [document("a"), document("b", allowed=("group:hr",))])
    await store.replace("closed", [document("b", allowed=("group:hr",))])
    yield store
    await store.close()


def document(name: str, *, allowed: tuple[str, ...] | None = None) -> IndexedDocument:
    chunks = [
        Chunk(position=n, text=f"{name} speaks of part {n} and of X-{name}-1", vector=AXES[n], section=0)
        for n in range(3)
    ]
    return IndexedDocument(
        id=name, name=name, version="v", revision=1, chunks=chunks, allowed=allowed, allowed_revision=1
    )


async def ask(store: Store, collection: str, question: str = "part", *principals: str, **params: Any) -> Query:
    query = Query(
        id="q",
        asked_at=0.0,
        deadline=time.time() + 60,
        reply="reply.g.q",
        slip=(Stop(stage="retrieve"),),
        collection=collection,
        question=question,
        principals=principals,
        embedding=pack_vector(AXES[0].tolist()),
    )
    context: Any = SimpleNamespace(params={"top_k": 20, "context": 2, **params})
    return await Retrieve(store)(query, context)


def documents(query: Query) -> set[str]:
    copies = {copy.document for passage in query.passages for copy in passage.copies}
    return copies | {passage.document for passage in query.passages}


async def test_a_query_that_does_not_say_who_asks_finds_documents_without_a_list(store: Store) -> None:
    assert documents(await ask(store, "open")) == {"a", "b"}
    assert documents(await ask(store, "mixed")) == {"a"}
    assert documents(await ask(store, "mixed", "part", "user:alice")) == {"a"}
    assert documents(await ask(store, "mixed", "part", "user:alice", "group:hr")) == {"a", "b"}
    assert documents(await ask(store, "mixed", "part", "*")) == {"a", "b"}


async def test_a_collection_of_which_one_may_see_nothing_is_empty(store: Store) -> None:
    with pytest.raises(Problem) as empty:
        await ask(store, "closed")
    assert empty.value.kind is ProblemType.COLLECTION_EMPTY
    assert documents(await ask(store, "closed", "part", "group:hr")) == {"b"}


async def test_an_identifier_of_a_hidden_document_is_absent(store: Store) -> None:
    for question, principals, absent in (
        ("X-b-1", (), ("x-b-1",)),
        ("X-b-1", ("group:hr",), ()),
        ("X-a-1", (), ()),
    ):
        found = await ask(store, "mixed", question, *principals)
        assert found.results is not None
        assert found.results.search is not None
        assert tuple(one.lower() for one in found.results.search.absent) == absent, question


async def test_a_guarded_filter_filters_as_the_one_in_it(store: Store) -> None:
    for wanted, expected in (({"document": "a"}, {"a"}), ({"document": "b"}, set()), ({}, {"a"}), (None, {"a"})):
        assert documents(await ask(store, "mixed", filter=guarded(wanted))) == expected
