"""What readers said of answers, as services besides the gateway read it.

The gateway writes these records, with more members, as `sluice.api.feedback` describes them.
"""

from pydantic import BaseModel, ConfigDict, JsonValue

from shared.contracts.problems import Problem, ProblemType

__all__ = ["AnswerSource", "JudgedAnswer", "ReaderFeedback", "SourceJudgement", "no_feedback"]


class _Record(BaseModel):
    """Without what nobody here reads, since many are looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class AnswerSource(_Record):
    """A passage that an answer rests on; citations and judgements name it by its `index`."""

    index: int
    document: str
    text: str = ""


class VisitedStage(_Record):
    """A stage that has worked on an answer, and the variant of it."""

    stage: str
    variant: str = "default"


class Timings(_Record):
    stages: tuple[VisitedStage, ...] = ()


class Searched(_Record):
    question: str = ""


class JudgedAnswer(_Record):
    """An answer with its question. `shares` says of each stage whose variant was drawn by weight how likely that was.
    `messages` are the turns before it; `searched` is the question on its own, where
    the platform has rewritten it. The answer of a shadow names the `stage` that it is of."""

    question: str = ""
    messages: tuple[dict[str, JsonValue], ...] = ()
    searched: Searched | None = None
    collection: str = ""
    answer: str = ""
    sources: tuple[AnswerSource, ...] = ()
    cited: tuple[int, ...] = ()
    stage: str = ""
    timings: Timings = Timings()
    shares: dict[str, float] = {}

    @property
    def standalone_question(self) -> str:
        """The question as it is understood without the turns before it; "" where nobody knows."""
        rewritten = self.searched.question if self.searched else ""
        return rewritten or ("" if self.messages else self.question)


class SourceJudgement(_Record):
    """Whether the source with this `index` belongs to the question."""

    index: int
    relevant: bool


class ReaderFeedback(_Record):
    """What one reader said of one answer: a `rating`, "" for none, and the answer as it should have been. `changed_at`
    is Unix seconds, and `kept` the answer as it was."""

    answer: str
    reader: str = ""
    rating: str = ""
    correction: str = ""
    sources: tuple[SourceJudgement, ...] = ()
    changed_at: float = 0.0
    kept: JudgedAnswer


def no_feedback() -> Problem:
    """FORBIDDEN for a job that would read what everybody said, of a submitter who does not see that."""
    return Problem(
        ProblemType.FORBIDDEN,
        'What readers said is for those who see all collections and documents of the tenant. With "feedback": false '
        "(`--no-feedback`) the data are made of sets of questions alone.",
    )
