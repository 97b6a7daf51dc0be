"""What the HTTP API says of a document's passages, as typed, immutable models."""

from sluice.api.base import Schema

__all__ = ["DocumentPassage", "PassagePage"]


class DocumentPassage(Schema):
    """A passage as the index has it. It may repeat the heading and the end of the passage before it."""

    position: int
    text: str


class PassagePage(Schema):
    """Consecutive passages of a document, which has `chunks` of them in all."""

    document: str = ""
    chunks: int = 0
    passages: tuple[DocumentPassage, ...] = ()
