"""Filters: whatever is parsed means in the store what a few lines of Python say that it means."""

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import example, given
from hypothesis import strategies as st

from services.retriever.ranking.ranker import RankOptions
from services.retriever.stores.base import Chunk, IndexedDocument
from services.retriever.stores.lance.store import LanceStore
from shared.contracts.filters import MAX_INTEGER, RESERVED_FIELDS, Scalar, parse, validate_metadata
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import SearchMode
from tests.fuzz.hypothesis_runner import example_began, fuzzed, outcome, saw
from tests.fuzz.values import bent, odd_values

BY_VECTOR = RankOptions(mode=SearchMode.VECTOR)

STRINGS = (
    *("", " ", "a", "A", "b", "en", "é", "e\u0301", "😀", "'", "''", '"', "`", "\\", "\\'", "%", "_", "a\0b", "\n"),
    *("x' OR '1'='1", "NULL", "true", "1", "1.0", "--", "/*", "$eq", "\u202e", "\uffff", "z" * 1000),
)
NUMBERS = (
    *(0, 1, -1, 2, 0.5, -0.5, -0.0, 1.5, 2020, 2**31, 2**32, 2**53, -(2**53), 2**53 - 1, 0.1, 0.30000000000000004),
    *(1e16, 1e-7, 1e308, -1e308, 5e-324, 2.2250738585072014e-308),
)
FIELDS = {"lang": STRINGS, "name": STRINGS, "year": NUMBERS, "score": NUMBERS, "draft": (True, False), "Draft": STRINGS}
"""The fields of the documents, and the values that each may have. One is another one in capitals."""


def metadata(chance: random.Random) -> dict[str, Scalar]:
    return {name: chance.choice(values) for name, values in FIELDS.items() if chance.random() < 0.7}


CHANCE = random.Random(1)
DOCUMENTS = {f"d{number}": metadata(CHANCE) for number in range(60)} | {"d'60": {}, "Ü/61": {"lang": "é"}}

Facts = Mapping[str, Scalar]


def facts(name: str, position: int) -> Facts:
    """What filters see of a chunk."""
    return {**DOCUMENTS[name], "document": name, "document_id": f"id-{name}", "position": position}


# The reference: the language as docs/api.md tells it, on decoded JSON, without the tree that `parse` makes.


def holds(data: Any, about: Facts) -> bool:
    return all(_part(key, value, about) for key, value in data.items())


def _part(key: str, value: Any, about: Facts) -> bool:
    match key:
        case "$and":
            return all(holds(item, about) for item in value)
        case "$or":
            return any(holds(item, about) for item in value)
        case "$not":
            return not holds(value, about)
    return _field(about.get(key), value if isinstance(value, dict) else {"$eq": value})


def _field(found: Scalar | None, conditions: Any) -> bool:
    return all(_condition(found, operator, operand) for operator, operand in conditions.items())


def _condition(found: Scalar | None, operator: str, operand: Any) -> bool:
    match operator:
        case "$exists":
            return (found is not None) is operand
        case "$not":
            return not _field(found, operand)
        case "$ne":
            return found is None or found != operand
        case "$nin":
            return found is None or found not in operand
    if found is None:
        return False
    match operator:
        case "$eq":
            return found == operand
        case "$in":
            return found in operand
    left, right = (found.encode(), operand.encode()) if isinstance(found, str) else (found, operand)
    return bool({"$gt": left > right, "$gte": left >= right, "$lt": left < right, "$lte": left <= right}[operator])


@st.composite
def conditions(draw: Any) -> dict[str, Any]:
    """One field and what is asked of it, mostly of its own type."""
    name = draw(st.sampled_from([*FIELDS, "document", "position", "document_id"]))
    pool = FIELDS.get(name, (0, 1, 2.0, -1) if name == "position" else (*DOCUMENTS, "id-d3", "id-Ü/61"))
    value = st.sampled_from(pool) | (st.text(max_size=4) if isinstance(pool[0], str) else st.sampled_from(pool))
    ordered = () if isinstance(pool[0], bool) else ("$gt", "$gte", "$lt", "$lte")
    operator = draw(st.sampled_from(["", "$eq", "$ne", "$in", "$nin", "$exists", "$not", *ordered]))
    if operator == "$not":
        inner = draw(conditions())
        asked = next(iter(inner.values()))
        return {next(iter(inner)): {"$not": asked if isinstance(asked, dict) else {"$ne": asked}}}
    if operator in ("$in", "$nin"):
        return {name: {operator: draw(st.lists(value, max_size=4))}}
    if operator == "$exists":
        return {name: {"$exists": draw(st.booleans())}}
    asked = draw(value)
    return {name: {operator: asked} if operator else asked}


