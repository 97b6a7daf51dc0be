"""The stage `retrieve`: adds the passages that answer the question best."""

import numpy as np
from opentelemetry import trace
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from services.retriever.stores.base import Hit, Mode, Store
from shared.contracts.envelope import Passage, Query
from shared.contracts.filters import parse
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context

__all__ = ["RetrieveParams", "Retrieve"]


class RetrieveParams(BaseModel):
    """Parameters of the stop."""

    model_config = ConfigDict(frozen=True)

    top_k: int = Field(5, ge=1, le=200)
    filter: JsonValue = None
    mode: Mode = Mode.HYBRID


class Retrieve:
    """Searches one store. Without an embedding in the envelope it searches by words alone."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self, query: Query, context: Context) -> Query:
        try:
            params = RetrieveParams.model_validate(context.params)
        except ValidationError as error:
            raise Problem(ProblemType.INVALID_REQUEST, f"Parameters of the stage 'retrieve': {error}") from None
        vector = np.frombuffer(query.embedding, dtype="<f4") if query.embedding else None
        hits = await self._store.search(
            query.collection,
            query.question,
            vector,
            top_k=params.top_k,
            filter=parse(params.filter) if params.filter else None,
            mode=params.mode if vector is not None else Mode.TEXT,
        )
        if not hits and not await self._store.count(query.collection):
            raise Problem(
                ProblemType.COLLECTION_EMPTY,
                "The collection holds no documents yet. Add some with `sluice ingest PATH` or "
                "POST /v1/collections/{collection}/documents, and wait for the job to end.",
            )
        trace.get_current_span().set_attribute("sluice.passages", len(hits))
        return query.with_passages(_passage(hit) for hit in hits)


def _passage(hit: Hit) -> Passage:
    return Passage(
        id=hit.id,
        document_id=hit.document_id,
        document=hit.document,
        position=hit.position,
        text=hit.text,
        score=hit.score,
        metadata=dict(hit.metadata),
    )
