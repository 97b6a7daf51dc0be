"""What every reranker promises."""

import asyncio

import pytest

from services.embedder.reranking.base import Reranker
from tests.harness.tiny_cross_encoder import THINGS, passage_about, question_about

pytestmark = pytest.mark.anyio

PASSAGES = [passage_about(thing, place="tower") for thing in THINGS]


async def scores(reranker: Reranker, question: str, passages: list[str]) -> list[float]:
    return (await reranker.score(question, passages, urgent=True)).scores


@pytest.mark.parametrize("thing", THINGS[::4])
async def test_the_passage_that_answers_is_the_best(reranker: Reranker, thing: str) -> None:
    found = await scores(reranker, question_about(thing), PASSAGES)
    assert max(range(len(found)), key=found.__getitem__) == THINGS.index(thing)


async def test_scores_are_from_0_to_1_and_in_the_order_of_the_passages(reranker: Reranker) -> None:
    question = question_about("drum")
    found = await scores(reranker, question, PASSAGES)
    assert len(found) == len(PASSAGES)
    assert all(0 <= score <= 1 for score in found)
    assert await scores(reranker, question, PASSAGES[::-1]) == pytest.approx(found[::-1], abs=1e-4)


async def test_a_pair_has_the_same_score_alone_and_beside_others(reranker: Reranker) -> None:
    question, texts = question_about("mirror"), [*PASSAGES[:3], "long " * 300]
    together = await scores(reranker, question, texts)
    alone = [(await scores(reranker, question, [text]))[0] for text in texts]
    assert alone == pytest.approx(together, abs=1e-4)


async def test_the_same_passage_twice_has_one_score(reranker: Reranker) -> None:
    first, second = await scores(reranker, question_about("drum"), [PASSAGES[3], PASSAGES[3]])
    assert first == pytest.approx(second, abs=1e-6)


async def test_odd_texts_have_a_score_too(reranker: Reranker) -> None:
    texts = ["", " ", "\ud800 broken", "a\x00b", "列車は八時に出ます。", "x" * 50_000]
    found = await scores(reranker, "\ud800?", texts)
    assert all(0 <= score <= 1 for score in found)


async def test_no_passages_have_no_scores(reranker: Reranker) -> None:
    assert await scores(reranker, "anything", []) == []
    assert reranker.costs("anything", []) == []


async def test_costs_are_one_number_a_passage(reranker: Reranker) -> None:
    costs = reranker.costs("question", PASSAGES)
    assert len(costs) == len(PASSAGES)
    assert all(cost >= 0 for cost in costs)


async def test_many_questions_are_scored_at_the_same_time(reranker: Reranker) -> None:
    asked = [question_about(thing) for thing in THINGS[:4]]
    found = await asyncio.gather(*(scores(reranker, question, PASSAGES) for question in asked))
    assert [max(range(len(one)), key=one.__getitem__) for one in found] == [0, 1, 2, 3]
