"""How passages are searched and ranked: the options of a request, of a pipeline's stop and of a collection."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, Field, JsonValue

from shared.contracts.wire import Wire

__all__ = ["NO_OPTIONS", "RERANK_CANDIDATES", "Fusion", "RetrievalFields", "RetrievalOptions", "SearchMode"]


RERANK_CANDIDATES: Final = 40
"""Passages that are retrieved for a stage rerank where nobody says how many."""

MOST_CONTEXT: Final = 8
"""Passages on each side of one."""


class SearchMode(StrEnum):
    """What a search ranks by."""

    HYBRID = "hybrid"
    """Meaning and words, fused."""
    VECTOR = "vector"
    """Meaning alone: the score is the cosine similarity, 0 where that is negative."""
    TEXT = "text"
    """Words alone: the score is the share of the question's words that the passage holds, by their BM25 weight."""


class Fusion(StrEnum):
    """How a hybrid search makes one ranking of two."""

    SCORES = "scores"
    """The weighted mean of the two scores."""
    RECIPROCAL_RANK = "rrf"
    """Reciprocal rank fusion, which reads the ranks alone."""


class RetrievalFields(BaseModel):
    """Options that are None are left to whoever decides next: the request, the pipeline, the collection, the defaults.

    `dense_weight` is the share of meaning in a fused score, 0 to 1. `diversity` is the share of novelty in the order
    of the passages (maximal marginal relevance), 0 to 1. `fold_copies` says whether copies and near-copies of one
    passage count once. `context` is how many passages of the same section, before and after each one that was found,
    may be joined to it.
    """

    mode: SearchMode | None = None
    fusion: Fusion | None = None
    dense_weight: Annotated[float, Field(ge=0, le=1)] | None = None
    diversity: Annotated[float, Field(ge=0, lt=1)] | None = None
    fold_copies: bool | None = None
    context: Annotated[int, Field(ge=0, le=MOST_CONTEXT)] | None = None

    def as_params(self) -> dict[str, JsonValue]:
        """The options that are chosen, as parameters of the stop `retrieve`."""
        return self.model_dump(mode="json", exclude_none=True)


class RetrievalOptions(RetrievalFields, Wire):
    """The options as services write them."""


NO_OPTIONS: Final = RetrievalOptions()
"""All options are left to others."""
