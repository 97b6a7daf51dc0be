"""What a data set holds, as typed, immutable models."""

from typing import Any

from pydantic import Field

from sluice.api.base import Schema

__all__ = ["DatasetManifest", "DatasetSide"]


class DatasetSide(Schema):
    """Counts of the training or of the test data: a row is a question with one of the documents that answer it, and
    questions that share documents are one group. `answers` and `preferences` are what a language model may learn from.
    `origins` counts questions by where they come from."""

    rows: int = 0
    questions: int = 0
    negatives: int = 0
    documents: int = 0
    groups: int = 0
    answers: int = 0
    preferences: int = 0
    origins: dict[str, int] = Field(default_factory=dict)


class DatasetManifest(Schema):
    """A data set: the `hash` of its rows, which the same data have again, and what it is made of.

    `negatives` are the options of the search for hard negatives. `left_out` counts by why something was left out, and
    `skipped` the passages that are no negatives. `sources` are the sets of questions with their digests, and `feedback`
    says how many `records` there were, of the time from `since` to `until` (Unix seconds); None without feedback.
    """

    job: str
    hash: str
    collection: str
    version: str = ""
    seed: int = 0
    test_share: float = 0.0
    negatives: dict[str, float] = Field(default_factory=dict)
    train: DatasetSide = DatasetSide()
    test: DatasetSide = DatasetSide()
    preferences: int = 0
    documents: int = 0
    left_out: dict[str, int] = Field(default_factory=dict)
    skipped: dict[str, int] = Field(default_factory=dict)
    sources: tuple[dict[str, Any], ...] = ()
    feedback: dict[str, float | None] | None = None
