"""How deep to rerank: the candidates in the order of retrieval, as many as a time budget allows."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from services.embedder.reranking.base import Reranker, Scored

__all__ = ["BudgetedReranker"]

STEP_TOKENS: Final = 1024
"""Tokens of one step, on average: between two steps the budget is looked at."""

SMOOTHING: Final = 0.3
"""The weight of the newest step in the pace."""


class BudgetedReranker:
    """Scores passages best first, in steps, and stops before the step that would pass the budget.

    How long a step takes is estimated from those before it, of all questions: while many questions share the model,
    each gets less far. A step that takes longer all the same is left when the budget is over.
    """

    def __init__(
        self, reranker: Reranker, step_tokens: int = STEP_TOKENS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reranker = reranker
        self._step_tokens = step_tokens
        self._clock = clock
        self._seconds_per_token = 0.0

    async def score(self, question: str, passages: Sequence[str], *, seconds: float, urgent: bool = True) -> Scored:
        """Scores of the first passages, in their order: of all where `seconds` suffice, of none where they do not.

        Raises what the reranker raises.
        """
        ends = self._clock() + seconds
        scores: list[float] = []
        tokens = 0
        costs = self._reranker.costs(question, passages)
        for step in self._steps(costs):
            left = ends - self._clock()
            cost = sum(costs[step])
            if left <= 0:
                break
            if cost * self._seconds_per_token > left:
                if not scores:
                    # Nothing is measured where nothing is scored, so an estimate from one slow moment has to fade.
                    self._seconds_per_token *= 1 - SMOOTHING
                break
            began = self._clock()
            try:
                async with asyncio.timeout(left):
                    made = await self._reranker.score(question, passages[step], urgent=urgent)
            except TimeoutError:
                self._learn(cost, self._clock() - began)
                break
            self._learn(cost, self._clock() - began)
            scores += made.scores
            tokens += made.tokens
        return Scored(scores, tokens)

    def _steps(self, costs: Sequence[int]) -> Iterator[slice]:
        """The passages cut into steps of about as many tokens: at least one passage each, at most what a call takes."""
        first = total = 0
        for index, cost in enumerate(costs):
            if index > first and (total + cost > self._step_tokens or index - first == self._reranker.batch):
                yield slice(first, index)
                first, total = index, 0
            total += cost
        if first < len(costs):
            yield slice(first, len(costs))

    def _learn(self, cost: int, seconds: float) -> None:
        """A call has a cost of its own, so the pace of a small step is taken for that of a whole one."""
        if cost:
            pace = seconds / max(cost, self._step_tokens)
            known = self._seconds_per_token
            self._seconds_per_token = known + SMOOTHING * (pace - known) if known else pace
