"""The metrics of evaluations, against values worked out by hand."""

import math

import pytest

from services.scheduler.evaluation.metrics import (
    citation_precision,
    first_rank,
    mean,
    ndcg_at,
    percentile,
    recall_at,
    reciprocal_rank,
    token_f1,
)

RANKING = ["b", "a", "a", "c", "d"]


@pytest.mark.parametrize(
    ("k", "relevant", "expected"),
    [(1, {"a"}, 0.0), (2, {"a"}, 1.0), (3, {"a", "c"}, 0.5), (5, {"a", "c", "x", "y"}, 0.5), (9, {"d"}, 1.0)],
)
def test_recall_is_the_share_of_the_relevant_documents_among_the_first_k(k, relevant, expected):
    assert recall_at(k, RANKING, relevant) == expected


@pytest.mark.parametrize(("relevant", "rank", "value"), [({"b"}, 1, 1.0), ({"c", "d"}, 4, 0.25), ({"x"}, None, 0.0)])
def test_the_reciprocal_rank_is_that_of_the_first_relevant_document(relevant, rank, value):
    assert first_rank(RANKING, relevant) == rank
    assert reciprocal_rank(RANKING, relevant) == value


def test_ndcg_discounts_by_the_logarithm_of_the_rank():
    # a at 2 and c at 4, where 1 and 2 would be best.
    gained = 1 / math.log2(3) + 1 / math.log2(5)
    best = 1 / math.log2(2) + 1 / math.log2(3)
    assert ndcg_at(10, RANKING, {"a", "c"}) == pytest.approx(gained / best)
    assert ndcg_at(10, RANKING, {"a", "c"}) == pytest.approx(0.65092, abs=1e-5)


def test_ndcg_is_one_for_the_best_ranking_and_zero_for_one_without_relevant_documents():
    assert ndcg_at(10, ["a", "b", "x"], {"a", "b"}) == 1.0
    assert ndcg_at(10, RANKING, {"x"}) == 0.0
    assert ndcg_at(3, RANKING, {"c"}) == 0.0


def test_ndcg_at_k_is_one_when_more_are_relevant_than_k_can_hold():
    assert ndcg_at(2, ["a", "b"], {"a", "b", "c", "d"}) == 1.0


def test_a_second_passage_of_a_document_takes_a_place_and_gains_nothing():
    assert ndcg_at(10, ["a", "a", "b"], {"a", "b"}) == pytest.approx((1 + 0.5) / (1 + 1 / math.log2(3)))


@pytest.mark.parametrize(
    ("answer", "expected", "f1"),
    [
        ("The blue lamp.", "blue lamp", 1.0),
        ("It was Ottilie Brandt [1].", "Ottilie Brandt", 2 * (2 / 4) * 1 / (2 / 4 + 1)),
        ("oil oil oil", "oil", 0.5),
        ("nothing of the kind", "Ottilie Brandt", 0.0),
        ("", "Ottilie", 0.0),
        ("", "", 1.0),
        ("The [1, 2]", "a", 1.0),
    ],
)
def test_token_f1_is_the_overlap_of_words_without_case_punctuation_articles_and_citations(answer, expected, f1):
    assert token_f1(answer, expected) == pytest.approx(f1)


def test_citation_precision_is_the_share_of_relevant_citations_and_nothing_without_any():
    assert citation_precision(["a", "b", "a"], {"a"}) == pytest.approx(2 / 3)
    assert citation_precision([], {"a"}) is None


def test_percentiles_are_interpolated_between_the_closest_ranks():
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([1.0, 2.0, 3.0, 4.0], 95) == pytest.approx(3.85)
    assert percentile([7.0], 95) == 7.0
    assert (percentile([], 50), mean([])) == (0.0, 0.0)
