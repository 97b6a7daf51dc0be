"""Reciprocal rank fusion."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.ranking.fusion import reciprocal_rank_fusion

rankings = st.lists(st.lists(st.integers(0, 20), unique=True, max_size=15), max_size=4)


def test_the_score_is_the_sum_of_the_reciprocal_ranks() -> None:
    best, second, third = reciprocal_rank_fusion(["a", "b"], ["b", "c"])
    assert (best.key, best.ranks) == ("b", (2, 1))
    assert best.score == pytest.approx(1 / 62 + 1 / 61)
    assert (second.key, second.ranks, second.score) == ("a", (1, None), pytest.approx(1 / 61))
    assert (third.key, third.ranks, third.score) == ("c", (None, 2), pytest.approx(1 / 62))


def test_equal_scores_are_ordered_by_the_first_ranking() -> None:
    assert [f.key for f in reciprocal_rank_fusion(["a", "b"], ["b", "a"])] == ["a", "b"]
    assert [f.key for f in reciprocal_rank_fusion(["z"], ["a"])] == ["z", "a"]


def test_nothing_fuses_to_nothing() -> None:
    assert reciprocal_rank_fusion() == []
    assert reciprocal_rank_fusion([], []) == []


@given(rankings)
def test_every_item_appears_once_and_best_first(lists: list[list[int]]) -> None:
    fused = reciprocal_rank_fusion(*lists)
    assert sorted(f.key for f in fused) == sorted({key for ranking in lists for key in ranking})
    assert all(a.score >= b.score for a, b in itertools.pairwise(fused))


@given(st.lists(st.integers(), unique=True, max_size=15))
def test_one_ranking_keeps_its_order(ranking: list[int]) -> None:
    assert [f.key for f in reciprocal_rank_fusion(ranking)] == ranking
