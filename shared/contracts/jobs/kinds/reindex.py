"""The kind `reindex`: a new version of a collection."""

from typing import Literal

from pydantic import Field

from shared.contracts.collections import VersionName
from shared.contracts.envelope import Name
from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action
from shared.contracts.models import OptionalModelName
from shared.contracts.retrieval import RetrievalOptions

__all__ = ["ReindexSpec"]


class ReindexSpec(JobSpec):
    """Build a new version of a collection beside the live one, with other chunking, another embedding variant, other
    models of the store or other options of retrieval. A model that is empty is the embedder's own.

    What is left out stays as it is in the live one. With `switch` the new one becomes the live one in the end;
    otherwise a `switch` job makes it so. `keep` is how many versions stay for a rollback, and how many of those that
    were never live. A collection whose index and records do not agree is left alone, unless `force` is set: then the
    new version has what the records name.
    """

    required_action = Action.WRITE
    step_outputs = {"version": "text", "documents": "number", "chunks": "number", "live": "boolean", "previous": "text"}

    kind: Literal["reindex"] = "reindex"
    collection: str
    version: VersionName | None = None
    chunk_tokens: int | None = Field(None, ge=32, le=8192)
    chunk_overlap: int | None = Field(None, ge=0)
    embedding_variant: Name | None = None
    embedding_model: OptionalModelName | None = None
    retrieval: RetrievalOptions | None = None
    rerank_model: OptionalModelName | None = None
    adapter: OptionalModelName | None = None
    switch: bool = True
    keep: int = Field(1, ge=0, le=20)
    force: bool = False
