"""How deep a time budget lets the candidates be scored."""

import asyncio
from collections.abc import Sequence

import pytest

from services.embedder.reranking.base import Scored
from services.embedder.reranking.budget import BudgetedReranker

pytestmark = pytest.mark.anyio

PASSAGES = [f"passage {number}" for number in range(10)]


class Clock:
    """Time that goes on only when a reranker works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class ConstantReranker:
    """Every passage costs 100 tokens and a second; passages in `known` cost nothing."""

    name = model = "constant"
    batch = 4

    def __init__(self, clock: Clock, known: Sequence[str] = ()) -> None:
        self._clock = clock
        self._known = known
        self.steps: list[int] = []
        self.stuck_at: str | None = None

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def costs(self, question: str, passages: Sequence[str]) -> list[int]:
        return [0 if text in self._known else 100 for text in passages]

    async def score(self, question: str, passages: Sequence[str], *, urgent: bool) -> Scored:
        if self.stuck_at in passages:
            await asyncio.Event().wait()
        costs = self.costs(question, passages)
        self._clock.now += sum(costs) / 100
        self.steps.append(len(passages))
        return Scored([0.5] * len(passages), sum(costs))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reranker(clock: Clock) -> ConstantReranker:
    return ConstantReranker(clock)


async def test_with_time_enough_every_passage_is_scored(clock: Clock, reranker: ConstantReranker) -> None:
    budgeted = BudgetedReranker(reranker, step_tokens=200, clock=clock)
    assert await budgeted.score("q", PASSAGES, seconds=100) == Scored([0.5] * 10, 1000)


async def test_a_step_that_would_pass_the_budget_does_not_start(clock: Clock, reranker: ConstantReranker) -> None:
    budgeted = BudgetedReranker(reranker, step_tokens=200, clock=clock)
    scored = await budgeted.score("q", PASSAGES, seconds=5.5)
    assert (len(scored.scores), clock.now) == (4, 4.0)


async def test_the_pace_of_one_question_decides_for_the_next(clock: Clock, reranker: ConstantReranker) -> None:
    budgeted = BudgetedReranker(reranker, step_tokens=200, clock=clock)
    await budgeted.score("q", PASSAGES[:2], seconds=100)
    assert await budgeted.score("q", PASSAGES, seconds=1.5) == Scored([], 0)


async def test_a_pace_that_lets_nothing_be_scored_is_tried_again(clock: Clock, reranker: ConstantReranker) -> None:
    budgeted = BudgetedReranker(reranker, step_tokens=200, clock=clock)
    await budgeted.score("q", PASSAGES[:2], seconds=100)
    clock.now += 100
    found = [len((await budgeted.score("q", PASSAGES, seconds=1.5)).scores) for _ in range(3)]
    assert found == [0, 2, 0], "a step of two passages takes two seconds"


async def test_a_short_first_call_says_nothing_of_a_long_one(clock: Clock, reranker: ConstantReranker) -> None:
    budgeted = BudgetedReranker(reranker, step_tokens=1000, clock=clock)
    await budgeted.score("canary", PASSAGES[:1], seconds=100)
    assert len((await budgeted.score("q", PASSAGES[:4], seconds=1.0)).scores) == 4


async def test_without_a_budget_nothing_is_computed(clock: Clock, reranker: ConstantReranker) -> None:
    assert await BudgetedReranker(reranker, clock=clock).score("q", PASSAGES, seconds=0) == Scored([], 0)
    assert reranker.steps == []


async def test_what_is_known_already_takes_no_budget(clock: Clock) -> None:
    reranker = ConstantReranker(clock, known=PASSAGES[:6])
    budgeted = BudgetedReranker(reranker, step_tokens=100, clock=clock)
    await budgeted.score("q", PASSAGES[6:7], seconds=100)
    assert len((await budgeted.score("q", PASSAGES, seconds=1.5)).scores) == 7


async def test_a_call_gets_no_more_passages_than_the_reranker_takes(clock: Clock, reranker: ConstantReranker) -> None:
    await BudgetedReranker(reranker, step_tokens=10_000, clock=clock).score("q", PASSAGES, seconds=100)
    assert reranker.steps == [4, 4, 2]


async def test_a_step_that_hangs_is_left_when_the_budget_is_over(clock: Clock, reranker: ConstantReranker) -> None:
    reranker.stuck_at = PASSAGES[4]
    budgeted = BudgetedReranker(reranker, step_tokens=400, clock=clock)
    assert len((await budgeted.score("q", PASSAGES, seconds=4.1)).scores) == 4
