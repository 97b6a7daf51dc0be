"""What the HTTP API says of documents, as typed, immutable models."""

from pydantic import Field

from sluice.api.base import Metadata, Schema, Sent, Timestamp

__all__ = ["Document", "DocumentPage", "DocumentWarning"]


class DocumentWarning(Schema):
    """What of a document is not in the index, or was guessed: `detail` is a sentence for people."""

    kind: str = ""
    detail: str = ""


class Document(Schema):
    """A document in the index. `allowed` are the principals that may see it, None for everybody.

    `origin` is the folder or bucket that it was read from, as a URL; "" where it was uploaded.
    """

    id: str
    name: str
    sha256: str = ""
    bytes: int = 0
    chunks: int = 0
    media_type: Sent[str] = None
    metadata: Metadata = Field(default_factory=dict)
    indexed_at: Sent[Timestamp] = None
    warnings: tuple[DocumentWarning, ...] = ()
    allowed: tuple[str, ...] | None = None
    origin: str = ""


class DocumentPage(Schema):
    """One page of a listing; `next` is the `after` of the following page, or None at the end."""

    documents: tuple[Document, ...] = ()
    next: str | None = None
