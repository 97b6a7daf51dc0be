"""The report of a sweep as one HTML file that needs nothing else: what came of it, the trials, and what matters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

from pydantic import JsonValue

from services.scheduler.reports.charts import Line, lines
from services.scheduler.reports.importance import Importances
from services.scheduler.reports.page import document, figures, table
from services.scheduler.reports.search import importance_section, trials_section
from services.scheduler.sweeps.options import conditions, dimensions, written
from services.scheduler.sweeps.report import WORDS
from services.scheduler.sweeps.state import SweepState, SweepTrial, TrialState
from shared.contracts.jobs import SweepSpec
from shared.contracts.metrics import MetricHistory

__all__ = ["SweepReport", "as_page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What a page says: `outputs` are those of the job, and `histories` what the default and the best trial have logged
    by step, by their jobs."""

    job: str
    spec: SweepSpec
    state: SweepState
    chosen: SweepTrial
    outputs: Mapping[str, JsonValue]
    importances: Importances
    histories: Mapping[str, MetricHistory]


def as_page(report: SweepReport) -> bytes:
    """An HTML document."""
    spec, trials, measure = report.spec, report.state.trials, WORDS[report.spec.measure]
    less = ", the less the better" if spec.minimizes else ""
    verdict = "good" if report.outputs.get("better") is True else "muted"
    pruned = f" and {report.state.pruned:,} were pruned" if spec.prune else ""
    parts = [
        f"<p>{len(trials):,} trials, of which {report.state.failed:,} failed{pruned}: target "
        f"{escape(spec.train.target)}, data set {escape(spec.train.dataset)}. Model "
        f"{escape(report.chosen.model)}, of the job {escape(report.chosen.job)}</p>",
        f'<h2 class="{verdict}">{escape(str(report.outputs["message"]))}</h2>',
        *_comparison(report),
        f"<h2>Trials</h2><p>The {measure} on the validation rows{less}; the line is the best so far.</p>",
        *trials_section(
            [trial.score for trial in trials],
            dimensions(spec, report.state),
            measure,
            best=trials.index(report.chosen),
            minimizes=spec.minimizes,
        ),
        *importance_section(report.importances, conditions(spec)),
        *_losses(report),
        "<h2>All trials</h2>",
        _trials(report),
    ]
    return document(f"Sweep {report.job}", parts)


def _comparison(report: SweepReport) -> Iterable[str]:
    default, chosen, measure = report.state.trials[0], report.chosen, WORDS[report.spec.measure]
    yield (
        f"<p>The {measure} on rows that are kept from training. The validation rows have chosen the best trial; the "
        "test rows have not. There is no interval: let <code>sluice evaluate</code> decide what becomes live.</p>"
    )
    rows = [("validation rows", _score(default.score), _score(chosen.score))]
    if default.tested is not None or chosen.tested is not None:
        rows.append(("test rows", _score(default.tested), _score(chosen.tested)))
    yield table(("rows", ">default", ">best trial"), rows)
    before, after = (trial.setting.applied(report.spec.train) for trial in (default, chosen))
    options = (*report.spec.space.bounds, *report.spec.space.choices)
    yield table(
        ("hyper-parameter", "default", "best trial"),
        [(option, *(_value(option, getattr(train, option)) for train in (before, after))) for option in options],
    )


def _value(option: str, value: object) -> str:
    return "the trainer's own" if value is None else escape(written(option, value))


def _losses(report: SweepReport) -> Iterable[str]:
    """What the default and the best trial have logged by step."""
    named = {report.state.trials[0].job: "default", report.chosen.job: "best trial"}
    if len(named) == 1:
        named = dict.fromkeys(named, "default, which is the best")
    charts = {}
    for metric in ("loss", "validation_loss", f"validation_{report.spec.measure}"):
        series = [
            Line(
                name=name,
                points=[(one.step, one.value) for one in report.histories[job].points(metric) if one.value is not None],
            )
            for job, name in reversed(named.items())
            if job in report.histories
        ]
        if chart := lines(series, metric):
            charts[metric] = chart
    if charts:
        said = "The default is dashed." if len(named) > 1 else "The default is the best trial."
        yield f"<h2>By step</h2><p>What the trainings of the best trial and of the default have logged. {said}</p>"
        yield figures(charts)


def _trials(report: SweepReport) -> str:
    """A table: the best first, then those that were pruned, and those that failed last."""
    sign = 1 if report.spec.minimizes else -1
    ordered = sorted(
        enumerate(report.state.trials, 1),
        key=lambda one: (one[1].state is TrialState.FAILED, one[1].score is None, sign * (one[1].score or 0.0)),
    )
    rows = [
        (
            f"{number}",
            escape(str(trial.setting)),
            _score(trial.score),
            _score(trial.tested),
            f"{trial.seconds:.1f}",
            _note(trial, report.chosen),
            escape(trial.job),
        )
        for number, trial in ordered
    ]
    return table((">trial", "<setting", ">validation", ">test", ">seconds", "<notes", "<job"), rows)


def _note(trial: SweepTrial, chosen: SweepTrial) -> str:
    if trial.error:
        return f'<span class="bad">failed: {escape(trial.error)}</span>'
    if trial.state is TrialState.PRUNED:
        return f'<span class="muted">pruned: {escape(trial.pruned)}</span>'
    return '<span class="good">best</span>' if trial.job == chosen.job else ""


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"
