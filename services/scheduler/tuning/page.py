"""The report of tuning as one HTML file that needs nothing else: the verdict, the trials, and what has changed."""

from collections.abc import Iterable
from html import escape

from services.scheduler.evaluation.page import changes
from services.scheduler.reports.page import document, table
from services.scheduler.reports.search import importance_section, trials_section
from services.scheduler.tuning.report import Outcome
from services.scheduler.tuning.search import CONDITIONS, Setting, Trial

__all__ = ["as_page"]


def as_page(outcome: Outcome) -> bytes:
    """An HTML document."""
    title = f"Tuning of {outcome.spec.collection}, version {outcome.version}"
    found, trials = outcome.verdict, outcome.state.trials
    left_out = f", {outcome.left_out:,} without sources left out" if outcome.left_out else ""
    parts = [
        f"<p>{outcome.tuned + found.questions:,} questions from {escape(outcome.spec.input)}: "
        f"{outcome.tuned:,} to tune on, {found.questions:,} held out{left_out}</p>",
        f'<h2 class="{"good" if found.better else "muted"}">{escape(found.text)}</h2>',
        *_comparison(outcome),
        "<h2>Trials</h2><p>Mean nDCG@10 of each trial on the questions to tune on; the line is the best so far.</p>",
        *trials_section(
            [trial.score for trial in trials], outcome.dimensions, "nDCG@10", best=trials.index(outcome.best)
        ),
        *importance_section(outcome.importances, CONDITIONS),
        "<h2>All trials</h2>",
        *_trials(outcome),
        "<h2>Held-out questions</h2><p>What the best trial changes, question by question.</p>",
        *changes("Better", outcome.comparison.better),
        *changes("Worse", outcome.comparison.worse),
    ]
    return document(title, parts)


def _comparison(outcome: Outcome) -> Iterable[str]:
    found, difference = outcome.verdict, outcome.verdict.difference
    yield (
        f"<p>Mean nDCG@10. The 95 % interval is by paired bootstrap over {found.groups:,} groups of questions that "
        "share documents.</p>"
    )
    interval = f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
    yield table(
        ("questions", ">default", ">best trial", "difference, 95 % interval"),
        [
            ("held out", f"{found.default:.3f}", f"{found.best:.3f}", interval),
            (
                "to tune on",
                f"{outcome.default.score:.3f}",
                f"{outcome.best.score:.3f}",
                f"{outcome.best.score - outcome.default.score:+.3f}",
            ),
        ],
    )
    default, best = (_options(trial.setting) for trial in (outcome.default, outcome.best))
    names = dict.fromkeys([*default, *best])
    yield table(
        ("option", "default", "best trial"),
        [(escape(name), default.get(name, "not set"), best.get(name, "not set")) for name in names],
    )


def _options(setting: Setting) -> dict[str, str]:
    return {name: escape(f"{value}") for name, value in setting.named}


def _trials(outcome: Outcome) -> Iterable[str]:
    ordered = sorted(enumerate(outcome.state.trials, 1), key=lambda one: -one[1].score)
    rows = [
        (str(number), escape(str(trial.setting)), f"{trial.score:.3f}", f"{trial.seconds:.1f}", _flaws(trial))
        for number, trial in ordered
    ]
    yield table((">trial", "<setting", ">nDCG@10", ">seconds", "notes"), rows)


def _flaws(trial: Trial) -> str:
    flaws = {"failed": trial.failed, "not reranked whole": trial.unscored}
    return ", ".join(f"{count:,} question{'s' * (count > 1)} {what}" for what, count in flaws.items() if count)
