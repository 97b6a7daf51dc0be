"""What a document says about itself, as the fields of its collection want it."""

from dataclasses import dataclass, replace
from typing import Any

from shared.contracts.documents import Document
from shared.contracts.envelope import Passage
from shared.contracts.problems import ProblemDetails, ProblemType
from shared.contracts.warnings import DocumentWarning, WarningKind

__all__ = ["ReadyDocument", "fit_types"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyDocument:
    """A document that is ready for the index."""

    record: Document
    passages: tuple[Passage, ...]


def fit_types(document: ReadyDocument, refused: ProblemDetails) -> ReadyDocument | None:
    """The document without the type that its collection refuses, where the field is of its own making.

    Such a field (`page`, `title`) becomes text where the collection holds text, and is left out of the metadata
    elsewhere, with a warning. None where the sender has set the field, or the problem is another one.
    """
    about: dict[str, Any] = refused.model_extra or {}
    field, expected = about.get("field"), about.get("expected")
    if refused.type != ProblemType.INVALID_METADATA.uri or not isinstance(field, str) or not isinstance(expected, str):
        return None
    if field in document.record.metadata or not any(field in passage.metadata for passage in document.passages):
        return None
    passages = tuple(_without(passage, field, as_text=expected == "string") for passage in document.passages)
    record = document.record
    if expected != "string":
        detail = f"Its {field} is not in the metadata: the field holds a {expected} in this collection."
        warning = DocumentWarning(kind=WarningKind.SKIPPED_PART, detail=detail)
        record = record.model_copy(update={"warnings": (*record.warnings, warning)})
    return replace(document, record=record, passages=passages)


def _without(passage: Passage, field: str, *, as_text: bool) -> Passage:
    metadata = dict(passage.metadata)
    value = metadata.pop(field, None)
    if as_text and value is not None:
        metadata[field] = value if isinstance(value, str) else str(value).lower()
    return passage.model_copy(update={"metadata": metadata})
