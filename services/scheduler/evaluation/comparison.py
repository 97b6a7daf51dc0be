"""Two evaluations of the same questions, compared question by question."""

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from services.scheduler.evaluation.groups import grouped
from services.scheduler.evaluation.intervals import Interval, clustered
from services.scheduler.evaluation.questions import Judged
from services.scheduler.evaluation.report import scores_of
from shared.contracts.problems import Problem, ProblemType

__all__ = ["LOWER_IS_BETTER", "Changed", "Comparison", "compare", "read_report"]

LOWER_IS_BETTER: Final = frozenset({"false_answered", "false_declined"})

DECISIVE: Final = ("ndcg_at_10", "mrr", "answer_f1", "false_answered", "false_declined")
"""The first of these metrics that a question has says whether its result is better."""


class _Report(BaseModel):
    model_config = ConfigDict(extra="ignore")

    questions: list[Judged]


class Changed(BaseModel):
    """A question whose result is another one than before; a positive `change` is for the better."""

    model_config = ConfigDict(frozen=True)

    question: str
    change: float
    rank: int | None = None
    rank_before: int | None = None


class Comparison(BaseModel):
    """`differences` are the mean change of each metric over the questions that both have, with its confidence
    interval; questions that share expected documents count as one group in it. `better` and `worse` begin with the
    largest change."""

    model_config = ConfigDict(frozen=True)

    baseline: str
    questions: int
    differences: dict[str, Interval]
    better: tuple[Changed, ...]
    worse: tuple[Changed, ...]

    @property
    def outputs(self) -> dict[str, bool | float | str]:
        """Whether the results are better beyond doubt, by the first of the metrics that decide, as outputs of a job."""
        name = next((name for name in DECISIVE if name in self.differences), None)
        if name is None:
            return {"better": False}
        difference = self.differences[name]
        surely = difference.high < 0 if name in LOWER_IS_BETTER else difference.low > 0
        return {
            "better": surely,
            "metric": name,
            "difference": difference.mean,
            "difference_low": difference.low,
            "difference_high": difference.high,
        }


def read_report(data: bytes) -> list[Judged]:
    """The questions of a `report.json`. Raises Problem INVALID_REQUEST for anything else."""
    try:
        return _Report.model_validate_json(data).questions
    except ValidationError:
        raise Problem(ProblemType.INVALID_REQUEST, "The baseline is not the report.json of an evaluation.") from None


def compare(baseline: str, before: Sequence[Judged], after: Sequence[Judged], top_k: int) -> Comparison:
    """What has changed. Raises Problem INVALID_REQUEST where the two have no question in common."""
    earlier = {one.question: one for one in before}
    pairs = [(earlier[one.question], one) for one in after if one.question in earlier]
    if not pairs:
        raise Problem(ProblemType.INVALID_REQUEST, "The baseline has none of the questions of this evaluation.")
    scored = [(scores_of(old, top_k), scores_of(new, top_k)) for old, new in pairs]
    names = dict.fromkeys(name for _, new in scored for name in new)
    differences = {}
    groups = grouped([(one.question, one.expected) for _, one in pairs])
    for name in names:
        both = [
            (new[name] - old[name], group)
            for (old, new), group in zip(scored, groups, strict=True)
            if name in new and name in old
        ]
        if both:
            differences[name] = clustered([change for change, _ in both], [group for _, group in both])
    changed = sorted(
        (_changed(old, new, before, after) for (old, new), (before, after) in zip(pairs, scored, strict=True)),
        key=lambda one: one.change,
    )
    return Comparison(
        baseline=baseline,
        questions=len(pairs),
        differences=differences,
        better=tuple(one for one in reversed(changed) if one.change > 0),
        worse=tuple(one for one in changed if one.change < 0),
    )


def _changed(old: Judged, new: Judged, before: dict[str, float], after: dict[str, float]) -> Changed:
    name = next((name for name in DECISIVE if name in after), DECISIVE[0])
    change = after.get(name, 0.0) - before.get(name, 0.0)
    better = -change if name in LOWER_IS_BETTER else change
    return Changed(question=new.question, change=round(better, 6), rank=new.rank, rank_before=old.rank)
