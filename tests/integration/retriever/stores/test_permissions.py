"""What a reader finds in a store, against a plain model, over random histories of documents and lists."""

import tempfile
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retriever.ranking.ranker import RankOptions
from services.retriever.serving.store import ServingStore
from services.retriever.stores.base import Chunk, Hits, IndexedDocument, Permissions, Place, Store
from services.retriever.stores.lance.store import LanceStore
from shared.analysis.terms import document_terms
from shared.contracts.filters import parse
from shared.contracts.principals import is_permitted
from shared.contracts.retrieval import SearchMode
from tests.harness.qdrant import open_qdrant

pytestmark = pytest.mark.anyio

DIMENSION = 16
WORDS = ("apple", "pear", "plum", "PPR-9061", "PPR-9062", "harbour", "ship")
NAMES = ("a", "b", "c")
PRINCIPALS = ("user:alice", "user:o'neil", "group:hr", 'group:it "x"')

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
lists = st.one_of(st.none(), st.lists(st.sampled_from(PRINCIPALS), max_size=3, unique=True).map(tuple))
commits = st.tuples(
    st.just("commit"),
    st.sampled_from(NAMES),
    st.lists(texts, max_size=4),
    st.one_of(st.just("keep"), lists),
    st.integers(2020, 2022),
)
permits = st.tuples(st.just("permit"), st.sampled_from(NAMES), lists, st.booleans())
steps = st.lists(st.one_of(commits, commits, permits, st.tuples(st.just("maintain"))), min_size=2, max_size=12)
readers = st.one_of(st.none(), st.frozensets(st.sampled_from(PRINCIPALS), max_size=2))
filters = st.sampled_from([None, {"year": {"$gte": 2021}}, {"document": {"$in": ["a", "c", "d"]}}])

EVERYTHING = RankOptions(mode=SearchMode.VECTOR)
BY_WORDS = RankOptions(mode=SearchMode.TEXT)


@dataclass
class Model:
    """What the collection holds, by name."""

    held: dict[str, IndexedDocument] = field(default_factory=dict)
    revision: int = 0

    def commit(self, name: str, passages: Sequence[str], allowed: object, year: int) -> IndexedDocument:
        """A document to write; one that keeps its list says nothing of it."""
        self.revision += 1
        chunks = [
            Chunk(
                position=i,
                text=text,
                vector=np.random.default_rng(zlib.crc32(f"{name}{text}".encode()))
                .standard_normal(DIMENSION)
                .astype(np.float32),
                metadata={"year": year},
            )
            for i, text in enumerate(passages)
        ]
        given = IndexedDocument(id=f"id-{name}", name=name, version="", revision=self.revision, chunks=chunks)
        if isinstance(allowed, tuple) or allowed is None:
            given = replace(given, allowed=allowed, allowed_revision=self.revision)
        known = self.held.pop(name, None)
        if chunks:
            kept = allowed == "keep" and known is not None
            self.held[name] = replace(given, allowed=known.allowed) if kept and known is not None else given
        return given

    def permit(self, name: str, allowed: tuple[str, ...] | None, *, late: bool) -> Permissions:
        """A change of a list; one that comes `late` is older than what is there."""
        self.revision += 1
        if name in self.held and not late:
            self.held[name] = replace(self.held[name], allowed=allowed)
        return Permissions(document_id=f"id-{name}", allowed=allowed, revision=-1 if late else self.revision)

    def seen(self, who: frozenset[str] | None, where: object) -> list[IndexedDocument]:
        return [
            one
            for one in self.held.values()
            if (who is None or is_permitted(one.allowed, who)) and self._matches(one, where)
        ]

    def _matches(self, document: IndexedDocument, where: object) -> bool:
        match where:
            case {"year": {"$gte": year}}:
                return document.chunks[0].metadata["year"] >= year
            case {"document": {"$in": names}}:
                return document.name in names
        return True


async def apply(store: Store, model: Model, step: tuple) -> None:  # type: ignore[type-arg]
    match step:
        case "commit", name, passages, allowed, year:
            await store.replace("c", [model.commit(name, passages, allowed, year)])
        case "permit", name, allowed, late:
            await store.permit("c", [model.permit(name, allowed, late=late)])
        case _:
            await store.maintain("c")


async def check(store: Store, model: Model, who: frozenset[str] | None, question: str, where: object) -> None:
    """What a reader finds and counts is what the model says that they may see."""
    seen = model.seen(who, where)
    condition = parse(where) if where else None
    vector = np.ones(DIMENSION, dtype=np.float32)
    found = await store.search("c", question, vector, top_k=100, filter=condition, options=EVERYTHING, readers=who)
    assert places(found) == {(one.name, chunk.position) for one in seen for chunk in one.chunks}
    assert await store.count("c", condition, readers=who) == sum(len(one.chunks) for one in seen)
    few = await store.search("c", question, vector, top_k=2, filter=condition, options=EVERYTHING, readers=who)
    assert len(few) == min(2, len(found))
    asked = set(document_terms(question))
    words = await store.search("c", question, None, top_k=100, filter=condition, options=BY_WORDS, readers=who)
    sharing = {(one.name, c.position) for one in seen for c in one.chunks if asked & set(document_terms(c.text))}
    assert places(words) == sharing
    folded = RankOptions(fold_copies=True)
    both = await store.search("c", question, vector, top_k=100, filter=condition, options=folded, readers=who)
    copies = {(copy.document, copy.position) for hit in both for copy in hit.copies}
    assert places(both) | copies == places(found)
    for hit in both:
        assert hit.text == model.held[hit.document].chunks[hit.position].text
    await check_reading(store, model, who)


