"""The questions of an evaluation and the result of each."""

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.scheduler.evaluation.metrics import citation_precision, first_rank, token_f1
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Answered", "Judged", "Question", "judge", "read_questions"]

MOST: Final = 100_000

Grade = Annotated[int, Field(ge=1, le=10)]
"""How relevant a document is: a higher grade is worth more than twice the one below it."""


class Question(BaseModel):
    """One line of the input: a question, the names of the documents that answer it, and the expected answer.

    `sources` is a list of names, or an object of names and their grades from 1 to 10. `answerable` is false for a
    question that the collection does not answer, so that it should be declined. `synthetic` is true for one that a
    model wrote, about the `passage`.
    """

    model_config = ConfigDict(frozen=True)

    question: str = Field(min_length=1)
    sources: tuple[str, ...] | dict[str, Grade] = ()
    answer: str | None = None
    answerable: bool = True
    synthetic: bool = False
    passage: str = ""


class Judged(BaseModel):
    """What came of a question. `found` are the documents of the retrieved passages, best first, and `rank` is the place
    of the first expected one; `grades` are those of the expected documents, where the question has some. `answered` is
    false for an answer that declines, `supported` is the share of its sentences that the sources support, and
    `answer_similarity` is the cosine between the vectors of the answer and the expected one. `error` says why there is
    no result. `synthetic` is that of the question.
    """

    model_config = ConfigDict(frozen=True)

    question: str
    expected: tuple[str, ...] = ()
    grades: dict[str, int] | None = None
    answerable: bool = True
    found: tuple[str, ...] = ()
    rank: int | None = None
    latency_ms: float | None = None
    expected_answer: str | None = None
    answer: str | None = None
    answer_f1: float | None = None
    answer_similarity: float | None = None
    citation_precision: float | None = None
    answered: bool | None = None
    confidence: float | None = None
    supported: float | None = None
    error: str | None = None
    synthetic: bool | None = None


class Answered(BaseModel):
    """What the platform said to a question, besides the passages that it found."""

    model_config = ConfigDict(frozen=True)

    answer: str
    cited: tuple[str, ...] = ()
    answered: bool
    confidence: float | None = None
    supported: float | None = None


def judge(
    question: Question,
    found: Sequence[str] = (),
    *,
    latency_ms: float | None = None,
    answer: Answered | None = None,
    error: str | None = None,
) -> Judged:
    """Compare with what was expected. A question without a result has found nothing and answered nothing."""
    wanted = question.answer is not None and (answer is not None or error is not None)
    said = answer.answer if answer else ""
    cited = answer.cited if answer else ()
    return Judged(
        question=question.question,
        expected=tuple(question.sources),
        grades=question.sources if isinstance(question.sources, dict) else None,
        answerable=question.answerable,
        found=tuple(found),
        rank=first_rank(found, question.sources),
        latency_ms=latency_ms,
        expected_answer=question.answer,
        answer=answer.answer if answer else None,
        answer_f1=token_f1(said, question.answer or "") if wanted else None,
        citation_precision=citation_precision(cited, question.sources) if question.sources else None,
        answered=answer.answered if answer else None,
        confidence=answer.confidence if answer else None,
        supported=answer.supported if answer else None,
        error=error,
        synthetic=question.synthetic or None,
    )


def read_questions(data: bytes, *, answers: bool) -> list[Question]:
    """The questions of a JSONL file; blank lines are left out.

    Raises Problem INVALID_REQUEST with the line of the first mistake: each question needs sources, or with `answers`
    sources or an answer, or to be unanswerable.
    """
    questions = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            question = Question.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise _mistake(number, f"{where}: {first['msg']}" if where else first["msg"]) from None
        if not question.answerable and (question.sources or question.answer is not None):
            raise _mistake(number, "an unanswerable question has no 'sources' and no 'answer'")
        if not question.sources and not (answers and (question.answer is not None or not question.answerable)):
            raise _mistake(number, "it says no 'sources', so there is nothing to compare with")
        questions.append(question)
    if not 0 < len(questions) <= MOST:
        raise Problem(
            ProblemType.INVALID_REQUEST, f"An evaluation has 1 to {MOST:,} questions, not {len(questions):,}."
        )
    return questions


def _mistake(line: int, what: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"Line {line:,} of the questions: {what}.", line=line)
