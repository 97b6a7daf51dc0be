"""One search of a snapshot: by meaning and by words to the same depth, and one ranking of both."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from services.retriever.ranking.lexical import absent_identifiers, match, weigh_terms
from services.retriever.ranking.ranker import Placed, RankOptions, order_of, rank_places
from services.retriever.serving.filters import filter_mask
from services.retriever.serving.lexical_search import best_by_words, count_terms_in, find_forms, statistics_of
from services.retriever.serving.rows import distinct
from services.retriever.serving.snapshot import Snapshot
from services.retriever.serving.vector_search import best_by_meaning, similarities, vectors_of
from services.retriever.stores.base import Hit, Hits, Vector, unit
from services.retriever.stores.hits import COPY_COLUMNS, HIT_COLUMNS, hit_of
from services.retriever.stores.lance.rows import SECTION, TERMS
from services.retriever.stores.limits import DEPTH, MOST_TERMS
from shared.analysis.copies import SAME
from shared.analysis.languages import Language
from shared.analysis.terms import question_terms
from shared.contracts.filters import Filter
from shared.contracts.retrieval import SearchMode

__all__ = ["search_snapshot"]


def search_snapshot(
    snapshot: Snapshot,
    text: str,
    vector: Vector | None,
    *,
    top_k: int,
    filter: Filter | None,  # noqa: A002  (the word of the API)
    options: RankOptions,
    languages: Sequence[Language],
    exhaustive: bool = False,
) -> Hits:
    """Carry out `Store.search`. The filter fits the snapshot's columns, and the vector its dimension.

    With SearchMode.TEXT the vector is not looked at. An exhaustive search compares the vectors of all rows.
    """
    asked = None if vector is None or options.mode is SearchMode.TEXT else unit(vector)
    depth = max(DEPTH, top_k)
    allowed = _allowed(snapshot, filter)
    terms = question_terms(text, languages)[:MOST_TERMS] if options.mode is not SearchMode.VECTOR else []
    found = find_forms(snapshot, (form for term in terms for form in term.forms))
    weighted = weigh_terms(terms, statistics_of(snapshot, found))
    best = [best_by_words(snapshot, found, allowed, depth)]
    if asked is not None:
        best.append(best_by_meaning(snapshot, asked, allowed, depth, exhaustive=exhaustive)[0])
    rows = distinct(best)
    matches = match(
        weighted,
        count_terms_in(rows, snapshot, weighted, found),
        snapshot.lengths[rows].astype(np.float64),
        snapshot.average_length,
    )
    near = None if asked is None else similarities(snapshot, rows, asked)
    placed = rank_places(
        None if near is None else near.astype(np.float64),
        matches,
        options=options,
        top_k=top_k,
        tie_order=lambda places: _tie_order(snapshot, rows[places]),
        terms_of=lambda place: str(snapshot.cells(rows[place : place + 1], [TERMS])[0][TERMS]),
        likely_copies=_likely_copies(snapshot, rows) if options.fold_copies and len(rows) else None,
        vectors=None if asked is None else lambda places: vectors_of(snapshot, rows[list(places)]),
    )
    return Hits(_hits(snapshot, rows, placed, near), absent=absent_identifiers(weighted))


def _allowed(snapshot: Snapshot, filter: Filter | None) -> NDArray[np.bool_] | None:  # noqa: A002
    """Which rows are alive and pass the filter; None for all."""
    if filter is None:
        return None if snapshot.whole else snapshot.alive
    masks = [filter_mask(segment, filter, snapshot.origin.columns) for segment in snapshot.segments]
    return np.concatenate(masks) & snapshot.alive if masks else snapshot.alive


def _likely_copies(snapshot: Snapshot, rows: NDArray[np.int64]) -> Callable[[int], NDArray[np.bool_]]:
    """By the sketches of their terms, which differ in no more bits than the sets of terms in terms."""
    words = snapshot.gather(rows, lambda segment: segment.term_sets.sketches)
    sizes = snapshot.gather(rows, lambda segment: segment.term_sets.distinct).astype(np.float64)

    def likely(place: int) -> NDArray[np.bool_]:
        # Of two sets with |A ^ B| <= (1 - SAME) |A | B|, and |A | B| = (|A| + |B| + |A ^ B|) / 2.
        most_different = (1 - SAME) / (1 + SAME) * (sizes + sizes[place]) + 1e-6
        return np.asarray(np.bitwise_count(words ^ words[place]).sum(axis=1) <= most_different, dtype=np.bool_)

    return likely


def _tie_order(snapshot: Snapshot, rows: NDArray[np.int64]) -> NDArray[np.intp]:
    return order_of(list(zip(*(snapshot.values(rows, name) for name in ("document_id", "position")), strict=True)))


def _hits(
    snapshot: Snapshot, rows: NDArray[np.int64], placed: Sequence[Placed], near: NDArray[np.float32] | None
) -> Iterator[Hit]:
    winners = snapshot.cells(rows[[one.place for one in placed]], ["id", *HIT_COLUMNS, SECTION])
    for one, row in zip(placed, winners, strict=True):
        yield hit_of(
            row,
            row["id"],
            one,
            similarity=None if near is None else float(near[one.place]),
            section=row[SECTION],
            copies=snapshot.cells(rows[list(one.copies)], COPY_COLUMNS) if one.copies else (),
        )
