"""What the stage does with the scores."""

from services.embedder.stages.rerank import merge
from shared.contracts.envelope import Passage


def passage(name: str, score: float) -> Passage:
    return Passage(id=name, document_id=name, document=name, position=0, text=name, score=score)


FOUND = [passage("a", 0.9), passage("b", 0.8), passage("c", 0.7), passage("d", 0.6)]


def names(passages: tuple[Passage, ...]) -> str:
    return "".join(passage.id for passage in passages)


def test_the_best_come_first_and_keep_the_score_of_retrieval() -> None:
    merged = merge(FOUND, [0.1, 0.4, 0.3, 0.2], 0)
    assert names(merged) == "bcda"
    assert [(p.score, p.retrieval_score) for p in merged][:2] == [(0.4, 0.8), (0.3, 0.7)]


def test_passages_without_a_score_stay_below_in_their_order() -> None:
    merged = merge(FOUND, [0.2, 0.5], 0)
    assert names(merged) == "bacd"
    assert [p.score for p in merged] == [0.5, 0.2, 0.2, 0.2]
    assert merged[2].retrieval_score == 0.7


def test_equal_scores_leave_the_order_as_it_was() -> None:
    assert names(merge(FOUND, [0.5, 0.5, 0.6, 0.5], 0)) == "cabd"


def test_the_score_of_retrieval_may_have_a_share() -> None:
    merged = merge(FOUND, [0.1, 0.2, 0.3, 0.4], 0.9)
    assert names(merged) == "abcd"
    assert abs(merged[0].score - (0.9 * 0.9 + 0.1 * 0.1)) < 1e-9


def test_texts_that_no_search_has_scored_have_the_reranker_s_score_alone() -> None:
    assert merge([passage("a", 0), passage("b", 0)], [0.3, 0.4], 0.9)[0].score == 0.4


def test_without_scores_nothing_changes() -> None:
    assert merge(FOUND, [], 0.5) == tuple(FOUND)
