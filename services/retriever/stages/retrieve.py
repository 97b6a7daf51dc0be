"""The stage `retrieve`: adds the passages that answer the question best."""

from typing import Any, Final

import numpy as np
from opentelemetry import trace
from pydantic import Field, JsonValue, ValidationError

from services.retriever.ranking.ranker import RankOptions
from services.retriever.stages.context import surroundings, within
from services.retriever.stages.owner import owner_of
from services.retriever.stores.base import Hit, Hits, Store
from shared.contracts.envelope import Passage, PassageCopy, Query
from shared.contracts.filters import parse, unguarded
from shared.contracts.principals import seen_by
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.results import SearchOutcome
from shared.contracts.retrieval import RetrievalOptions, SearchMode
from shared.runtime.stage import Context

__all__ = ["Retrieve", "RetrieveParams"]

DEFAULTS: Final[dict[str, Any]] = {"fold_copies": True}

CONTEXT: Final = 0
"""Chunks before and after each passage that may be joined to it, where nobody says how many. docs/generation.md has
what they do: for as many tokens, more passages do as much."""

LARGEST: Final = 512 * 1024
"""Bytes of an envelope up to which passages get their context: the broker takes twice as many in a message, and
characters that JSON escapes are counted as they are."""


class RetrieveParams(RetrievalOptions):
    """Parameters of the stop."""

    top_k: int = Field(5, ge=1, le=200)
    filter: JsonValue = None

    def ranking(self, *, embedded: bool) -> RankOptions:
        """How to rank; without an embedding by words alone."""
        chosen = self.model_dump(include=set(RetrievalOptions.model_fields) - {"context"}, exclude_none=True)
        return RankOptions(**(DEFAULTS | chosen | ({} if embedded else {"mode": SearchMode.TEXT})))


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
        owner, readers = owner_of(query), seen_by(query.principals)
        hits = await self._store.search(
            query.collection,
            query.question,
            vector,
            top_k=params.top_k,
            filter=parse(wanted) if (wanted := unguarded(params.filter)) else None,
            options=params.ranking(embedded=vector is not None),
            owner=owner,
            readers=readers,
        )
        if not hits and not await self._store.count(query.collection, owner=owner, readers=readers):
            raise Problem(
                ProblemType.COLLECTION_EMPTY,
                "The collection holds no documents yet. Add some with `sluice ingest PATH` or "
                "POST /v1/collections/{collection}/documents, and wait for the job to end.",
            )
        trace.get_current_span().set_attribute("sluice.passages", len(hits))
        found = query.with_passages(map(_passage, hits)).with_search(SearchOutcome(absent=hits.absent))
        return await self._with_context(found, hits, CONTEXT if params.context is None else params.context)

    async def _with_context(self, query: Query, hits: Hits, reach: int) -> Query:
        """With what stands around the passages, as far as the message stays small."""
        if not reach:
            return query
        contexts = await surroundings(
            self._store, query.collection, hits, reach, owner=owner_of(query), readers=seen_by(query.principals)
        )
        room = LARGEST - len(query.encode())
        return query.with_passages(
            passage.model_copy(update={"context": context}) if context else passage
            for passage, context in zip(query.passages, within(contexts, room), strict=True)
        )


def _passage(hit: Hit) -> Passage:
    return Passage(
        id=hit.id,
        document_id=hit.document_id,
        document=hit.document,
        position=hit.position,
        text=hit.text,
        score=hit.score,
        similarity=hit.similarity,
        coverage=hit.coverage,
        copies=tuple(
            PassageCopy(document_id=copy.document_id, document=copy.document, position=copy.position)
            for copy in hit.copies
        ),
        section=hit.section,
        metadata=dict(hit.metadata),
    )
