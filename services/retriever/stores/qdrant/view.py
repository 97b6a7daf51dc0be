"""What a reader sees of the points of a table: those of one version, for these readers.

A commit writes its points beside those that it replaces, and marks these as ended by it. Neither counts before the
table's state names the commit. So every request with one view sees the same, whatever is committed meanwhile.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qdrant_client import models

from services.retriever.stores.base import Readers
from services.retriever.stores.qdrant.layout import (
    DOCUMENT_ID,
    READERS,
    SINCE,
    TABLE,
    UNTIL,
)
from services.retriever.stores.qdrant.state import TableState

__all__ = ["EVERYBODY", "View", "equals", "one_of", "readers_of"]

EVERYBODY = "*"
"""In the payload READERS of what everybody may see. No principal is called so."""


@dataclass(frozen=True, slots=True)
class View:
    """The points of a version of a table that these readers may see."""

    state: TableState
    readers: Readers = None

    def filter(self, *conditions: models.Condition) -> models.Filter:
        """Of the points that also meet these conditions."""
        must: list[models.Condition] = [equals(TABLE, self.state.id), *self._counts(), *conditions]
        if self.readers is not None:
            must.append(one_of(READERS, [EVERYBODY, *sorted(self.readers)]))
        return models.Filter(must=must, must_not=self._ignored() or None)

    def of_documents(self, ids: Iterable[str], *conditions: models.Condition) -> models.Filter:
        return self.filter(one_of(DOCUMENT_ID, list(ids)), *conditions)

    @property
    def given_up(self) -> list[int]:
        """The commits up to this version that did not end."""
        return [commit for commit in self.state.given_up if commit <= self.state.version]

    def _counts(self) -> list[models.Condition]:
        version = self.state.version
        begun = models.FieldCondition(key=SINCE, range=models.Range(lte=version))
        goes_on = models.FieldCondition(key=UNTIL, range=models.Range(gt=version))
        if not self.given_up:
            return [begun, goes_on]
        return [begun, models.Filter(should=[goes_on, one_of(UNTIL, self.given_up)])]

    def _ignored(self) -> list[models.Condition]:
        return [one_of(SINCE, self.given_up)] if self.given_up else []


def readers_of(allowed: Sequence[str] | None) -> list[str]:
    """The payload READERS of a document with this list."""
    return [EVERYBODY] if allowed is None else list(allowed)


def equals(field: str, value: str | int | bool) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchValue(value=value))


def one_of(field: str, values: list[str] | list[int]) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchAny(any=values))
