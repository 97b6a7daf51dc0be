"""What `services.retriever.stores.base.Store` promises, checked for every store.

A store joins by an entry in `OPENERS`: a coroutine that opens it on the storage at a path. Two stores opened on one
path stand for two processes.
"""

import contextlib
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.retriever.ranking.ranker import RankOptions
from services.retriever.serving.store import ServingStore
from services.retriever.stores.base import Chunk, IndexedDocument, Place, Store, StoredChunk
from services.retriever.stores.lance.store import LanceStore
from shared.contracts.collections import Owner
from shared.contracts.filters import And, Compare, Comparison, Exists, Filter, In, Not, Or, Scalar, parse
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import Fusion, SearchMode
from tests.harness.qdrant import open_qdrant

BY_VECTOR = RankOptions(mode=SearchMode.VECTOR)
BY_WORDS = RankOptions(mode=SearchMode.TEXT)

pytestmark = pytest.mark.anyio


async def serving(path: Path) -> Store:
    """Answers from memory always: a search waits until its collection is loaded."""
    return ServingStore(await LanceStore.open(str(path)), memory=256, patience=60)


OPENERS: dict[str, Callable[[Path], Awaitable[Store]]] = {
    "lance": lambda path: LanceStore.open(str(path)),
    "serving": serving,
    "qdrant": open_qdrant,
}
Opener = Callable[[], Awaitable[Store]]
DIMENSION = 8


