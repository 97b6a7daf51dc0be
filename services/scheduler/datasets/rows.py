"""The rows of a data set, as they are kept while a job runs, and their hash."""

import hashlib
import json
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, JsonValue

from services.scheduler.datasets.examples import LeftOut, Origin

__all__ = ["Answer", "Mined", "Preference", "Row", "RowHash"]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class Row(_Row):
    """A question, a passage that answers it, and passages that look so and do not, the hardest first. `documents` are
    the names of all documents that answer it."""

    question: str
    positive: str
    negatives: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    origin: Origin


class Answer(_Row):
    """A question with its answer, and the passages to answer it from, as a prompt would show them.

    `sources` are the names of the passages' documents, and `cited` are the numbers, counted from 1, of the passages
    that answer the question.
    """

    question: str
    passages: tuple[str, ...]
    sources: tuple[str, ...]
    cited: tuple[int, ...]
    answer: str
    documents: tuple[str, ...] = ()
    origin: Origin


class Preference(_Row):
    """Two answers to a question from a `context` of passages: as a reader corrected it, and as it was. `passages`,
    `sources` and `cited` are as those of an `Answer`."""

    question: str
    context: str
    passages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    cited: tuple[int, ...] = ()
    chosen: str
    rejected: str
    documents: tuple[str, ...] = ()
    origin: Origin = Origin.FEEDBACK


class Mined(_Row):
    """What came of one example. `group` is that of its documents, `sources` is as `evaluate` reads it. `skipped` says
    of how many passages why they are no negatives. `taught` is the answer that a language model may learn from."""

    question: str
    group: str
    origin: Origin
    is_test: bool
    rows: tuple[Row, ...] = ()
    sources: tuple[str, ...] | dict[str, int] = ()
    answer: str | None = None
    taught: Answer | None = None
    preferences: tuple[Preference, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    skipped: dict[str, int] = {}


class RowHash:
    """The hash of a data set: of its rows in their order, whatever file format holds them."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, side: str, rows: Iterable[Row | Answer | Preference]) -> None:
        """Take in rows of a file, by its name without the suffix."""
        for row in rows:
            line: JsonValue = [side, row.model_dump(mode="json")]
            encoded = json.dumps(line, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
            self._hash.update(encoded + b"\n")

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
