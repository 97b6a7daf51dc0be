"""What the HTTP API says of collections and their versions, as typed, immutable models."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sluice.api.base import Schema, Sent, Timestamp, closed_set

__all__ = ["Collection", "CollectionPage", "CollectionVersion", "RetrievalOptions", "VersionCanary"]


class RetrievalOptions(BaseModel):
    """How passages are searched and ranked. Options that are None are left to the defaults."""

    model_config = ConfigDict(frozen=True, extra="allow", from_attributes=True)

    mode: Annotated[str, closed_set("hybrid", "vector", "text")] | None = None
    fusion: Annotated[str, closed_set("scores", "rrf")] | None = None
    dense_weight: Annotated[float, Field(ge=0, le=1)] | None = None
    diversity: Annotated[float, Field(ge=0, lt=1)] | None = None
    fold_copies: bool | None = None
    context: Annotated[int, Field(ge=0, le=8)] | None = None


class CollectionVersion(Schema):
    """One way in which a collection's documents are indexed and searched; chunk sizes are in tokens, None for the usual
    ones.

    `rerank_candidates` is how many passages the stage `rerank` chooses from, 0 where only a request or a pipeline asks
    it. The models are those of the store that embed and rerank, empty for the embedder's own; `release` is
    what it was released as with its settings of now. Its `job` has built it;
    `retired_at` is when it was last the live one.
    """

    name: str
    state: Annotated[str, closed_set("building", "ready", "following", "live", "retired", "leaving")] = ""
    documents: int = 0
    chunks: int = 0
    chunk_tokens: int | None = None
    chunk_overlap: int | None = None
    embedding_variant: str = "default"
    embedding_model: str = ""
    retrieval: RetrievalOptions = RetrievalOptions()
    rerank_candidates: int = 0
    rerank_model: str = ""
    adapter: str = ""
    release: str = ""
    created_at: Sent[Timestamp] = None
    retired_at: Timestamp | None = None
    job: str = ""


class VersionCanary(Schema):
    """A version that `percent` of the conversations are answered from, as long as its `job` watches it; of `shadow`
    percent it gets copies, whose answers nobody sees."""

    version: str
    percent: float
    shadow: float = 0.0
    job: str = ""


class Collection(Schema):
    """`version` is the live one of the `versions`, which are listed oldest first. `canary` is one that shares the
    questions with it."""

    name: str
    description: str = ""
    pipeline: str | None = None
    documents: int = 0
    chunks: int = 0
    created_at: Sent[Timestamp] = None
    version: str = ""
    canary: VersionCanary | None = None
    versions: tuple[CollectionVersion, ...] = ()


class CollectionPage(Schema):
    """One page of a listing; `next` is the `after` of the following page, or None at the end."""

    collections: tuple[Collection, ...] = ()
    next: str | None = None
