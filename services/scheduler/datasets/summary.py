"""What a data set holds, counted while its parts are written, and a few of its rows to show."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from services.scheduler.datasets.examples import LeftOut, Origin
from services.scheduler.datasets.rows import Mined, Preference, Row

__all__ = ["SIDES", "Side", "Summary"]

SIDES: Final = ("train", "test")

SHOWN: Final = 10
"""Rows of a side, and corrections, that the report shows."""

SHOWN_LEFT_OUT: Final = 5
"""Questions for each reason."""

LENGTH_STEP: Final = 5
LONGEST: Final = 40
"""Words of a question, of which the last step holds all that are longer."""


@dataclass(slots=True)
class Side:
    """Counts of the training or of the test data."""

    rows: int = 0
    questions: int = 0
    negatives: int = 0
    answers: int = 0
    preferences: int = 0
    origins: Counter[Origin] = field(default_factory=Counter)
    groups: set[str] = field(default_factory=set)
    documents: set[str] = field(default_factory=set)
    lengths: Counter[int] = field(default_factory=Counter)
    """Questions by their words, in steps."""
    by_negatives: Counter[int] = field(default_factory=Counter)
    """Rows by how many negatives they have."""
    shown: list[Row] = field(default_factory=list)

    def add(self, one: Mined) -> None:
        self.answers += one.taught is not None
        self.preferences += len(one.preferences)
        if one.rows:
            self._add_rows(one)

    def _add_rows(self, one: Mined) -> None:
        self.rows += len(one.rows)
        self.questions += 1
        self.origins[one.origin] += 1
        self.groups.add(one.group)
        words = len(one.question.split())
        self.lengths[min(words // LENGTH_STEP * LENGTH_STEP, LONGEST)] += 1
        for row in one.rows:
            self.negatives += len(row.negatives)
            self.by_negatives[len(row.negatives)] += 1
            self.documents.update(row.documents)
        self.shown += one.rows[: SHOWN - len(self.shown)]

    def as_json(self) -> dict[str, JsonValue]:
        return {
            "rows": self.rows,
            "questions": self.questions,
            "negatives": self.negatives,
            "documents": len(self.documents),
            "groups": len(self.groups),
            "answers": self.answers,
            "preferences": self.preferences,
            "origins": {origin.value: self.origins[origin] for origin in Origin if self.origins[origin]},
        }


@dataclass(slots=True)
class Summary:
    """Counts of the whole. `left_out` counts by reason, and `examples` are some of the questions of each."""

    left_out: Counter[LeftOut]
    train: Side = field(default_factory=Side)
    test: Side = field(default_factory=Side)
    shown_preferences: list[Preference] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[LeftOut, list[str]] = field(default_factory=dict)

    def add(self, mined: Iterable[Mined]) -> None:
        for one in mined:
            (self.test if one.is_test else self.train).add(one)
            self.shown_preferences += one.preferences[: SHOWN - len(self.shown_preferences)]
            self.skipped.update(one.skipped)
            for reason in one.left_out:
                self.left_out[reason] += 1
                some = self.examples.setdefault(reason, [])
                if len(some) < SHOWN_LEFT_OUT:
                    some.append(one.question)

    @property
    def sides(self) -> Mapping[str, Side]:
        return dict(zip(SIDES, (self.train, self.test), strict=True))

    @property
    def documents(self) -> int:
        return len(self.train.documents) + len(self.test.documents)

    @property
    def preferences(self) -> int:
        return self.train.preferences + self.test.preferences

    @property
    def answers(self) -> int:
        return self.train.answers + self.test.answers

    def of(self, origin: Origin) -> int:
        """Questions of an origin."""
        return self.train.origins[origin] + self.test.origins[origin]
