"""The stage `rerank`: puts the passages that answer the question best first."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Final, Self

from opentelemetry.trace import Span
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.embedder.reranking import Reranker, Scored
from services.embedder.reranking.budget import BudgetedReranker
from services.embedder.reranking.metrics import RERANKED_PASSAGES
from shared.contracts.envelope import Lane, Passage, Query
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.device import SharedDevice
from shared.runtime.stage import Context
from shared.telemetry.metrics import TENANT_TOKENS, tenants
from shared.telemetry.tracing import tracer

__all__ = ["RerankParams", "Reranking", "merge"]

LATER_STAGES: Final = 0.5
"""The share of the time to the deadline that is left to the stages after this one."""


class RerankParams(BaseModel):
    """Parameters of the stop. `top_k` is how many passages to keep, all without it; `budget` is in seconds."""

    model_config = ConfigDict(frozen=True)

    top_k: int | None = Field(None, ge=1)
    budget: float | None = Field(None, ge=0)


class Reranking:
    """Scores the passages in the order of retrieval, as many as its time budget allows; the rest stay below in theirs.

    The budget is the stop's, else `budget` seconds; half of the time to the query's deadline is left to later stages.
    `retrieval_weight` is the share of the retrieval score in the score of a passage; `retrieval_score` keeps the
    former. `notes["rerank"]` says how many of how many were scored, by which model, and with how many tokens.
    """

    def __init__(self, reranker: Reranker, *, budget: float, retrieval_weight: float = 0.0) -> None:
        self._reranker = reranker
        self._budgeted = BudgetedReranker(reranker)
        self._budget = budget
        self._retrieval_weight = retrieval_weight
        self._device = SharedDevice("rerank")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start the reranker, and close it at the end of the block."""
        try:
            await self._reranker.start()
            yield self
        finally:
            await self._reranker.close()

    async def __call__(self, query: Query, context: Context) -> Query:
        try:
            params = RerankParams.model_validate(context.params)
        except ValidationError as error:
            raise Problem(ProblemType.INVALID_REQUEST, f"Parameters of the stage 'rerank': {error}") from None
        passages = query.passages
        with self._device.used(query.tenant), self._span(len(passages)) as span:
            scored = await self._budgeted.score(
                query.question,
                [passage.text for passage in passages],
                seconds=self._seconds(query, params),
                urgent=query.lane is Lane.INTERACTIVE,
            )
            span.set_attribute("gen_ai.usage.input_tokens", scored.tokens)
            span.set_attribute("sluice.passages.scored", len(scored.scores))
        RERANKED_PASSAGES.labels("scored").inc(len(scored.scores))
        RERANKED_PASSAGES.labels("unscored").inc(len(passages) - len(scored.scores))
        TENANT_TOKENS.labels(tenants.label(query.tenant), "rerank").inc(scored.tokens)
        merged = merge(passages, scored.scores, self._retrieval_weight)
        return self._noted(query.with_passages(merged[: params.top_k]), len(passages), scored)

    def _seconds(self, query: Query, params: RerankParams) -> float:
        budget = self._budget if params.budget is None else params.budget
        left = query.remaining * (1 - LATER_STAGES) if len(query.slip) > 1 else query.remaining
        return max(0.0, min(budget, left))

    def _noted(self, query: Query, candidates: int, scored: Scored) -> Query:
        note = {
            "model": self._reranker.model,
            "candidates": candidates,
            "scored": len(scored.scores),
            "tokens": scored.tokens,
        }
        return query.model_copy(update={"notes": {**query.notes, "rerank": note}})

    def _span(self, passages: int) -> AbstractContextManager[Span]:
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "rerank",
            "gen_ai.provider.name": "sluice",
            "gen_ai.request.model": self._reranker.model,
            "sluice.passages": passages,
        }
        return tracer.start_as_current_span(f"rerank {self._reranker.model}", attributes=attributes)


def merge(passages: Sequence[Passage], scores: Sequence[float], retrieval_weight: float) -> tuple[Passage, ...]:
    """The passages, of which the first have scores, best first; those without scores follow in their order.

    Passages of equal scores keep their order. The score of a passage without one is at most the lowest before it, so
    that scores never rise. With any score, every passage keeps that of retrieval as `retrieval_score`.
    """
    if not scores:
        return tuple(passages)
    mixed = retrieval_weight if any(passage.score for passage in passages) else 0.0
    first = [
        passage.model_copy(
            update={"score": mixed * passage.score + (1 - mixed) * score, "retrieval_score": passage.score}
        )
        for passage, score in zip(passages, scores, strict=False)
    ]
    first.sort(key=lambda passage: -passage.score)
    lowest = first[-1].score
    rest = (
        passage.model_copy(update={"score": min(lowest, passage.score), "retrieval_score": passage.score})
        for passage in passages[len(scores) :]
    )
    return (*first, *rest)
