"""What the HTTP API says of kept answers and of what their readers say of them, as typed, immutable models."""

from typing import Annotated

from pydantic import JsonValue

from sluice.api.base import Schema, Sent, Timestamp, closed_set
from sluice.api.queries import Answer

__all__ = [
    "RATINGS",
    "AnswerPage",
    "Comparison",
    "ComparisonPage",
    "Erased",
    "Feedback",
    "FeedbackPage",
    "KeptAnswer",
    "SourceJudgement",
]

RATINGS = ("", "up", "down")


class KeptAnswer(Answer):
    """An answer with what was asked. `messages` are the turns before the question; `collection` is empty where a model
    answered alone.

    `reader` is who asked, such as `user:alice`, or else the id of their API key; empty where nobody could tell. `key`
    is that of the request, and `principals` are those that documents were looked at with. A shadow's answer names the
    `stage` and `variant` that it is of. `canary` is the job of a canary that the answer was part of. `shares`
    says of each stage whose variant was drawn by weight how likely that variant was, 0 to 1.
    """

    question: str = ""
    messages: tuple[dict[str, JsonValue], ...] = ()
    collection: str = ""
    asked_at: Sent[Timestamp] = None
    reader: str = ""
    key: str = ""
    principals: tuple[str, ...] = ()
    stage: str = ""
    variant: str = ""
    canary: str = ""
    shares: dict[str, float] = {}


class AnswerPage(Schema):
    """Kept answers, the newest first; `next` is the `before` of the following page, None at the end."""

    answers: tuple[KeptAnswer, ...] = ()
    next: int | None = None


class SourceJudgement(Schema):
    """Whether the source with this `index` belongs to the question."""

    index: int
    relevant: bool


class Feedback(Schema):
    """What one reader says of one answer: a `rating`, "" for none, the answer as it should have been, and more.

    `opened` are the indexes of the sources whose citations the reader has opened; `copied` says whether they have
    copied the answer. `kept` is the answer as it was, and stays with the feedback.
    """

    answer: str
    reader: str = ""
    rating: Annotated[str, closed_set(*RATINGS)] = ""
    correction: str = ""
    comment: str = ""
    tags: tuple[str, ...] = ()
    sources: tuple[SourceJudgement, ...] = ()
    opened: tuple[int, ...] = ()
    copied: bool = False
    created_at: Sent[Timestamp] = None
    changed_at: Sent[Timestamp] = None
    kept: KeptAnswer


class FeedbackPage(Schema):
    """What readers say, the last said first; `next` is the `before` of the following page, None at the end."""

    feedback: tuple[Feedback, ...] = ()
    next: int | None = None


class Comparison(Schema):
    """The answers of the live path and of the shadow `variant` of a `stage` to one query.

    `text_overlap` is the F1 of their words, `source_overlap` the Jaccard index of their sources, both 0 to 1.
    """

    stage: str
    variant: str
    text_overlap: float = 0.0
    source_overlap: float = 0.0
    live: KeptAnswer
    shadow: KeptAnswer


class ComparisonPage(Schema):
    """Comparisons, the newest first; `next` is the `before` of the following page, None at the end."""

    comparisons: tuple[Comparison, ...] = ()
    next: int | None = None


class Erased(Schema):
    """How many records of a reader were removed."""

    answers: int = 0
    feedback: int = 0
    payloads: int = 0
