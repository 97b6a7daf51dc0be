"""The serving index against an exhaustive search, over random histories of commits."""

import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.retriever.ranking.lexical import TermStatistics, weigh_terms
from services.retriever.ranking.ranker import Candidate, Ranked, RankOptions, rank
from services.retriever.serving import merging
from services.retriever.serving.store import ServingStore
from services.retriever.serving.vectors import quantize
from services.retriever.stores.base import Chunk, IndexedDocument
from services.retriever.stores.lance.store import LanceStore
from shared.analysis.languages import Language
from shared.analysis.terms import document_terms, question_terms
from shared.contracts.filters import Filter, parse
from shared.contracts.retrieval import Fusion, SearchMode

pytestmark = pytest.mark.anyio

DIMENSION = 72
WORDS = ("apple", "pear", "plum", "PPR-9061", "PPR-9062", "v2.14", "harbour", "of the", "ship", "2024")
NAMES = ("a", "b", "c", "d", "e", "f")

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
documents = st.builds(
    lambda name, passages, year: (name, tuple(passages), year),
    st.sampled_from(NAMES),
    st.lists(texts, max_size=6),
    st.integers(2019, 2022),
)
commits = st.tuples(st.just("commit"), st.booleans(), st.lists(documents, min_size=1, max_size=4))
steps = st.one_of(commits, commits, commits, st.just(("maintain", False, [])), st.just(("drop", False, [])))
questions = st.tuples(
    texts,
    st.integers(0, 5),
    st.builds(
        RankOptions,
        mode=st.sampled_from(SearchMode),
        fusion=st.sampled_from(Fusion),
        fold_copies=st.booleans(),
        diversity=st.sampled_from([0.0, 0.0, 0.4]),
    ),
    st.sampled_from([None, {"year": {"$gte": 2021}}, {"document": {"$in": ["a", "c"]}}, {"year": {"$ne": 2020}}]),
    st.integers(1, 12),
)


def as_held(given: np.ndarray) -> np.ndarray:
    """The vector of length 1, with the 16 bits a dimension that the index holds."""
    values, scales = quantize(given[None])
    return values[0].astype(np.float32) * scales[0]


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


@dataclass
class Model:
    """What the collection holds, by document."""

    held: dict[str, IndexedDocument] = field(default_factory=dict)
    revision: int = 0

    def commit(self, given: Sequence[tuple[str, tuple[str, ...], int]]) -> list[IndexedDocument]:
        made = []
        for name, passages, year in given:
            self.revision += 1
            chunks = [
                Chunk(
                    position=i,
                    text=text,
                    vector=vector(zlib.crc32(f"{name}{text}".encode())),
                    metadata={"year": year, "language": "en"},
                )
                for i, text in enumerate(passages)
            ]
            made.append(IndexedDocument(id=name, name=name, version="v", revision=self.revision, chunks=chunks))
        self.held |= {document.id: document for document in made}
        return made

    def search(
        self,
        text: str,
        asked: np.ndarray,
        options: RankOptions,
        where: Mapping | None,
        top_k: int,
        languages: Sequence[Language],
    ) -> list[Ranked]:
        """Every passage is a candidate, and the statistics are exact."""
        passages = [(document, chunk) for document in self.held.values() for chunk in document.chunks]
        terms_of = {id(chunk): document_terms(chunk.text, Language.ENGLISH) for _, chunk in passages}
        lengths = [len(terms) for terms in terms_of.values()]
        terms = question_terms(text, languages) if options.mode is not SearchMode.VECTOR else []
        forms = {form for term in terms for form in term.forms}
        frequencies = {form: sum(form in held for held in terms_of.values()) for form in forms}
        average = sum(lengths) / len(lengths) if lengths else 1.0
        weighted = weigh_terms(terms, TermStatistics(len(passages), average, frequencies))
        by_words = options.mode is SearchMode.TEXT
        asked = asked / np.linalg.norm(asked)
        candidates = []
        for document, chunk in passages:
            unit = as_held(chunk.vector)
            if matches(document, chunk, where):
                candidates.append(
                    Candidate(
                        key=f"{document.id}:{chunk.position}",
                        document_id=document.id,
                        position=chunk.position,
                        terms=" ".join(terms_of[id(chunk)]),
                        similarity=None if by_words else float(unit @ asked),
                        vector=None if by_words else unit,
                    )
                )
        return rank(candidates, weighted, average, options=options, top_k=top_k)


def matches(document: IndexedDocument, chunk: Chunk, where: Mapping | None) -> bool:
    match where:
        case None:
            return True
        case {"document": {"$in": names}}:
            return document.name in names
        case {"year": {"$gte": year}}:
            return chunk.metadata["year"] >= year
        case {"year": {"$ne": year}}:
            return chunk.metadata["year"] != year
    raise AssertionError(where)


@pytest.mark.parametrize("small_rows", [merging.SMALL_ROWS, 4], ids=["merged at once", "merged beside searches"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(st.tuples(steps, questions), min_size=1, max_size=9))
async def test_a_search_finds_what_an_exhaustive_one_finds_after_every_commit(
    history: Sequence[tuple], small_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "SMALL_ROWS", small_rows)
    with tempfile.TemporaryDirectory() as folder:
        store = ServingStore(await LanceStore.open(folder), memory=64, patience=60)
        other = await LanceStore.open(folder)
        model = Model()
        try:
            for (kind, foreign, given_documents), question in history:
                match kind:
                    case "commit":
                        await (other if foreign else store).replace("c", model.commit(given_documents))
                    case "maintain":
                        await store.maintain("c")
                    case "drop":
                        await store.drop("c")
                        model.held.clear()
                if foreign:
                    await store._index.follow("c")
                await check(store, model, question)
        finally:
            await store.close()
            await other.close()


async def check(store: ServingStore, model: Model, question: tuple) -> None:
    text, seed, options, where, top_k = question
    if not any(document.chunks for document in model.held.values()):
        where = None  # the collection may not know the fields yet
    parsed: Filter | None = parse(where) if where else None
    hits = await store.search("c", text, vector(seed), top_k=top_k, filter=parsed, options=options)
    held = store._index._held.get("c")
    languages = held.languages.found if held else ()  # a sample tells them, now and then
    expected = model.search(text, vector(seed), options, where, top_k, languages)
    assert [hit.id for hit in hits] == [one.candidate.key for one in expected]
    for hit, one in zip(hits, expected, strict=True):
        assert hit.score == pytest.approx(one.score, abs=1e-4)
        assert hit.coverage == pytest.approx(one.coverage)
        assert (hit.vector_rank, hit.text_rank) == (one.vector_rank, one.text_rank)
        assert len(hit.copies) == len(one.copies)
        assert hit.text == model.held[hit.document_id].chunks[hit.position].text
