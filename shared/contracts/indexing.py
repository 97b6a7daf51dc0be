"""What the scheduler and the retriever agree on: how a change of the index is asked for, and what came of it.

A change names one object in the `vectors` bucket that holds the passages of all its documents with their vectors, so
the message stays small whatever the size of the documents.
"""

import hashlib
from collections.abc import Mapping

from pydantic import JsonValue, TypeAdapter

from shared.contracts.envelope import Passage, Query
from shared.contracts.results import IndexOutcome, IndexSummary
from shared.contracts.wire import Wire

__all__ = [
    "DocumentPermissions",
    "IndexChange",
    "IndexedDocumentRef",
    "decode_passages",
    "encode_passages",
    "index_outcome",
    "summary_of",
]

_passages: TypeAdapter[tuple[Passage, ...]] = TypeAdapter(tuple[Passage, ...])


class DocumentPermissions(Wire):
    """Who may see a document: the principals that it lists, None for everybody. The greater `revision` wins."""

    id: str
    allowed: tuple[str, ...] | None = None
    revision: int


class IndexedDocumentRef(Wire):
    """One document to write; without passages it is removed. The greater `revision` wins, whenever it arrives.

    `allowed` are the principals that may see it, None for everybody, as the job `allowed_revision` has said; a later
    list that the index has stays.
    """

    id: str
    name: str
    version: str = ""
    revision: int
    allowed: tuple[str, ...] | None = None
    allowed_revision: int = -1


class IndexChange(Wire):
    """Parameters of the stop `index`: replace these documents in one commit, drop the whole table, or say what it
    holds.

    `restricted` are documents with a list. They are not among `documents`, so that a retriever of a version that knows
    no lists leaves them alone; the outcome says which it has taken. `permissions` change lists and nothing else.

    With a `dimension`, that of the collection's vectors, a table that is not there is made also where all documents are
    to be removed, so that the removals hold against earlier changes that arrive later.
    """

    table: str
    documents: tuple[IndexedDocumentRef, ...] = ()
    restricted: tuple[IndexedDocumentRef, ...] = ()
    permissions: tuple[DocumentPermissions, ...] = ()
    object: str | None = None
    dimension: int | None = None
    drop: bool = False
    inspect: bool = False

    def as_params(self) -> dict[str, JsonValue]:
        params: dict[str, JsonValue] = self.model_dump(mode="json")
        return params


def index_outcome(query: Query) -> IndexOutcome:
    """What the stage `index` has made of a change. Raises pydantic.ValidationError for an outcome that is not one."""
    if query.results is not None and query.results.index is not None:
        return query.results.index
    return IndexOutcome.model_validate(query.notes.get("index", {}))  # from a retriever of the version before


def summary_of(revisions: Mapping[str, int]) -> IndexSummary:
    """The summary of documents, each by its id and revision. In any order it is the same."""
    digests = (hashlib.sha256(f"{document}:{revision}".encode()).digest() for document, revision in revisions.items())
    total = sum(int.from_bytes(digest[:16], "big") for digest in digests) % 2**128
    return IndexSummary(documents=len(revisions), digest=f"{total:032x}")


def encode_passages(passages: tuple[Passage, ...]) -> bytes:
    return _passages.dump_json(passages)


def decode_passages(data: bytes) -> tuple[Passage, ...]:
    """Raises pydantic.ValidationError."""
    return _passages.validate_json(data)
