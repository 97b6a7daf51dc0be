"""One ranking of a store's candidates.

The default is a convex combination of the two scores, which keeps how sure each ranking is (Bruch, Gai and Ingber, "An
Analysis of Fusion Functions for Hybrid Retrieval", 2023). Both are computed for each candidate, whichever search has
found it. The weights are divided by how far the candidates' scores spread, as distribution-based score fusion does
(Mazzeschi, 2023): the cosines of one model lie between 0.2 and 0.6, those of another between 0.7 and 0.8.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.retriever.ranking.copies import CopyFolder
from services.retriever.ranking.diversity import diversified
from services.retriever.ranking.fusion import SMOOTHING, reciprocal_rank_fusion
from services.retriever.ranking.lexical import Match, WeightedTerm, match_passages
from shared.contracts.retrieval import Fusion, SearchMode

__all__ = ["Candidate", "RankOptions", "Ranked", "rank"]

NAMED_WEIGHT: Final = 0.3
"""Share of the score for a passage that holds what the question names, where the question names something."""

LEAST_SPREAD: Final = 1e-3
"""Standard deviation of scores below which they count as equal."""

COPY_SCORE: Final = 0.95
"""Of a passage's score, below which no copy of it is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankOptions:
    """How to rank; `RetrievalOptions` says what each means. The weight was chosen by benchmarks/quality."""

    mode: SearchMode = SearchMode.HYBRID
    fusion: Fusion = Fusion.SCORES
    dense_weight: float = 0.75
    diversity: float = 0.0
    fold_copies: bool = False


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
class Ranked:
    """A candidate in its place. Its score and its coverage of the question's terms are 0 to 1.

    The ranks, by meaning and by words, count from 1; one is None where the candidate has nothing in common with the
    question. The copies are the best first.
    """

    candidate: Candidate
    score: float
    coverage: float
    vector_rank: int | None
    text_rank: int | None
    copies: Sequence[Candidate] = ()

    @property
    def terms(self) -> str:
        return self.candidate.terms


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
    matches = match_passages(terms, [candidate.terms for candidate in candidates], average_length)
    scored = _scored(candidates, matches, options)
    if not options.fold_copies:
        return _diverse(scored, options, top_k)
    folder = CopyFolder[Ranked]()
    wanted = len(scored) if options.diversity else top_k
    for one in scored:
        # Copies score almost the same, so those of the last one wanted come soon after it.
        if len(folder.kept) >= wanted and one.score < COPY_SCORE * folder.kept[wanted - 1].score:
            break
        folder.add(one)
    kept = [
        _with_copies(one, [copy.candidate for copy in folder.copies(place)])
        for place, one in enumerate(folder.kept[:wanted])
    ]
    return _diverse(kept, options, top_k)


def _scored(candidates: Sequence[Candidate], matches: Sequence[Match], options: RankOptions) -> list[Ranked]:
    by_meaning = (
        [] if options.mode is SearchMode.TEXT else _order(candidates, [c.similarity or 0.0 for c in candidates])
    )
    by_words = [place for place in _order(candidates, [match.score for match in matches]) if matches[place].score]
    ranks = [{place: rank for rank, place in enumerate(order, start=1)} for order in (by_meaning, by_words)]
    if options.mode is SearchMode.TEXT:
        scores = [match.score for match in matches]
    elif options.mode is SearchMode.VECTOR:
        scores = [_meaning(candidate) for candidate in candidates]
    elif options.fusion is Fusion.RECIPROCAL_RANK:
        best = 2 / (SMOOTHING + 1)
        fused = {one.key: one.score / best for one in reciprocal_rank_fusion(by_meaning, by_words)}
        scores = [fused[place] for place in range(len(candidates))]
    else:
        scores = _fused(candidates, matches, options.dense_weight)
    order = by_words if options.mode is SearchMode.TEXT else _order(candidates, scores)
    return [
        Ranked(
            candidate=candidates[place],
            score=min(1.0, scores[place]),
            coverage=matches[place].coverage,
            vector_rank=ranks[0].get(place),
            text_rank=ranks[1].get(place) if options.mode is not SearchMode.VECTOR else None,
        )
        for place in order
    ]


def _fused(candidates: Sequence[Candidate], matches: Sequence[Match], dense_weight: float) -> list[float]:
    """The weighted mean of meaning and words, and of what the question names where a passage holds that."""
    meaning = [_meaning(candidate) for candidate in candidates]
    share = _share_of_meaning(meaning, [match.score for match in matches], dense_weight)
    named = NAMED_WEIGHT if any(match.named for match in matches) else 0.0
    return [
        (1 - named) * (share * near + (1 - share) * match.score) + named * match.named
        for near, match in zip(meaning, matches, strict=True)
    ]


def _share_of_meaning(meaning: Sequence[float], words: Sequence[float], dense_weight: float) -> float:
    """The weight of the similarities, so that they count `dense_weight` were both scores spread alike."""
    near, held = (max(float(np.std(scores)), LEAST_SPREAD) if scores else 1.0 for scores in (meaning, words))
    return dense_weight / near / (dense_weight / near + (1 - dense_weight) / held)


def _meaning(candidate: Candidate) -> float:
    return max(0.0, candidate.similarity or 0.0)


def _order(candidates: Sequence[Candidate], scores: Sequence[float]) -> list[int]:
    """Places, best first; equal scores by document and position."""
    return sorted(
        range(len(candidates)),
        key=lambda place: (-scores[place], candidates[place].document_id, candidates[place].position),
    )


def _diverse(ranked: Sequence[Ranked], options: RankOptions, top_k: int) -> list[Ranked]:
    vectors = [one.candidate.vector for one in ranked]
    known = [vector for vector in vectors if vector is not None]
    if not options.diversity or not ranked or len(known) < len(ranked):
        return list(ranked[:top_k])
    places = diversified([one.score for one in ranked], np.stack(known), options.diversity, top_k)
    return [ranked[place] for place in places]


def _with_copies(ranked: Ranked, copies: Sequence[Candidate]) -> Ranked:
    return replace(ranked, copies=tuple(copies)) if copies else ranked
