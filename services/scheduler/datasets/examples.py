"""Examples: questions with what is known of them, each once, whoever has asked it.

A question may come from several sets, and several readers may have judged answers to it. What a set says of a document
holds against what readers say; of two readers the one who said it later is right; what a model wrote comes last.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from services.scheduler.evaluation.groups import folded
from services.scheduler.evaluation.questions import Question
from shared.contracts.feedback import AnswerSource, ReaderFeedback
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Correction", "Example", "ExampleCollector", "LeftOut", "Origin", "Source"]

MOST: Final = 100_000
"""Questions that are looked at; the spec's limit is of those that are used."""

MOST_CHARACTERS: Final = 200_000_000
"""Of all questions with what is known of them."""

MOST_SOURCES: Final = 8
"""Documents of one question that are looked for, and passages that readers found wrong."""

MOST_CORRECTIONS: Final = 4
"""Of one question."""

LONGEST_QUESTION: Final = 4_000
REMEMBERED: Final = 1_000
"""Characters of a passage by which it is found again."""


class Origin(StrEnum):
    """Where a question comes from; of one that comes from several, the first of these."""

    QUESTIONS = "questions"
    FEEDBACK = "feedback"
    SYNTHETIC = "synthetic"


class LeftOut(StrEnum):
    """Why something is not in the data, as the report says it."""

    NO_SOURCES = "no document is known to answer it"
    NOT_STANDALONE = "it follows up on an earlier turn, and nobody has rewritten it"
    TOO_LONG = f"it is longer than {LONGEST_QUESTION:,} characters"
    NOT_THERE = "its documents are not in the collection"
    CHANGED = "its document no longer has the passage that answers it"
    COPIED = "a document of the test data has its passage too"
    LIMIT = "there are more questions than 'limit'"
    FAILED = "its search failed"
    SOURCES_GONE = "correction: the passages that its answer was made from are no longer in the collection"


