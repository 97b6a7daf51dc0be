"""Schema evolution: new metadata keys become columns. In a collection each key has one type."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.retriever.stores.base import IndexedDocument
from services.retriever.stores.columns import Column, ColumnType
from shared.contracts.problems import Problem, ProblemType

__all__ = ["SchemaChange", "plan_columns"]

MAX_KEYS = 256


@dataclass(slots=True)
class SchemaChange:
    """The documents that match the columns, the problems of the others (by id), and the columns to add (by key)."""

    accepted: list[IndexedDocument] = field(default_factory=list)
    refused: dict[str, Problem] = field(default_factory=dict)
    missing: dict[str, ColumnType] = field(default_factory=dict)


def plan_columns(documents: Iterable[IndexedDocument], columns: Mapping[str, Column]) -> SchemaChange:
    """Where two documents disagree on a new key, the first decides its type."""
    result = SchemaChange()
    for document in documents:
        known = {key: column.type for key, column in columns.items()} | result.missing
        try:
            added = _added(document, known)
        except Problem as problem:
            result.refused[document.id] = problem
        else:
            result.accepted.append(document)
            result.missing |= added
    return result


def _added(document: IndexedDocument, known: Mapping[str, ColumnType]) -> dict[str, ColumnType]:
    """The keys that only this document has. Raises Problem(INVALID_METADATA) where it does not fit."""
    added: dict[str, ColumnType] = {}
    for chunk in document.chunks:
        for key, value in chunk.metadata.items():
            given = ColumnType.of(value)
            expected = known.get(key) or added.setdefault(key, given)
            if given is not expected:
                what = f"has a {given.value} as {key}, which holds a {expected.value} in this collection"
                raise _problem(document, what, field=key, expected=expected.value)
    if added and len(known) + len(added) > MAX_KEYS:
        raise _problem(document, f"brings new metadata keys, but a collection has at most {MAX_KEYS}")
    return added


def _problem(document: IndexedDocument, what: str, **extras: Any) -> Problem:
    return Problem(
        ProblemType.INVALID_METADATA, f"The document {document.name} {what}.", document=document.name, **extras
    )
