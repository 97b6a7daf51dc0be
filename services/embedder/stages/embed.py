"""The stage `embed`: adds the vector of the question, or the vectors of the passages."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from typing import Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from services.embedder.model.batches import EmbeddedText, EmbeddingBatches
from services.embedder.model.model import EmbeddingModel, Kind
from services.embedder.model.question_cache import Question, QuestionCache
from services.embedder.pool.stored_model import ModelKey, StoredModels
from services.embedder.stages.model_line import ModelLine
from shared.contracts.envelope import Lane, Query, Vector
from shared.contracts.models import OptionalModelName
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.device import SharedDevice
from shared.runtime.stage import Context
from shared.telemetry.metrics import TENANT_TOKENS, tenants

__all__ = ["STAGE", "EmbedParams", "Embedding", "Target"]

STAGE: Final = "embed"

QUESTION_SHARE: Final = 0.5
"""Of the question's own vector in that which is searched for, where the question is expanded."""


class Target(StrEnum):
    QUESTION = "question"
    PASSAGES = "passages"


class EmbedParams(BaseModel):
    """Parameters of the stop: what to embed, as what if not as what the target is called, and by which model of the
    store if not by the process's own."""

    model_config = ConfigDict(frozen=True)

    target: Target = Target.QUESTION
    kind: Kind | None = None
    model: OptionalModelName = ""


class Embedding:
    """Embeds with the process's own model, or with one of the tenant's in the store.

    Vectors of questions are kept in at most `cache_bytes`. The tokens of the texts, as the model counts them, go into
    `notes["embed_tokens"]`, also where their vectors were known. Of the interactive lane at most `room` queries wait
    for models to be loaded, so that there is room for the others.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        models: StoredModels | None = None,
        *,
        device: SharedDevice | None = None,
        cache_bytes: int = 0,
        room: int = 64,
    ) -> None:
        self._own = EmbeddingBatches(model, device or SharedDevice(STAGE))
        self._line = ModelLine(models, room=room)
        self._questions = QuestionCache[list[EmbeddedText]](
            cache_bytes, lambda made: sum(len(one.vector) for one in made)
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._own.running())
            yield self

    async def __call__(self, query: Query, context: Context) -> Query:
        try:
            params = EmbedParams.model_validate(context.params)
        except ValidationError as error:
            raise Problem(ProblemType.INVALID_REQUEST, f"Parameters of the stage 'embed': {error}") from None
        if params.target is Target.QUESTION:
            made = await self._of_question(query, params.kind or Kind.QUERY, params.model)
            first, *others = (one.vector for one in made)
            return _noted(query.with_embedding(_mixed(first, others) if others else first), made)
        texts = tuple(passage.text for passage in query.passages)
        made = await self._made(query, params.kind or Kind.PASSAGE, texts, params.model)
        passages = (
            passage.model_copy(update={"vector": one.vector}) for passage, one in zip(query.passages, made, strict=True)
        )
        return _noted(query.with_passages(passages), made)

    async def _of_question(self, query: Query, kind: Kind, model: str) -> list[EmbeddedText]:
        """Of the question, then of what was written about it."""
        if (expansion := query.expansion) is None:
            return await self._known(query, kind, (query.question,), model)
        made = await self._known(query, kind, (query.question, *expansion.paraphrases), model)
        if expansion.passage:
            made = made + await self._known(query, Kind.PASSAGE, (expansion.passage,), model)
        return made

    async def _known(self, query: Query, kind: Kind, texts: tuple[str, ...], model: str) -> list[EmbeddedText]:
        """Of texts that may have been asked before, or are asked for now."""
        question = Question(query.tenant, kind, texts, model)
        return await self._questions.get(question, query.lane, lambda: self._made(query, kind, texts, model))

    async def _made(self, query: Query, kind: Kind, texts: tuple[str, ...], model: str) -> list[EmbeddedText]:
        if model:
            async with self._line.use(ModelKey(query.tenant, model), urgent=query.lane is Lane.INTERACTIVE) as stored:
                made = await stored.batches.embed(texts, kind, tenant=query.tenant, lane=query.lane)
        else:
            made = await self._own.embed(texts, kind, tenant=query.tenant, lane=query.lane)
        TENANT_TOKENS.labels(tenants.label(query.tenant), "embed").inc(sum(one.tokens for one in made))
        return made


def _mixed(question: Vector, others: Sequence[Vector]) -> Vector:
    """A vector of length 1 between the question's and the mean of what was written about it."""
    rows = [np.frombuffer(vector, dtype="<f4") for vector in (question, *others)]
    mixed = QUESTION_SHARE * rows[0] + (1 - QUESTION_SHARE) * np.mean(rows[1:], axis=0)
    vector: Vector = (mixed / (np.linalg.norm(mixed) or 1.0)).astype("<f4").tobytes()
    return vector


def _noted(query: Query, made: Sequence[EmbeddedText]) -> Query:
    tokens = sum(one.tokens for one in made)
    return query.model_copy(update={"notes": {**query.notes, "embed_tokens": tokens}})