async def check_reading(store: Store, model: Model, who: frozenset[str] | None) -> None:
    wanted = [Place(f"id-{name}", position) for name in NAMES for position in range(4)]
    read = await store.read("c", wanted, readers=who)
    may = {Place(one.id, chunk.position) for one in model.seen(who, None) for chunk in one.chunks}
    assert set(read) == may


def places(hits: Hits) -> set[tuple[str, int]]:
    return {(hit.document, hit.position) for hit in hits}


async def serving(path: str) -> Store:
    return ServingStore(await LanceStore.open(path), memory=256, patience=60, cache=Path(path, "cache"))


OPENERS: dict[str, Callable[[str], Awaitable[Store]]] = {
    "lance": LanceStore.open,
    "serving": serving,
    "qdrant": open_qdrant,
}


@pytest.mark.parametrize("opener", OPENERS)
@settings(max_examples=25)
@given(history=steps, asked=st.lists(st.tuples(readers, texts, filters), min_size=2, max_size=4))
async def test_a_reader_finds_what_the_model_says(opener: str, history: list, asked: list) -> None:  # type: ignore[type-arg]
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        store = await OPENERS[opener](folder)
        try:
            for step in history:
                await apply(store, model, step)
                who, question, where = asked[0]
                if model.held:
                    await check(store, model, who, question, where)
            for who, question, where in asked if model.held else ():
                await check(store, model, who, question, where)
        finally:
            await store.close()


@pytest.mark.parametrize("opener", OPENERS)
async def test_a_document_that_says_nothing_of_its_readers_keeps_its_list(opener: str, tmp_path: Path) -> None:
    model = Model()
    store = await OPENERS[opener](str(tmp_path))
    for allowed, sees in (("keep", True), (("group:hr",), False), ("keep", False), (None, True), ("keep", True)):
        await store.replace("c", [model.commit("a", ["apple", "pear"], allowed, 2020)])
        await store.replace("c", [model.commit("b", ["plum"], "keep", 2020)])
        for who in (frozenset[str](), frozenset({"group:hr"}), None):
            await check(store, model, who, "apple", None)
        assert (await store.count("c", readers=frozenset()) == 3) is sees
    await store.replace("c", [model.commit("a", [], ("group:hr",), 2020)])
    await store.replace("c", [model.commit("a", ["apple"], "keep", 2020)])
    assert await store.count("c", readers=frozenset()) == 2, "a list goes with its document"
    await store.close()


@settings(max_examples=25)
@given(history=steps, who=st.frozensets(st.sampled_from(PRINCIPALS), max_size=2), question=texts)
async def test_what_is_not_permitted_changes_nothing_of_what_is_found(
    history: list,  # type: ignore[type-arg]
    who: frozenset[str],
    question: str,
) -> None:
    """Scores, ranks, copies and absent identifiers are those of a collection without it."""
    model = Model()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        store, without = await serving(folder), await serving(other)
        try:
            for step in history:
                await apply(store, model, step)
            if seen := [replace(one, allowed=None) for one in model.seen(who, None)]:
                await without.replace("c", seen)
                vector = np.ones(DIMENSION, dtype=np.float32)
                for options in (RankOptions(fold_copies=True), BY_WORDS, RankOptions(diversity=0.4)):
                    found = await store.search("c", question, vector, top_k=5, options=options, readers=who)
                    expected = await without.search("c", question, vector, top_k=5, options=options)
                    assert [_shown(hit) for hit in found] == [_shown(hit) for hit in expected]
                    assert found.absent == expected.absent
        finally:
            await store.close()
            await without.close()


def _shown(hit: object) -> object:
    return replace(hit, revision=0, score=round(hit.score, 5), similarity=round(hit.similarity or 0, 5))  # type: ignore


async def test_a_reader_whom_another_process_shuts_out_finds_nothing_soon(tmp_path: Path) -> None:
    model = Model()
    for opener in OPENERS.values():
        folder = tmp_path / opener.__name__
        writer, reader = await opener(str(folder)), await opener(str(folder))
        await writer.replace("c", [model.commit("a", ["apple"], "keep", 2020)])
        vector = np.ones(DIMENSION, dtype=np.float32)
        nobody: frozenset[str] = frozenset()
        assert await reader.search("c", "apple", vector, top_k=5, readers=nobody)
        await writer.permit("c", [model.permit("a", ("user:alice",), late=False)])
        assert not await writer.search("c", "apple", vector, top_k=5, readers=nobody)
        while await reader.search("c", "apple", vector, top_k=5, readers=nobody):
            pass
        assert await reader.search("c", "apple", vector, top_k=5, readers=frozenset({"user:alice"}))
        await writer.close()
        await reader.close()
