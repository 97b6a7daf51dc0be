"""The stage `rerank`: puts the passages that answer the question best first."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Final, NamedTuple, Self

from opentelemetry.trace import Span
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.embedder.pool.stored_model import ModelKey, StoredModels
from services.embedder.reranking import Reranker, Scored
from services.embedder.reranking.budget import BudgetedReranker
from services.embedder.reranking.metrics import RERANKED_PASSAGES
from services.embedder.stages.model_line import ModelLine
from shared.contracts.envelope import Lane, Passage, Query
from shared.contracts.models import ModelKind, OptionalModelName
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.device import SharedDevice
from shared.runtime.stage import Context
from shared.telemetry.metrics import TENANT_TOKENS, tenants
from shared.telemetry.tracing import tracer

__all__ = ["RerankParams", "Reranking", "merge"]

LATER_STAGES: Final = 0.5
"""The share of the time to the deadline that is left to the stages after this one."""


class RerankParams(BaseModel):
    """Parameters of the stop. `top_k` is how many passages to keep, all without it; `budget` is in seconds. `model` is
    a model of the store that reranks instead of the process's own reranker."""

    model_config = ConfigDict(frozen=True)

    top_k: int | None = Field(None, ge=1)
    budget: float | None = Field(None, ge=0)
    model: OptionalModelName = ""


class _Scorer(NamedTuple):
    """What reranks, by its model's name, and the share of retrieval in its scores."""

    model: str
    reranker: BudgetedReranker
    retrieval_weight: float


class Reranking:
    """Scores the passages in the order of retrieval, as many as its time budget allows; the rest stay below in theirs.

    The budget is the stop's, else `budget` seconds; half of the time to the query's deadline is left to later stages.
    `retrieval_weight` is the share of the retrieval score in the score of a passage; `retrieval_score` keeps the
    former. `notes["rerank"]` says how many of how many were scored, by which model, and with how many tokens. A stop
    that names a model of the store is reranked by it; `stored_weights` are the shares of retrieval then. Of `room`
    queries a half may wait for such models to be loaded.
    """

    def __init__(
        self,
        reranker: Reranker,
        models: StoredModels | None = None,
        *,
        budget: float,
        retrieval_weight: float = 0.0,
        stored_weights: Mapping[ModelKind, float] | None = None,
        room: int = 16,
    ) -> None:
        self._reranker = reranker
        self._own = _Scorer(reranker.model, BudgetedReranker(reranker), retrieval_weight)
        self._line = ModelLine(models, room=room)
        self._budget = budget
        self._stored_weights = stored_weights or {}
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
        if not params.model:
            return await self._reranked(query, params, self._own)
        key = ModelKey(query.tenant, params.model)
        async with self._line.use(key, urgent=query.lane is Lane.INTERACTIVE) as stored:
            weight = self._stored_weights.get(stored.kind, 0.0)
            return await self._reranked(query, params, _Scorer(stored.name, stored.budgeted, weight))

    async def _reranked(self, query: Query, params: RerankParams, scorer: _Scorer) -> Query:
        passages = query.passages
        with self._device.used(query.tenant), _span(scorer.model, len(passages)) as span:
            scored = await scorer.reranker.score(
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
        merged = merge(passages, scored.scores, scorer.retrieval_weight)
        return _noted(query.with_passages(merged[: params.top_k]), len(passages), scored, scorer.model)

    def _seconds(self, query: Query, params: RerankParams) -> float:
        budget = self._budget if params.budget is None else params.budget
        left = query.remaining * (1 - LATER_STAGES) if len(query.slip) > 1 else query.remaining
        return max(0.0, min(budget, left))


def _noted(query: Query, candidates: int, scored: Scored, model: str) -> Query:
    note = {"model": model, "candidates": candidates, "scored": len(scored.scores), "tokens": scored.tokens}
    return query.model_copy(update={"notes": {**query.notes, "rerank": note}})


def _span(model: str, passages: int) -> AbstractContextManager[Span]:
    attributes: dict[str, str | int] = {
        "gen_ai.operation.name": "rerank",
        "gen_ai.provider.name": "sluice",
        "gen_ai.request.model": model,
        "sluice.passages": passages,
    }
    return tracer.start_as_current_span(f"rerank {model}", attributes=attributes)


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
