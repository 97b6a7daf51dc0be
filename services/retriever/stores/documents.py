"""Documents as every store takes them: what is checked of them, and the terms of their chunks."""

from collections.abc import Iterable

import numpy as np

from services.retriever.stores.base import IndexedDocument
from shared.analysis.languages import Language, detect_language
from shared.analysis.terms import document_terms
from shared.contracts.problems import Problem, ProblemType

__all__ = ["analyze", "as_unicode", "check_dimension", "check_vectors", "latest_of", "passage_terms"]

LANGUAGE = "language"
"""The metadata key by which a document says its language, as an ISO 639-1 code."""


def check_vectors(documents: Iterable[IndexedDocument]) -> int | None:
    """The dimension that the first vector has, None without chunks.

    Raises ValueError where the chunks break what the protocol asks for.
    """
    dimension: int | None = None
    for document in documents:
        positions = [chunk.position for chunk in document.chunks]
        if len(set(positions)) < len(positions) or any(position < 0 for position in positions):
            raise ValueError(f"the positions of document {document.id!r} repeat or are negative")
        for chunk in document.chunks:
            if chunk.vector.ndim != 1 or not len(chunk.vector) or not np.isfinite(chunk.vector).all():
                raise ValueError(f"document {document.id!r} has a vector that is empty or not finite")
            dimension = dimension or len(chunk.vector)
    return dimension


def check_dimension(given: int, expected: int) -> None:
    """Raise Problem(CONFLICT) where a vector does not fit the collection."""
    if given != expected:
        raise Problem(
            ProblemType.CONFLICT,
            f"The collection holds vectors of {expected} dimensions, but this one has {given}. "
            "Use the embedding model that the collection was made with, or index it anew.",
        )


def latest_of(documents: Iterable[IndexedDocument]) -> list[IndexedDocument]:
    """Of several documents with one id the last of the greatest revision."""
    latest: dict[str, IndexedDocument] = {}
    for document in documents:
        other = latest.get(document.id)
        if other is None or document.revision >= other.revision:
            latest[document.id] = document
    return list(latest.values())


def analyze(text: str, language: Language | None = None) -> str:
    """The terms of a text with a space between them."""
    return " ".join(document_terms(text, language))


def passage_terms(document: IndexedDocument) -> list[str]:
    """The terms of each chunk, in the language that the document says it is in or is found to be."""
    given = next((chunk.metadata.get(LANGUAGE) for chunk in document.chunks), None)
    known = {language.value for language in Language}
    if isinstance(given, str) and given[:2].lower() in known:
        language = Language(given[:2].lower())
    else:
        language = detect_language("\n".join(chunk.text[:1000] for chunk in document.chunks[:8]))
    return [analyze(as_unicode(chunk.text), language) for chunk in document.chunks]


def as_unicode(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot carry, replaced."""
    return text.encode("utf-8", "replace").decode()
