"""One ranking of a store's candidates: scores, then copies, then diversity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.retriever.ranking.copies import LikelyCopies, fold_copies
from services.retriever.ranking.diversity import diversified
from services.retriever.ranking.lexical import Matches, WeightedTerm, count_terms, match
from services.retriever.ranking.scoring import RankOptions, Scored, TieOrder, score_candidates

__all__ = ["Candidate", "Placed", "RankOptions", "Ranked", "order_of", "rank", "rank_places", "tie_order_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A passage that a search has found. `document_id` and `position` order equal scores.

    `terms` are its terms with a space between them. `vector` has length 1; both it and `similarity`, the cosine to the
    question, are None where the search is by words alone.
    """

    key: str
    document_id: str
    position: int
    terms: str
    similarity: float | None = None
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A candidate, by its place among all, and where it stands. Its score and coverage are 0 to 1.

    The ranks, by meaning and by words, count from 1; one is None where the candidate has nothing in common with the
    question. The copies are places too, the best first.
    """

    place: int
    score: float
    coverage: float
    vector_rank: int | None
    text_rank: int | None
    copies: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate in its place, as in `Placed`."""

    candidate: Candidate
    score: float
    coverage: float
    vector_rank: int | None
    text_rank: int | None
    copies: Sequence[Candidate] = ()


def rank(
    candidates: Sequence[Candidate],
    terms: Sequence[WeightedTerm],
    average_length: float,
    *,
    options: RankOptions,
    top_k: int,
) -> list[Ranked]:
    """The best `top_k`, best first. A smaller `top_k` gives the beginning of what a greater one gives.

    With SearchMode.TEXT only what shares a term with the question is ranked.
    """
    counts, lengths = count_terms(terms, [candidate.terms for candidate in candidates])
    vectors = [candidate.vector for candidate in candidates]
    known = [vector for vector in vectors if vector is not None]
    placed = rank_places(
        np.array([candidate.similarity or 0.0 for candidate in candidates], dtype=np.float64),
        match(terms, counts, lengths, average_length),
        options=options,
        top_k=top_k,
        tie_order=tie_order_of([(candidate.document_id, candidate.position) for candidate in candidates]),
        terms_of=lambda place: candidates[place].terms,
        vectors=(lambda places: np.stack([known[place] for place in places])) if len(known) == len(vectors) else None,
    )
    return [
        Ranked(
            candidate=candidates[one.place],
            score=one.score,
            coverage=one.coverage,
            vector_rank=one.vector_rank,
            text_rank=one.text_rank,
            copies=[candidates[place] for place in one.copies],
        )
        for one in placed
    ]


def rank_places(
    similarities: NDArray[np.float64] | None,
    matches: Matches,
    *,
    options: RankOptions,
    top_k: int,
    tie_order: TieOrder,
    terms_of: Callable[[int], str],
    likely_copies: LikelyCopies | None = None,
    vectors: Callable[[Sequence[int]], NDArray[np.float32]] | None,
) -> list[Placed]:
    """As `rank`, of candidates that are known by their places in the arrays.

    `terms_of` gives the terms of one, with a space between them; `vectors` the vectors of some, of length 1.
    """
    scored = score_candidates(similarities, matches, options, tie_order)
    places: Sequence[int]
    copies: dict[int, Sequence[int]] = {}
    if options.fold_copies:
        wanted = len(scored.order) if options.diversity else top_k
        copies = fold_copies(scored.order.tolist(), scored.score, wanted, terms_of, likely_copies)
        places = list(copies)
    else:
        places = scored.order.tolist() if options.diversity else scored.order[:top_k].tolist()
    if options.diversity and places and vectors is not None:
        new = diversified([float(scored.score[place]) for place in places], vectors(places), options.diversity, top_k)
        places = [places[index] for index in new]
    return [_placed(place, scored, matches, copies.get(place, ())) for place in places[:top_k]]


def tie_order_of(keys: Sequence[tuple[str, float]]) -> TieOrder:
    """From the document and position of each candidate."""
    return lambda places: order_of([keys[place] for place in places])


def order_of(keys: Sequence[tuple[str, float]]) -> NDArray[np.intp]:
    """Where each key comes among them."""
    found = np.empty(len(keys), np.intp)
    found[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return found


def _placed(place: int, scored: Scored, matches: Matches, copies: Sequence[int]) -> Placed:
    return Placed(
        place=place,
        score=float(scored.score[place]),
        coverage=float(matches.coverage[place]),
        vector_rank=int(scored.vector_rank[place]) or None,
        text_rank=int(scored.text_rank[place]) or None,
        copies=copies,
    )