filters = st.recursive(
    conditions(),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4).flatmap(
            lambda items: st.sampled_from([{"$and": items}, {"$or": items}])
        )
        | inner.map(lambda item: {"$not": item})
        | st.tuples(inner, inner).map(lambda two: two[0] | two[1])
    ),
    max_leaves=10,
)
SEEDS = [
    {"year": {"$gte": 2020}, "lang": "en"},
    {"$or": [{"lang": {"$in": ["en", "de"]}}, {"draft": {"$exists": False}}]},
    {"$not": {"score": {"$lt": 0.5, "$gt": -1}}, "$and": [{"name": {"$ne": "a"}}, {"position": {"$not": {"$eq": 1}}}]},
]
NAMES = ("$and", "$or", "$not", "$eq", "$ne", "$gt", "$in", "$nin", "$exists", "lang", "year", "draft", "nothing", "$")
values = st.sampled_from(STRINGS) | st.sampled_from(NUMBERS) | odd_values


@pytest.fixture(scope="module")
def store(portal: BlockingPortal, folder: Path) -> Iterator[LanceStore]:
    """A real table, written in parts, with documents that were replaced and removed."""

    def document(name: str, revision: int, chunks: int) -> IndexedDocument:
        made = [
            Chunk(
                position=place,
                text=f"{name} {place}",
                vector=np.array([1, len(name), place, 1], dtype=np.float32),
                metadata=DOCUMENTS[name],
            )
            for place in range(chunks)
        ]
        return IndexedDocument(id=f"id-{name}", name=name, version=f"v{revision}", revision=revision, chunks=made)

    async def filled() -> LanceStore:
        store = await LanceStore.open(str(folder / "index"))
        names = list(DOCUMENTS)
        for start in range(0, len(names), 20):
            await store.replace("c", [document(name, 1, 3) for name in names[start : start + 20]])
        await store.replace("c", [document(name, 2, 2) for name in names])
        await store.replace("c", [document(name, 3, 0) for name in names[:5]])
        return store

    store = portal.call(filled)
    yield store
    portal.call(store.close)


THERE = [(name, position) for name in list(DOCUMENTS)[5:] for position in range(2)]


def check(portal: BlockingPortal, store: LanceStore, data: Any) -> None:
    tree = outcome(lambda: parse(data), Problem)
    if isinstance(tree, Problem):
        json.dumps(tree.details.model_dump())
        saw("refused")
        assert tree.kind is ProblemType.INVALID_FILTER
        return

    async def search() -> tuple[set[tuple[str, int]], int]:
        hits = await store.search("c", "", np.ones(4, np.float32), top_k=1000, filter=tree, options=BY_VECTOR)
        return {(hit.document, hit.position) for hit in hits}, await store.count("c", tree)

    found = outcome(lambda: portal.call(search), Problem)
    if isinstance(found, Problem):
        saw("does not fit the table")
        assert "No document in this collection" in found.detail or "is compared with" in found.detail
        return
    expected = {(name, position) for name, position in THERE if holds(data, facts(name, position))}
    saw("none" if not expected else "all" if len(expected) == len(THERE) else "some")
    assert found == (expected, len(expected))


@fuzzed(60)
@given(data=filters)
def test_a_filter_finds_in_the_store_what_it_says(portal: BlockingPortal, store: LanceStore, data: Any) -> None:
    example_began()
    check(portal, store, data)


@fuzzed(48)
@given(data=bent(SEEDS, extra=values, names=NAMES))
@example(data={"year": {"$gt": 10**400}})
def test_a_bent_filter_is_refused_or_finds_what_it_says(portal: BlockingPortal, store: LanceStore, data: Any) -> None:
    example_began()
    check(portal, store, data)


@fuzzed(60)
@given(data=bent([{"lang": "en", "year": 2020, "score": 0.5, "draft": False}], names=("document", "position", "m_x")))
def test_metadata_is_refused_or_comes_back_from_the_wire_as_it_was(data: Any) -> None:
    example_began()
    checked = outcome(lambda: validate_metadata(data), Problem)
    if isinstance(checked, Problem):
        saw("refused")
        assert checked.kind is ProblemType.INVALID_METADATA
        return
    saw("taken")
    assert json.loads(json.dumps(checked, allow_nan=False)) == data
    assert checked.keys().isdisjoint(RESERVED_FIELDS)
    assert all(abs(value) <= MAX_INTEGER for value in checked.values() if type(value) is int)
