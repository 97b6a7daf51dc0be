"""What tuning has found: its outputs, the verdict and the trials."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from services.scheduler.evaluation.comparison import Comparison
from services.scheduler.reports.charts import Dimension
from services.scheduler.reports.importance import Importances
from services.scheduler.tuning.search import Trial
from services.scheduler.tuning.state import TuneState
from services.scheduler.tuning.verdict import Verdict
from shared.contracts.jobs import TuneSpec

__all__ = ["Outcome", "as_json", "as_lines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`verdict` and `comparison` are of the held-out questions. `tuned` counts the questions to tune on, and `left_out`
    those without sources. `version` is what was tuned. `dimensions` are what the trials have of each option, and
    `importances` how much it matters."""

    spec: TuneSpec
    version: str
    state: TuneState
    default: Trial
    best: Trial
    verdict: Verdict
    comparison: Comparison
    tuned: int
    left_out: int
    dimensions: Sequence[Dimension]
    importances: Importances

    @property
    def outputs(self) -> dict[str, JsonValue]:
        return {
            "better": self.verdict.better,
            "difference": self.verdict.difference.mean,
            "difference_low": self.verdict.difference.low,
            "difference_high": self.verdict.difference.high,
            "ndcg_default": self.verdict.default,
            "ndcg_best": self.verdict.best,
            "trials": len(self.state.trials),
            "questions": self.tuned + self.verdict.questions,
            "held_out": self.verdict.questions,
            "message": self.verdict.text,
        }


def as_lines(outcome: Outcome) -> bytes:
    """JSON lines, one a trial in their order: its number, setting and score on the questions to tune on."""
    lines = []
    for number, trial in enumerate(outcome.state.trials, 1):
        line = {"trial": number, **trial.model_dump(mode="json", exclude_none=True)}
        lines.append(json.dumps(line, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines).encode()


def as_json(outcome: Outcome) -> bytes:
    """An object with the verdict, and the default and the best setting with their scores on both halves."""
    found = outcome.verdict

    def described(trial: Trial, held_out: float) -> dict[str, JsonValue]:
        setting = trial.setting.model_dump(mode="json", exclude_none=True)
        return {"setting": setting, "tuned": trial.score, "held_out": held_out}

    report = {
        "collection": outcome.spec.collection,
        "tuned_version": outcome.version,
        "metric": "ndcg_at_10",
        "better": found.better,
        "text": found.text,
        "difference": found.difference.model_dump(),
        "default": described(outcome.default, found.default),
        "best": described(outcome.best, found.best),
        "questions": {"tuned": outcome.tuned, "held_out": found.questions, "left_out": outcome.left_out},
        "held_out_groups": found.groups,
        "trials": len(outcome.state.trials),
        "seconds": round(outcome.state.seconds, 3),
        "seed": outcome.spec.seed,
    }
    return json.dumps(report, ensure_ascii=False, indent=1).encode()