@dataclass(frozen=True, slots=True)
class Source:
    """A document, with the beginning of the passage that was meant, or "" where only the document is known, and the
    grade that a set gives it."""

    document: str
    passage: str = ""
    grade: int | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """An answer as it should have been, and as it was, with the passages that it was made from. `about` are the
    documents that it cites, or else the one that was found first."""

    chosen: str
    rejected: str
    sources: tuple[Source, ...] = ()
    about: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A question with the documents that answer it, passages that readers found `wrong`, the expected answer where
    there is one, and what readers corrected."""

    question: str
    origin: Origin
    sources: tuple[Source, ...] = ()
    wrong: tuple[Source, ...] = ()
    answer: str | None = None
    corrections: tuple[Correction, ...] = ()

    @property
    def documents(self) -> tuple[str, ...]:
        """The names of the documents that answer it."""
        return tuple(source.document for source in self.sources)

    @property
    def connected(self) -> tuple[str, ...]:
        """The documents that the question and its corrections are about: all of them stay on one side of a split."""
        about = (document for correction in self.corrections for document in correction.about)
        return tuple(dict.fromkeys((*self.documents, *about)))

    @property
    def is_synthetic(self) -> bool:
        return self.origin is Origin.SYNTHETIC

    def order(self, seed: int) -> bytes:
        """A place in an order of chance that is the same whatever other examples there are."""
        return hashlib.sha256(f"{seed}:{folded(self.question)}".encode()).digest()


_Rank = tuple[float, str]
"""What a statement is worth against another one: when it was said, and for a tie in which answer."""


@dataclass(frozen=True, slots=True)
class _Label:
    source: Source
    is_relevant: bool
    rank: _Rank


@dataclass(slots=True)
class _Entry:
    """What is known of a question so far."""

    question: str
    rank: tuple[int, _Rank]
    origins: set[Origin] = field(default_factory=set)
    labels: dict[str, _Label] = field(default_factory=dict)
    answer: str | None = None
    corrections: dict[str, tuple[_Rank, Correction]] = field(default_factory=dict)

    @property
    def characters(self) -> int:
        """What it takes in memory, about."""
        labels = sum(len(label.source.document) + len(label.source.passage) for label in self.labels.values())
        corrections = sum(
            len(one.chosen) + len(one.rejected) + sum(len(source.passage) for source in one.sources)
            for _, one in self.corrections.values()
        )
        return len(self.question) + len(self.answer or "") + labels + corrections

    def label(self, source: Source, *, is_relevant: bool, rank: _Rank) -> None:
        known = self.labels.get(source.document)
        if known is None or rank >= known.rank:
            self.labels[source.document] = _Label(source, is_relevant, rank)

    def correct(self, correction: Correction, rank: _Rank) -> None:
        """Keep the latest corrections."""
        self.corrections[correction.chosen] = max(
            (rank, correction), self.corrections.get(correction.chosen, (rank, correction)), key=lambda one: one[0]
        )
        if len(self.corrections) > MOST_CORRECTIONS:
            del self.corrections[min(self.corrections, key=lambda chosen: self.corrections[chosen][0])]


class ExampleCollector:
    """Takes sets of questions and feedback in any order, and makes examples of them."""

    def __init__(self, collection: str) -> None:
        self._collection = collection
        self._entries: dict[str, _Entry] = {}
        self._characters = 0
        self.left_out: Counter[LeftOut] = Counter()
        self.records = 0
        """Feedback on answers from the collection."""

    def add_set(self, questions: Iterable[Question]) -> None:
        """Raises Problem INVALID_REQUEST where there are more questions, or more about them, than memory is meant to
        hold."""
        for one in questions:
            origin = Origin.SYNTHETIC if one.synthetic else Origin.QUESTIONS
            rank = (-math.inf if one.synthetic else math.inf, "")
            grades = one.sources if isinstance(one.sources, dict) else {}
            with self._entry(one.question, origin, rank) as entry:
                for document in one.sources:
                    source = Source(document, one.passage[:REMEMBERED], grades.get(document))
                    entry.label(source, is_relevant=True, rank=rank)
                entry.answer = one.answer or entry.answer

    def add_feedback(self, said: ReaderFeedback, *, since: float = -math.inf, until: float = math.inf) -> None:
        """Take what a reader said, if it is about the collection and was said in this time. Raises as `add_set`."""
        kept = said.kept
        if kept.collection != self._collection or kept.stage or not since <= said.changed_at <= until:
            return
        self.records += 1
        question = kept.standalone_question.strip()
        if not question:
            self.left_out[LeftOut.NOT_STANDALONE] += 1
            return
        rank = (said.changed_at, said.answer)
        right, wrong = _judged(said)
        correction = _correction(said)
        if not (right or wrong or correction):
            self.left_out[LeftOut.NO_SOURCES] += 1
            return
        with self._entry(question, Origin.FEEDBACK, rank) as entry:
            for source in wrong:
                entry.label(source, is_relevant=False, rank=rank)
            for source in right:
                entry.label(source, is_relevant=True, rank=rank)
            if correction is not None:
                entry.correct(correction, rank)

    def examples(self) -> list[Example]:
        """In the order of their questions, whatever the order in which they came. Those of which no document is known
        are among them only where there is a correction."""
        found = []
        for _, entry in sorted(self._entries.items()):
            example = _example(entry)
            if not example.sources:
                self.left_out[LeftOut.NO_SOURCES] += 1
            if example.sources or example.corrections:
                found.append(example)
        return found

    @contextmanager
    def _entry(self, question: str, origin: Origin, rank: _Rank) -> Iterator[_Entry]:
        """What is known of a question, to add to it."""
        # It is written as the set has it, or else as the first reader wrote it.
        spelling = (list(Origin).index(origin), rank)
        if len(question) > LONGEST_QUESTION:
            self.left_out[LeftOut.TOO_LONG] += 1
            yield _Entry(question, spelling)  # which nobody looks at
            return
        entry = self._entries.setdefault(folded(question), _Entry(question, spelling))
        if (spelling, question) < (entry.rank, entry.question):
            entry.question, entry.rank = question, spelling
        before = entry.characters if entry.origins else 0
        entry.origins.add(origin)
        yield entry
        self._characters += entry.characters - before
        if len(self._entries) > MOST or self._characters > MOST_CHARACTERS:
            raise Problem(
                ProblemType.INVALID_REQUEST,
                f"There are more than {MOST:,} questions, or more than {MOST_CHARACTERS:,} characters of questions, "
                "passages and corrections. Name fewer sets of questions, or use feedback of fewer 'days'.",
            )


def _example(entry: _Entry) -> Example:
    right = [label.source for _, label in sorted(entry.labels.items()) if label.is_relevant]
    right.sort(key=lambda source: -(source.grade or 0))
    wrong = [label.source for _, label in sorted(entry.labels.items()) if not label.is_relevant]
    corrections = sorted(entry.corrections.values(), key=lambda one: one[0])
    return Example(
        question=entry.question,
        origin=next(origin for origin in Origin if origin in entry.origins),
        sources=tuple(right[:MOST_SOURCES]),
        wrong=tuple(wrong[:MOST_SOURCES]),
        # A reader's correction is what the answer should have been; of several the latest.
        answer=entry.answer or (corrections[-1][1].chosen if corrections else None),
        corrections=tuple(correction for _, correction in corrections),
    )


def _judged(said: ReaderFeedback) -> tuple[list[Source], list[Source]]:
    """The sources that belong to the question by what the reader said, and those that do not, one of each document.

    Belongs what they judged so, and of an answer with thumbs up what it cites, unless they judged it wrong. A document
    is wrong where each of its passages that they judged is.
    """
    verdicts = {one.index: one.relevant for one in said.sources}
    if said.rating == "up":
        verdicts = dict.fromkeys(said.kept.cited, True) | verdicts
    right: dict[str, Source] = {}
    wrong: dict[str, Source] = {}
    for source in said.kept.sources:
        if (is_relevant := verdicts.get(source.index)) is not None:
            (right if is_relevant else wrong).setdefault(source.document, _source(source))
    return list(right.values()), [source for document, source in wrong.items() if document not in right]


def _correction(said: ReaderFeedback) -> Correction | None:
    """What the reader corrected; None where that is no other answer."""
    chosen, rejected = said.correction.strip(), said.kept.answer.strip()
    if not chosen or not rejected or folded(chosen) == folded(rejected):
        return None
    wrong = {one.index for one in said.sources if not one.relevant}
    sources: Sequence[AnswerSource] = [source for source in said.kept.sources if source.index not in wrong]
    cited = [source for source in sources if source.index in said.kept.cited] or sources[:1]
    return Correction(
        chosen,
        rejected,
        sources=tuple(_source(source) for source in sources[:MOST_SOURCES]),
        about=tuple(dict.fromkeys(source.document for source in cited)),
    )


def _source(source: AnswerSource) -> Source:
    return Source(source.document, source.text[:REMEMBERED])