@pytest.fixture(params=OPENERS)
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens stores that share one storage and closes them at the end."""
    stores: list[Store] = []

    async def opener() -> Store:
        stores.append(await OPENERS[request.param](tmp_path))
        return stores[-1]

    yield opener
    for store in stores:
        await store.close()


@pytest.fixture
async def store(open_store: Opener) -> Store:
    return await open_store()


AXES = np.eye(DIMENSION, dtype=np.float32)
WIDE = np.eye(2 * DIMENSION, dtype=np.float32)


def document(
    name: str,
    texts: Sequence[str] = (),
    *,
    revision: int = 1,
    metadata: Mapping[str, Scalar] | None = None,
    dimension: int = DIMENSION,
) -> IndexedDocument:
    chunks = [
        Chunk(position=i, text=text, vector=np.roll(np.eye(dimension, dtype=np.float32)[0], i), metadata=metadata or {})
        for i, text in enumerate(texts)
    ]
    return IndexedDocument(id=f"id-{name}", name=name, version=f"v{revision}", revision=revision, chunks=chunks)


async def texts_of(store: Store, name: str) -> list[str]:
    """The stored chunks of a document, by position."""
    hits = await store.search(
        "c",
        "",
        AXES[0],
        top_k=1000,
        filter=parse({"document_id": f"id-{name}"}),
        options=BY_VECTOR,
    )
    return [hit.text for hit in sorted(hits, key=lambda hit: hit.position)]


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(10):
        while not await condition():
            await anyio.lowlevel.checkpoint()


# Reading


async def test_all_documents_are_listed_with_their_revisions(store: Store) -> None:
    assert await store.documents("c") == {}
    await store.replace("c", [document("a", ["one", "two"], revision=3), document("b", ["one"])])
    await store.replace("c", [document("b", revision=4), document("d", ["other"], revision=2)])
    assert await store.documents("c") == {"id-a": 3, "id-d": 2}


async def test_chunks_are_read_by_their_places_with_revision_and_section(store: Store) -> None:
    assert await store.read("c", [Place("id-a", 0)]) == {}
    chunks = [Chunk(position=n, text=f"text {n}", vector=AXES[n], section=n // 2) for n in range(4)]
    await store.replace("c", [replace(document("a"), revision=3, chunks=chunks), document("b's", ["other"])])
    wanted = [Place("id-a", 1), Place("id-a", 2), Place("id-a", 4), Place("id-b's", 0), Place("id-c", 0)]
    assert await store.read("c", wanted) == {
        Place("id-a", 1): StoredChunk(place=Place("id-a", 1), revision=3, text="text 1", section=0),
        Place("id-a", 2): StoredChunk(place=Place("id-a", 2), revision=3, text="text 2", section=1),
        Place("id-b's", 0): StoredChunk(place=Place("id-b's", 0), revision=1, text="other", section=None),
    }
    assert await store.read("c", []) == {}


async def test_reading_sees_what_was_replaced_and_nothing_of_what_was_deleted(store: Store) -> None:
    await store.replace("c", [document("a", ["one", "two"]), document("b", ["three"])])
    await store.replace("c", [document("a", ["new"], revision=2), document("b", revision=2)])
    await store.maintain("c")
    found = await store.read("c", [Place("id-a", 0), Place("id-a", 1), Place("id-b", 0)])
    assert [(chunk.text, chunk.revision) for chunk in found.values()] == [("new", 2)]


async def test_a_hit_knows_its_section(store: Store) -> None:
    chunks = [Chunk(position=0, text="x", vector=AXES[0], section=5), Chunk(position=1, text="y", vector=AXES[1])]
    await store.replace("c", [replace(document("a"), chunks=chunks)])
    hits = await store.search("c", "", AXES[0], top_k=2, options=BY_VECTOR)
    assert [hit.section for hit in hits] == [5, None]


# Searching


@pytest.mark.parametrize("mode", SearchMode)
async def test_an_absent_collection_searches_as_empty(store: Store, mode: SearchMode) -> None:
    assert await store.search("c", "word", AXES[0], top_k=5, options=RankOptions(mode=mode)) == []
    assert (
        await store.search("c", "word", AXES[0], top_k=5, options=RankOptions(mode=mode), filter=parse({"unknown": 1}))
        == []
    )
    assert await store.count("c") == 0


async def test_a_hit_carries_the_chunk_exactly_as_it_was_written(store: Store) -> None:
    metadata = {"s": 'it\'s \\ "é" 😀\n', "i": 3, "f": 3.0, "big": 2**53, "yes": True, "no": False, "empty": ""}
    await store.replace("c", [document("a/b.md", ["first words", "second words"], revision=7, metadata=metadata)])
    (hit,) = await store.search("c", "", AXES[1], top_k=1, options=BY_VECTOR)
    assert (hit.document_id, hit.document, hit.version, hit.revision) == ("id-a/b.md", "a/b.md", "v7", 7)
    assert (hit.position, hit.text) == (1, "second words")
    assert hit.metadata == metadata
    assert {key: type(value) for key, value in hit.metadata.items()} == {k: type(v) for k, v in metadata.items()}


async def test_vector_search_ranks_by_cosine_similarity(store: Store) -> None:
    await store.replace("c", [document("a", ["x", "y", "z"])])
    hits = await store.search("c", "", 5 * AXES[0] + 3 * AXES[1], top_k=2, options=BY_VECTOR)
    assert [hit.position for hit in hits] == [0, 1]
    assert [hit.vector_rank for hit in hits] == [1, 2]
    assert [hit.score for hit in hits] == pytest.approx([5 / 34**0.5, 3 / 34**0.5], abs=1e-5)


async def test_text_search_finds_words_in_any_case_form_and_script(store: Store) -> None:
    await store.replace("c", [document("a", ["Running to the café", "これは日本語の文書です", "unrelated"])])
    for query, position in [("run", 0), ("CAFE", 0), ("日本語", 1)]:
        hits = await store.search("c", query, None, top_k=5, options=BY_WORDS)
        assert [hit.position for hit in hits] == [position], query
        assert hits[0].score > 0
        assert (hits[0].text_rank, hits[0].vector_rank) == (1, None)


async def test_hybrid_search_puts_first_what_both_rankings_find(store: Store) -> None:
    await store.replace("c", [document("a", ["apple", "banana", "cherry"])])
    hits = await store.search("c", "banana", 1.1 * AXES[0] + AXES[1], top_k=3)
    assert hits[0].position == 1
    assert (hits[0].vector_rank, hits[0].text_rank) == (2, 1)
    meaning, words = 1 / (1.1**2 + 1) ** 0.5, 1 / 2.2
    assert words < hits[0].score < meaning
    by_rank = await store.search(
        "c", "banana", 1.1 * AXES[0] + AXES[1], top_k=3, options=RankOptions(fusion=Fusion.RECIPROCAL_RANK)
    )
    assert by_rank[0].position == 1
    assert by_rank[0].score == pytest.approx((1 / 62 + 1 / 61) / (2 / 61))


@pytest.mark.parametrize("mode", SearchMode)
async def test_a_search_returns_at_most_top_k_hits_in_the_same_order_every_time(store: Store, mode: SearchMode) -> None:
    await store.replace("c", [document(f"d{i}", ["same words"] * 3) for i in range(10)])
    first = await store.search("c", "words", AXES[0] + AXES[1] + AXES[2], top_k=7, options=RankOptions(mode=mode))
    again = await store.search("c", "words", AXES[0] + AXES[1] + AXES[2], top_k=7, options=RankOptions(mode=mode))
    assert len(first) == 7
    assert [hit.score for hit in first] == sorted((hit.score for hit in first), reverse=True)
    assert {hit.id for hit in first} == {hit.id for hit in again}


ODD_TEXTS = [
    "", " ", "\n\t", "\x00", "'", '"', '"unclosed', "a AND (b OR", "text:apple", "+-&|!(){}[]^~*?:\\/", "😀", "\ud800",
    "the", "to be or not to be", "apple^9999", "[a TO b]", "--", "; DROP TABLE c", "a" * 10_000, "apple " * 3_000,
]  # fmt: skip


@pytest.mark.parametrize("text", ODD_TEXTS, ids=lambda text: ascii(text[:20]))
async def test_any_text_can_be_searched(store: Store, text: str) -> None:
    await store.replace("c", [document("a", ["apple", text]), document("b", ["banana"])])
    await store.search("c", text, None, top_k=5, options=BY_WORDS)
    assert await store.search("c", text, AXES[0], top_k=5)
    assert len(await texts_of(store, "a")) == 2


async def test_a_search_by_meaning_needs_a_vector(store: Store) -> None:
    for mode in (SearchMode.HYBRID, SearchMode.VECTOR):
        with pytest.raises(ValueError, match="needs a vector"):
            await store.search("c", "x", None, top_k=1, options=RankOptions(mode=mode))


@pytest.mark.parametrize("name", ["", "A", "a/b", "../a", "a" * 65, "ä", "a\n"])
async def test_a_collection_id_outside_the_alphabet_is_refused(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="not a collection id"):
        await store.search(name, "x", AXES[0], top_k=1)
    with pytest.raises(ValueError, match="not a collection id"):
        await store.replace(name, [])


# Replacing


async def test_replacing_a_document_leaves_no_chunk_of_the_old_one(store: Store) -> None:
    await store.replace("c", [document("a", ["one", "two", "three"]), document("b", ["other"])])
    done = await store.replace("c", [document("a", ["new"], revision=2)])
    assert done.replaced == {"id-a"}
    assert await texts_of(store, "a") == ["new"]
    assert await store.search("c", "three", None, top_k=5, options=BY_WORDS) == []
    assert await store.count("c") == 2


async def test_a_document_without_chunks_is_deleted(store: Store) -> None:
    await store.replace("c", [document("a", ["one", "two"]), document("b", ["other"])])
    done = await store.replace("c", [document("a", revision=2)])
    assert done.replaced == {"id-a"}
    assert await store.count("c") == 1
    assert [hit.document for hit in await store.search("c", "one two other", AXES[0], top_k=10)] == ["b"]


async def test_deleting_what_was_never_there_is_harmless(store: Store) -> None:
    assert (await store.replace("c", [document("a")])).replaced == {"id-a"}
    await store.replace("c", [document("b", ["x"])])
    assert (await store.replace("c", [document("a")])).replaced == {"id-a"}
    assert await store.count("c") == 1


async def test_replacing_twice_is_the_same_as_once(store: Store) -> None:
    documents = [document("a", ["one", "two"]), document("b", ["x"]), document("gone")]
    first = await store.replace("c", documents)
    second = await store.replace("c", documents)
    assert first == second
    assert await store.count("c") == 3
    assert await texts_of(store, "a") == ["one", "two"]


async def test_an_earlier_revision_never_replaces_a_later_one(store: Store) -> None:
    await store.replace("c", [document("a", ["late"], revision=5)])
    done = await store.replace("c", [document("a", ["early", "early"], revision=4), document("b", ["x"])])
    assert (done.replaced, done.superseded) == ({"id-b"}, {"id-a"})
    assert await texts_of(store, "a") == ["late"]


async def test_a_deletion_is_remembered_against_an_earlier_revision(store: Store) -> None:
    await store.replace("c", [document("b", ["x"])])
    await store.replace("c", [document("a", revision=5)])
    done = await store.replace("c", [document("a", ["early"], revision=4)])
    assert done.superseded == {"id-a"}
    await store.maintain("c")
    assert (await store.replace("c", [document("a", ["early"], revision=4)])).superseded == {"id-a"}
    assert (await store.replace("c", [document("a", ["back"], revision=6)])).replaced == {"id-a"}
    assert await texts_of(store, "a") == ["back"]


async def test_deletions_alone_are_remembered_where_the_dimension_is_known(store: Store) -> None:
    done = await store.replace("c", [document("a", revision=5)])
    assert (done.replaced, done.absent) == ({"id-a"}, True)
    assert (await store.replace("c", [document("a", ["early"], revision=4)])).replaced == {"id-a"}
    done = await store.replace("d", [document("a", revision=5)], dimension=DIMENSION)
    assert (done.replaced, done.absent) == ({"id-a"}, False)
    assert await store.documents("d") == {}
    assert (await store.replace("d", [document("a", ["early"], revision=4)])).superseded == {"id-a"}
    assert (await store.replace("d", [document("a", ["back"], revision=6)])).replaced == {"id-a"}


async def test_of_several_documents_with_one_id_the_last_of_the_greatest_revision_counts(store: Store) -> None:
    first, second = document("a", ["first"], revision=2), document("a", ["second", "more"], revision=2)
    await store.replace("c", [first, second, document("a", ["old"], revision=1)])
    assert await texts_of(store, "a") == ["second", "more"]


async def test_a_vector_of_another_dimension_is_refused_and_nothing_is_written(store: Store) -> None:
    await store.replace("c", [document("a", ["x"])])
    with pytest.raises(Problem, match="8 dimensions, but this one has 16") as caught:
        await store.replace("c", [document("b", ["y"]), document("d", ["z"], dimension=16)])
    assert caught.value.kind is ProblemType.CONFLICT
    assert await store.count("c") == 1
    with pytest.raises(Problem, match="8 dimensions, but this one has 16"):
        await store.search("c", "x", WIDE[0], top_k=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
async def test_a_vector_that_is_not_finite_is_refused(store: Store, bad: float) -> None:
    chunk = Chunk(position=0, text="x", vector=np.full(DIMENSION, bad, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        await store.replace("c", [IndexedDocument(id="a", name="a", version="v", revision=1, chunks=[chunk])])


async def test_positions_that_repeat_are_refused(store: Store) -> None:
    chunk = Chunk(position=0, text="x", vector=AXES[0])
    with pytest.raises(ValueError, match="repeat"):
        await store.replace("c", [IndexedDocument(id="a", name="a", version="v", revision=1, chunks=[chunk, chunk])])


async def test_a_zero_vector_breaks_no_search(store: Store) -> None:
    chunk = Chunk(position=0, text="blank", vector=np.zeros(DIMENSION, np.float32))
    blank = IndexedDocument(id="z", name="z", version="v", revision=1, chunks=[chunk])
    await store.replace("c", [blank, document("a", ["x"])])
    assert (await store.search("c", "", AXES[0], top_k=5, options=BY_VECTOR))[0].document == "a"
    assert [hit.document for hit in await store.search("c", "blank", 0 * AXES[0], top_k=5)] == ["z"]


# Metadata and filters


async def test_metadata_of_another_type_refuses_its_document_and_no_other(store: Store) -> None:
    await store.replace("c", [document("a", ["x"], metadata={"year": 2020})])
    done = await store.replace(
        "c", [document("b", ["y"], metadata={"year": "2020"}), document("d", ["z"], metadata={"year": 20.5})]
    )
    assert done.replaced == {"id-d"}
    problem = done.refused["id-b"]
    assert problem.kind is ProblemType.INVALID_METADATA
    assert "a string as year, which holds a number" in problem.detail
    assert await store.count("c") == 2


async def test_the_type_of_a_key_lasts_as_long_as_a_document_has_it(store: Store) -> None:
    await store.replace("c", [document("a", ["x"], metadata={"year": "2020"}), document("b", ["y"])])
    await store.replace("c", [document("a", revision=2)])
    done = await store.replace("c", [document("d", ["z"], metadata={"year": 2021})])
    assert (done.replaced, done.refused) == ({"id-d"}, {})
    assert await store.count("c", parse({"year": {"$gte": 2021}})) == 1
    assert await store.count("c") == 2


async def test_a_document_corrects_the_type_of_its_own_key(store: Store) -> None:
    await store.replace("c", [document("a", ["x", "y"], metadata={"year": "2020"})])
    done = await store.replace("c", [document("a", ["x"], revision=2, metadata={"year": 2020})])
    assert done.replaced == {"id-a"}
    assert await store.count("c", parse({"year": 2020})) == 1
    await store.replace("c", [document("b", ["z"], metadata={"year": 2021})])
    other = await store.replace("c", [document("a", ["x"], revision=3, metadata={"year": "2020"})])
    problem = other.refused["id-a"]
    assert (problem.details.model_extra or {})["field"] == "year"
    assert (problem.details.model_extra or {})["expected"] == "number"


async def test_the_first_document_decides_the_type_of_a_new_key(store: Store) -> None:
    done = await store.replace(
        "c", [document("a", ["x"], metadata={"k": True}), document("b", ["y"], metadata={"k": 1})]
    )
    assert (done.replaced, set(done.refused)) == ({"id-a"}, {"id-b"})


async def test_keys_that_differ_in_case_are_different_fields(store: Store) -> None:
    await store.replace("c", [document("a", ["x"], metadata={"Year": 1, "year": "one"})])
    assert await store.count("c", parse({"Year": 1, "year": "one"})) == 1
    with pytest.raises(Problem):
        await store.count("c", parse({"YEAR": 1}))


async def test_an_unknown_field_is_refused_with_the_known_ones(store: Store) -> None:
    await store.replace("c", [document("a", ["x"], metadata={"year": 1})])
    for data in ({"nope": 1}, {"vector": 1}, {"m_year": 1}, {"revision": 1}, {"metadata": "x"}):
        with pytest.raises(Problem, match=r"year \(number\)") as caught:
            await store.search("c", "x", AXES[0], top_k=1, filter=parse(data))
        assert caught.value.kind is ProblemType.INVALID_FILTER


HOSTILE = [
    "it's", "\\", "\\'", "x' OR '1'='1", "') OR true --", "''", '"', "`", "%", "_", "\x00", "\n", "--", ";", "/*", "$1",
    "?", "😀", "é", "e\u0301", " ", "", "null", "true", "CAST('1' AS INT)", "\u2019", "a\\",
]  # fmt: skip


async def test_hostile_strings_match_themselves_and_nothing_else(store: Store) -> None:
    documents = [document(f"{i}{text}", ["x"], metadata={"k": text}) for i, text in enumerate(HOSTILE)]
    await store.replace("c", documents)
    for i, text in enumerate(HOSTILE):
        expected = f"{i}{text}"
        for data in ({"k": text}, {"k": {"$in": [text]}}, {"document": expected}, {"document_id": f"id-{expected}"}):
            hits = await store.search("c", "x", AXES[0], top_k=100, filter=parse(data))
            assert [hit.document for hit in hits] == [expected], data
        assert await store.count("c", parse({"k": {"$ne": text}})) == len(HOSTILE) - 1
    await store.replace("c", [document(d.name, revision=2) for d in documents])
    assert await store.count("c") == 0


async def test_numbers_compare_exactly(store: Store) -> None:
    numbers = [0, -1, 1.5, -3e-7, 1e300, 5e-324, 2**53, -(2**53), 1.7976931348623157e308, 0.1]
    await store.replace("c", [document(f"d{i}", ["x"], metadata={"n": n}) for i, n in enumerate(numbers)])
    for number in numbers:
        assert await store.count("c", parse({"n": number})) == 1
        assert await store.count("c", parse({"n": {"$gt": number}})) == sum(n > number for n in numbers)
        assert await store.count("c", parse({"n": {"$lte": number}})) == sum(n <= number for n in numbers)


async def test_positions_compare_as_numbers(store: Store) -> None:
    await store.replace("c", [document("a", ["x"] * 6)])
    for data, expected in [({"$gt": 2.5}, 3), ({"$lte": 2}, 3), ({"$in": [0, 5, 9]}, 2), ({"$exists": True}, 6)]:
        assert await store.count("c", parse({"position": data})) == expected


FIELDS: dict[str, st.SearchStrategy[Scalar]] = {
    "s": st.sampled_from(["a", "b", "it's", ""]),
    "n": st.sampled_from([0, 1, 1.5, -2]),
    "b": st.booleans(),
}
COMPARISONS = {
    Comparison.EQ: lambda a, b: a == b,
    Comparison.NE: lambda a, b: a != b,
    Comparison.GT: lambda a, b: a > b,
    Comparison.GTE: lambda a, b: a >= b,
    Comparison.LT: lambda a, b: a < b,
    Comparison.LTE: lambda a, b: a <= b,
}


@st.composite
def conditions(draw: st.DrawFn) -> Filter:
    name = draw(st.sampled_from(sorted(FIELDS)))
    operators = [Comparison.EQ, Comparison.NE] if name == "b" else list(Comparison)
    return draw(
        st.builds(Exists, st.just(name))
        | st.builds(In, st.just(name), st.lists(FIELDS[name], max_size=3).map(tuple))
        | st.builds(Compare, st.just(name), st.sampled_from(operators), FIELDS[name])
    )


filters = st.recursive(
    conditions(),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, min_size=1, max_size=3).map(tuple))
    ),
    max_leaves=12,
)


def matches(tree: Filter, metadata: Mapping[str, Any]) -> bool:
    """What the language means."""
    match tree:
        case And(operands):
            return all(matches(operand, metadata) for operand in operands)
        case Or(operands):
            return any(matches(operand, metadata) for operand in operands)
        case Not(operand):
            return not matches(operand, metadata)
        case Exists(field):
            return field in metadata
        case In(field, values):
            return field in metadata and metadata[field] in values
        case Compare(field, comparison, value):
            if field not in metadata:
                return comparison is Comparison.NE
            return COMPARISONS[comparison](metadata[field], value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=filters)
async def test_a_filter_selects_what_the_language_says(store: Store, tree: Filter) -> None:
    corpus: list[dict[str, Scalar]] = [{}]
    for key, values in [("s", ["a", "b", "it's"]), ("n", [0, 1.5, -2]), ("b", [True, False])]:
        corpus = [{**metadata, **extra} for metadata in corpus for extra in [{}, *({key: value} for value in values)]]
    if not await store.count("c"):
        await store.replace("c", [document(f"{i}", ["x"], metadata=m) for i, m in enumerate(corpus)])
    hits = await store.search("c", "", AXES[0], top_k=100, filter=tree, options=BY_VECTOR)
    expected = {str(i) for i, metadata in enumerate(corpus) if matches(tree, metadata)}
    assert {hit.document for hit in hits} == expected
    assert await store.count("c", tree) == len(expected)


# Several at once


async def test_a_store_sees_its_own_commits_at_once(store: Store) -> None:
    for revision in range(1, 8):
        await store.replace("c", [document("a", [f"text {revision}"] * revision, revision=revision)])
        assert await texts_of(store, "a") == [f"text {revision}"] * revision


async def test_another_store_sees_a_commit_and_a_new_field_soon(open_store: Opener) -> None:
    writer, reader = await open_store(), await open_store()
    await writer.replace("c", [document("a", ["old"])])
    assert await texts_of(reader, "a") == ["old"]
    await writer.replace("c", [document("a", ["new"], revision=2, metadata={"fresh": 1})])
    assert await reader.count("c", parse({"fresh": {"$exists": False}})) in (0, 1)

    async def seen() -> bool:
        return await texts_of(reader, "a") == ["new"]

    await eventually(seen)


async def test_every_read_sees_all_or_nothing_of_a_replacement(open_store: Opener) -> None:
    writer, other = await open_store(), await open_store()
    await writer.replace("c", [document("a", ["word"] * 20), document("b", ["word"] * 20)])
    where, reads, writing = parse({"document_id": "id-a"}), 0, True

    async def read(store: Store) -> None:
        nonlocal reads
        while writing:
            assert await store.count("c", where) in (5, 20)
            for mode in SearchMode:
                hits = await store.search("c", "word", AXES[0], top_k=100, filter=where, options=RankOptions(mode=mode))
                assert len({hit.revision for hit in hits}) == 1
                assert len(hits) in (5, 20), mode
                reads += 1

    async with anyio.create_task_group() as group:
        for store in (writer, other):
            group.start_soon(read, store)
        for revision in range(2, 42):
            texts = ["word"] * (5 if revision % 2 else 20)
            await writer.replace("c", [document(n, texts, revision=revision) for n in ("a", "b")])
            if revision % 10 == 0:
                await writer.maintain("c")
        writing = False
    assert reads > 20


async def test_racing_stores_leave_one_whole_document(open_store: Opener) -> None:
    stores = [await open_store() for _ in range(3)]
    await stores[0].replace("c", [document("seed", ["x"])])
    shuffled = random.Random(5)
    for round_ in range(6):
        revisions = [10 * round_ + i for i in range(1, 4)]
        shuffled.shuffle(revisions)
        async with anyio.create_task_group() as group:
            for store, revision in zip(stores, revisions, strict=True):
                name = f"d{round_ // 2}"
                texts = [f"r{revision}"] * shuffled.randint(0, 6)
                change = document(name, texts, revision=revision)
                group.start_soon(store.replace, "c", [change])
                if revision == max(revisions):
                    expected = texts
        settled = await open_store()
        assert await texts_of(settled, name) == expected


async def test_stores_that_write_the_same_new_documents_double_nothing(open_store: Opener) -> None:
    stores = [await open_store() for _ in range(4)]
    documents = [document(f"d{i}", ["x", "y"], metadata={"k": i}) for i in range(10)]
    async with anyio.create_task_group() as group:
        for store in stores:
            group.start_soon(store.replace, "c", documents)
    assert await (await open_store()).count("c") == 20


async def test_a_key_that_two_stores_add_at_once_gets_one_type(open_store: Opener) -> None:
    first, second = await open_store(), await open_store()
    await first.replace("c", [document("seed", ["x"])])
    results = {}

    async def write(store: Store, name: str, value: Scalar) -> None:
        results[name] = await store.replace("c", [document(name, ["x"], metadata={"k": value})])

    async with anyio.create_task_group() as group:
        group.start_soon(write, first, "a", 1)
        group.start_soon(write, second, "b", "one")
    assert sorted(len(result.refused) for result in results.values()) == [0, 1]
    assert await (await open_store()).count("c") == 2


async def test_maintenance_beside_writes_and_reads_loses_nothing(open_store: Opener) -> None:
    first, second = await open_store(), await open_store()
    await first.replace("c", [document("seed", ["x"])])

    async def write(store: Store, prefix: str) -> None:
        for i in range(15):
            await store.replace(
                "c", [document(f"{prefix}{i}", ["one", "two"]), document("seed", ["x"], revision=i + 2)]
            )

    async with anyio.create_task_group() as group:
        group.start_soon(write, first, "a")
        group.start_soon(write, second, "b")
        for store in (first, second):
            for _ in range(4):
                await store.maintain("c")
    settled = await open_store()
    assert await settled.count("c") == 61
    hits = await settled.search("c", "one", None, top_k=100, options=BY_WORDS)
    assert len({hit.document for hit in hits}) == 30


async def test_maintenance_keeps_every_answer(store: Store) -> None:
    await store.maintain("c")
    for i in range(12):
        await store.replace("c", [document(f"d{i}", [f"word{i} common", "other"], metadata={"n": i})])
    ask = functools.partial(store.search, "c", "word7 common", AXES[0], top_k=5, filter=parse({"n": {"$gte": 5}}))
    before = [(hit.id, hit.score) for hit in await ask()]
    for _ in range(2):
        await store.maintain("c")
        assert [(hit.id, hit.score) for hit in await ask()] == before


async def test_a_dropped_collection_is_empty_everywhere_and_can_be_made_anew(open_store: Opener) -> None:
    first, second = await open_store(), await open_store()
    await first.replace("c", [document("a", ["x"])])
    assert await second.count("c") == 1
    await first.drop("c")
    await first.drop("c")
    assert await first.search("c", "x", AXES[0], top_k=1) == []

    async def gone() -> bool:
        return await second.count("c") == 0

    await eventually(gone)
    await first.replace("c", [document("b", ["y"], dimension=16)])
    assert [hit.text for hit in await first.search("c", "y", WIDE[0], top_k=1)] == ["y"]


async def test_collections_are_apart(store: Store) -> None:
    await store.replace("c", [document("a", ["x"])])
    await store.replace("d", [document("a", ["y"], dimension=16)])
    await store.drop("d")
    assert await texts_of(store, "a") == ["x"]


async def test_a_cancelled_replacement_can_be_repeated(store: Store) -> None:
    await store.replace("c", [document("a", ["old"] * 3)])
    with anyio.move_on_after(0.001):
        await store.replace("c", [document("a", ["new"] * 5, revision=2)])
    assert await texts_of(store, "a") in (["old"] * 3, ["new"] * 5)
    with contextlib.suppress(TimeoutError), anyio.fail_after(0):
        await store.maintain("c")
    await store.replace("c", [document("a", ["new"] * 5, revision=2)])
    assert await texts_of(store, "a") == ["new"] * 5


OURS, THEIRS = Owner(tenant="acme", collection="c-1"), Owner(tenant="rival", collection="c-1")


def calls(store: Store, owner: Owner) -> Sequence[Awaitable[object]]:
    """Every kind of call."""
    return (
        store.search("c", "one", None, top_k=5, options=BY_WORDS, owner=owner),
        store.read("c", [Place("id-a", 0)], owner=owner),
        store.count("c", owner=owner),
        store.replace("c", [document("a", ["mine"], revision=9)], owner=owner),
        store.replace("c", [document("a", revision=9)], owner=owner),
        store.drop("c", owner=owner),
    )


async def test_a_collection_answers_its_owner_alone(open_store: Opener) -> None:
    store = await open_store()
    await store.replace("c", [document("a", ["one", "two"])], owner=OURS)
    await store.replace("c", [document("b", ["three"], metadata={"year": 2020})], owner=OURS)  # a new column
    await store.maintain("c")
    for reader in (store, await open_store()):
        for other in (THEIRS, replace(THEIRS, collection=""), replace(OURS, collection="c-2")):
            for call in calls(reader, other):
                with pytest.raises(Problem) as caught:
                    await call
                assert caught.value.kind is ProblemType.COLLECTION_NOT_FOUND
        for owner in (OURS, replace(OURS, collection=""), None):
            assert await reader.count("c", owner=owner) == 3
    await store.drop("c", owner=OURS)
    await store.drop("c", owner=THEIRS)
    assert await store.count("c", owner=THEIRS) == 0


async def test_a_collection_without_an_owner_answers_everybody(store: Store) -> None:
    """So does one that a version before has made."""
    await store.replace("c", [document("a", ["one"])])
    await store.replace("c", [document("b", ["two"])], owner=OURS)
    assert await store.count("c", owner=THEIRS) == 2
