"""The reports of made-up searches, as their jobs write them."""

import math
from typing import Any, Final

from services.scheduler.evaluation.comparison import compare
from services.scheduler.evaluation.questions import Question, judge
from services.scheduler.sweeps import page as sweeping
from services.scheduler.sweeps.options import option_importances
from services.scheduler.sweeps.report import outputs
from services.scheduler.sweeps.search import propose
from services.scheduler.sweeps.state import SweepState, SweepTrial, best
from services.scheduler.tuning import options as tuning_options
from services.scheduler.tuning import page as tuning
from services.scheduler.tuning import search as tuning_search
from services.scheduler.tuning.report import Outcome
from services.scheduler.tuning.state import TuneState
from services.scheduler.tuning.verdict import verdict
from shared.contracts.jobs import ChunkSize, SweepSpec, TuneSpec
from shared.contracts.metrics import MetricHistory

__all__ = ["SWEPT", "sweep_page", "tuning_page"]

TUNED: Final = tuning_search.Space(
    base=tuning_search.Setting(), candidates=(0, 20), chunks=(None, ChunkSize(tokens=128, overlap=16))
)
SWEPT: Final[dict[str, Any]] = {
    "learning_rate": {"low": 1e-5, "high": 1e-3},
    "batch": [16, 32, 64],
    "matryoshka": [[], [64, 32]],
}
HOSTILE: Final = "<script>alert(1)</script> & 'quotes' \""


def tuning_page(count: int) -> str:
    """The page of trials that do better with a reranker."""
    trials: list[tuning_search.Trial] = []
    while len(trials) < count and (setting := tuning_search.propose(trials, TUNED, 1)) is not None:
        score = 0.5 + 0.2 * bool(setting.rerank_candidates) + 0.001 * len(trials)
        trials.append(tuning_search.Trial(setting=setting, score=score, failed=len(trials) == 2))
    questions = [Question(question=f"Where is <b>{number}</b>?", sources=[f"d{number}"]) for number in range(4)]
    before, after = ([judge(one, found) for one in questions] for found in (["x"], ["d1"]))
    outcome = Outcome(
        spec=TuneSpec(collection="docs", input="set/questions.jsonl"),
        version="v1",
        state=TuneState(collection="c", base="v1", questions="q", trials=tuple(trials)),
        default=trials[0],
        best=tuning_search.best(trials),
        verdict=verdict([0.5, 0.4], [0.6, 0.7], ["a", "b"], changed=True),
        comparison=compare("the default", before, after, 10),
        tuned=40,
        left_out=0,
        dimensions=tuning_options.dimensions(trials, TUNED),
        importances=tuning_options.option_importances(trials, TUNED),
    )
    return tuning.as_page(outcome).decode()


def _searched(spec: SweepSpec, count: int) -> SweepState:
    """Trials that do the better, the nearer the learning rate is to 1e-4; the fourth fails."""
    trials: list[SweepTrial] = []
    while len(trials) < count and (setting := propose(trials, spec)) is not None:
        gap = abs(math.log10(setting.learning_rate or 2e-5) + 4)
        score = 5 + gap if spec.minimizes else 0.9 - gap / 4
        ended: dict[str, Any] = {"score": score, "tested": score - 0.1, "model": f"m-{len(trials):012}", "seconds": 7.5}
        if len(trials) == 3:
            ended = {"error": f"The loss is not a number: {HOSTILE}"}
        trials.append(SweepTrial(setting=setting, job=f"s1-trial{len(trials) + 1}", ended=True, **ended))
    return SweepState(began=0, trials=tuple(trials))


def _logged(jobs: list[str]) -> dict[str, MetricHistory]:
    histories = {}
    for place, job in enumerate(jobs):
        history = histories[job] = MetricHistory()
        for step in range(1, 21):
            history.add(step, 0.0, {"loss": 2 / step + place / 10, "validation_loss": None if step == 3 else 1 / step})
    return histories


def sweep_page(count: int, **members: Any) -> str:
    train = members.pop("train", {"target": "embedder", "dataset": "d1"})
    spec = SweepSpec.model_validate({"train": train, "space": SWEPT, **members})
    state = _searched(spec, count)
    chosen = best(state.trials, minimizes=spec.minimizes)
    assert chosen is not None
    report = sweeping.SweepReport(
        job="s1",
        spec=spec,
        state=state,
        chosen=chosen,
        outputs=outputs(spec, state, chosen),
        importances=option_importances(spec, state),
        histories=_logged([state.trials[0].job, chosen.job]),
    )
    return sweeping.as_page(report).decode()
