"""The kind `dataset`: data to train and test models on, of feedback, question sets and a collection."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.contracts.collections import VersionName
from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action

__all__ = ["DatasetSpec"]

ArtifactName = Annotated[str, Field(min_length=1, max_length=200)]


class DatasetSpec(JobSpec):
    """Make training and test data of what readers said, of sets of questions, and of the collection itself.

    `questions` name artifacts: JSONL as for `evaluate`, also those of `generate_questions`. With `feedback` what
    readers said of answers from this collection is used too: all of it, or since a day (UTC), or of the last `days`.
    Each question gets up to `negatives` passages that look right and are not: those ranked from `range_min` to
    `range_max` whose similarity is at most that of the right passage times 1 - `relative_margin`. `test_share` of the
    documents, by `seed`, are for the test data alone. At most `limit` questions are used. `version` is the one whose
    passages are taken, in place of the live one.
    """

    required_action = Action.QUERY
    is_run = True
    main_metrics = ("train", "test", "preferences")
    reads_feedback = True
    step_outputs = {
        "hash": "text",
        "train": "number",
        "test": "number",
        "questions": "number",
        "documents": "number",
        "answers": "number",
        "preferences": "number",
        "negatives": "number",
        "feedback": "number",
        "synthetic": "number",
        "left_out": "number",
        "version": "text",
        "message": "text",
    }

    kind: Literal["dataset"] = "dataset"
    collection: str
    questions: Annotated[tuple[ArtifactName, ...], Field(max_length=20)] = ()
    feedback: bool = True
    since: date | None = None
    days: int | None = Field(None, ge=1, le=3_660)
    version: VersionName | None = None
    negatives: int = Field(4, ge=0, le=16)
    relative_margin: float = Field(0.05, ge=0, lt=1)
    range_min: int = Field(0, ge=0, le=100)
    range_max: int = Field(50, ge=1, le=200)
    test_share: float = Field(0.3, ge=0.05, le=0.9)
    seed: int = Field(0, ge=0, lt=2**32)
    limit: int = Field(10_000, ge=1, le=50_000)
    concurrency: int = Field(8, ge=1, le=256)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not (self.feedback or self.questions):
            raise ValueError("without feedback a data set needs 'questions'")
        if len(set(self.questions)) < len(self.questions):
            raise ValueError("each set of questions is named once")
        if not self.feedback and (self.since is not None or self.days is not None):
            raise ValueError("'since' and 'days' are about feedback, which is left out")
        if self.since is not None and self.days is not None:
            raise ValueError("say 'since' or 'days', not both")
        if self.range_min >= self.range_max:
            raise ValueError("'range_min' is less than 'range_max'")
        return self
