"""The scores and ranks of candidates, from arrays with one element a candidate.

The default is a convex combination of the two scores, which keeps how sure each ranking is (Bruch, Gai and Ingber, "An
Analysis of Fusion Functions for Hybrid Retrieval", 2023). Both are computed for each candidate, whichever search has
found it. The weights are divided by how far the candidates' scores spread, as distribution-based score fusion does
(Mazzeschi, 2023): the cosines of one model lie between 0.2 and 0.6, those of another between 0.7 and 0.8.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.retriever.ranking.fusion import SMOOTHING, reciprocal_rank_fusion
from services.retriever.ranking.lexical import Matches
from shared.contracts.retrieval import Fusion, SearchMode

__all__ = ["RankOptions", "Scored", "TieOrder", "score_candidates"]

NAMED_WEIGHT: Final = 0.3
"""Share of the score for a passage that holds what the question names, where the question names something."""

LEAST_SPREAD: Final = 1e-3
"""Standard deviation of scores below which they count as equal."""

Floats: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.intp]

TieOrder: TypeAlias = Callable[[Places], Places]
"""For some places, in ascending order, where each comes among them by document and position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankOptions:
    """How to rank; `RetrievalOptions` says what each means. The weight was chosen by benchmarks/quality."""

    mode: SearchMode = SearchMode.HYBRID
    fusion: Fusion = Fusion.SCORES
    dense_weight: float = 0.75
    diversity: float = 0.0
    fold_copies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Places of candidates, best first, and by place their scores (0 to 1) and ranks from 1; 0 is no rank."""

    order: Places
    score: Floats
    vector_rank: Places
    text_rank: Places


def score_candidates(
    similarities: Floats | None, matches: Matches, options: RankOptions, tie_order: TieOrder
) -> Scored:
    """`similarities` are cosines, None where the search is by words alone. With SearchMode.TEXT only what shares a term
    with the question is in the order."""
    words = matches.score
    matching = np.flatnonzero(words > 0)
    text_order = matching[_order(words[matching], lambda places: tie_order(matching[places]))]
    near = np.zeros(len(words)) if similarities is None else similarities
    vector_order = np.empty(0, np.intp) if options.mode is SearchMode.TEXT else _order(near, tie_order)
    vector_rank, text_rank = (_ranks(order, len(words)) for order in (vector_order, text_order))
    meaning = np.maximum(near, 0.0)
    if options.mode is SearchMode.TEXT:
        score, order = words, text_order
    else:
        if options.mode is SearchMode.VECTOR:
            score, text_rank = meaning, np.zeros_like(text_rank)
        elif options.fusion is Fusion.RECIPROCAL_RANK:
            score = _reciprocal(vector_order, text_order, len(words))
        else:
            score = _fused(meaning, matches, options.dense_weight)
        order = _order(score, tie_order)
    return Scored(order=order, score=np.minimum(score, 1.0), vector_rank=vector_rank, text_rank=text_rank)


def _fused(meaning: Floats, matches: Matches, dense_weight: float) -> Floats:
    """The weighted mean of meaning and words, and of what the question names where a passage holds that."""
    share = _share_of_meaning(meaning, matches.score, dense_weight)
    named = NAMED_WEIGHT if matches.named.any() else 0.0
    return (1 - named) * (share * meaning + (1 - share) * matches.score) + named * matches.named


def _share_of_meaning(meaning: Floats, words: Floats, dense_weight: float) -> float:
    """The weight of the similarities, so that they count `dense_weight` were both scores spread alike."""
    near, held = (max(float(scores.std()), LEAST_SPREAD) if len(scores) else 1.0 for scores in (meaning, words))
    return dense_weight / near / (dense_weight / near + (1 - dense_weight) / held)


def _reciprocal(vector_order: Places, text_order: Places, count: int) -> Floats:
    best = 2 / (SMOOTHING + 1)
    score = np.zeros(count)
    for one in reciprocal_rank_fusion(vector_order.tolist(), text_order.tolist()):
        score[one.key] = one.score / best
    return score


def _order(scores: Floats, tie_order: TieOrder) -> Places:
    """Places, best first; equal scores by document and position."""
    order = np.argsort(-scores, kind="stable")
    placed = scores[order]
    like_next = placed[1:] == placed[:-1]
    if like_next.any():
        tied = np.append(like_next, False) | np.append(False, like_next)
        places = np.sort(order[tied])
        order[tied] = places[np.lexsort((tie_order(places), -scores[places]))]
    return order


def _ranks(order: Places, count: int) -> Places:
    ranks = np.zeros(count, np.intp)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks
