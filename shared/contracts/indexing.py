"""What the scheduler and the retriever agree on: how a change of the index is asked for, and what came of it.

A change names one object in the `vectors` bucket that holds the passages of all its documents with their vectors, so
the message stays small whatever the size of the documents.
"""

from pydantic import JsonValue, TypeAdapter

from shared.contracts.envelope import Passage, Wire
from shared.contracts.problems import ProblemDetails

__all__ = ["IndexChange", "IndexOutcome", "IndexedDocumentRef", "decode_passages", "encode_passages"]

_passages: TypeAdapter[tuple[Passage, ...]] = TypeAdapter(tuple[Passage, ...])


class IndexedDocumentRef(Wire):
    """One document to write; without passages it is removed. The greater `revision` wins, whenever it arrives."""

    id: str
    name: str
    version: str = ""
    revision: int


class IndexChange(Wire):
    """Parameters of the stop `index`: replace these documents in one commit, or drop the whole table."""

    table: str
    documents: tuple[IndexedDocumentRef, ...] = ()
    object: str | None = None
    drop: bool = False

    def as_params(self) -> dict[str, JsonValue]:
        params: dict[str, JsonValue] = self.model_dump(mode="json")
        return params


class IndexOutcome(Wire):
    """Note `index` of the envelope: the documents that were not written, by id."""

    superseded: tuple[str, ...] = ()
    refused: dict[str, ProblemDetails] = {}


def encode_passages(passages: tuple[Passage, ...]) -> bytes:
    return _passages.dump_json(passages)


def decode_passages(data: bytes) -> tuple[Passage, ...]:
    """Raises pydantic.ValidationError."""
    return _passages.validate_json(data)
