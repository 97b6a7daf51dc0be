"""The report of tuning as one HTML file that needs nothing else: the verdict, the trials, and what has changed."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from services.scheduler.evaluation.page import STYLE, changes, table
from services.scheduler.tuning.report import Outcome
from services.scheduler.tuning.search import Setting, Trial

__all__ = ["as_page"]

WIDTH, HEIGHT = 920, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 24, 48
TALL: Final = HEIGHT - TOP - BOTTOM
LEAST_SPAN: Final = 0.02
"""Of nDCG@10, so that trials that are all alike look so."""


def as_page(outcome: Outcome) -> bytes:
    """An HTML document."""
    title = f"Tuning of {outcome.spec.collection}, version {outcome.version}"
    found = outcome.verdict
    left_out = f", {outcome.left_out:,} without sources left out" if outcome.left_out else ""
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><p>{outcome.tuned + found.questions:,} questions from {escape(outcome.spec.input)}: "
        f"{outcome.tuned:,} to tune on, {found.questions:,} held out{left_out}</p>",
        f'<h2 class="{"good" if found.better else "muted"}">{escape(found.text)}</h2>',
        *_comparison(outcome),
        "<h2>Trials</h2><p>Mean nDCG@10 of each trial on the questions to tune on; the line is the best so far.</p>",
        f"<figure>{_plot(outcome.state.trials)}</figure>",
        *_trials(outcome),
        "<h2>Held-out questions</h2><p>What the best trial changes, question by question.</p>",
        *changes("Better", outcome.comparison.better),
        *changes("Worse", outcome.comparison.worse),
        "</body></html>",
    ]
    return "\n".join(parts).encode()


def _comparison(outcome: Outcome) -> Iterable[str]:
    found, difference = outcome.verdict, outcome.verdict.difference
    yield (
        f"<p>Mean nDCG@10. The 95 % interval is by paired bootstrap over {found.groups:,} groups of questions that "
        "share documents.</p>"
    )
    interval = f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
    yield table(
        ("questions", "default", "best trial", "difference, 95 % interval"),
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
    yield table(("trial", "setting", "nDCG@10", "seconds", ""), rows)


def _flaws(trial: Trial) -> str:
    flaws = {"questions failed": trial.failed, "questions not reranked whole": trial.unscored}
    return ", ".join(f"{count:,} {what}" for what, count in flaws.items() if count)


def _plot(trials: Sequence[Trial]) -> str:
    """An SVG: a dot a trial, and a line of the best so far."""
    scores = [trial.score for trial in trials]
    middle = (max(scores) + min(scores)) / 2
    half = max(LEAST_SPAN, max(scores) - min(scores)) / 2 * 1.1
    low, high = middle - half, middle + half
    step = (WIDTH - LEFT - RIGHT) / max(1, len(scores) - 1)

    def place(number: int, score: float) -> str:
        return f"{LEFT + number * step:.1f},{HEIGHT - BOTTOM - (score - low) / (high - low) * TALL:.1f}"

    leading = [place(number, max(scores[: number + 1])) for number in range(len(scores))]
    dots = [place(number, score).split(",") for number, score in enumerate(scores)]
    text = 'font-size="12" fill="currentColor"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'role="img" aria-label="Scores of the trials">',
            *(
                f'<text x="{LEFT - 10}" y="{HEIGHT - BOTTOM - share * TALL + 4:.1f}" text-anchor="end" {text}>'
                f"{low + share * (high - low):.3f}</text>"
                for share in (0, 0.5, 1)
            ),
            f'<text x="{LEFT}" y="{HEIGHT - 16}" {text}>1</text>',
            f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 16}" text-anchor="end" {text}>trial {len(scores)}</text>',
            f'<polyline points="{" ".join(leading)}" fill="none" stroke="#2f6fde" stroke-width="2"/>',
            *(f'<circle cx="{x}" cy="{y}" r="3.5" fill="#2f6fde" opacity=".6"/>' for x, y in dots),
            "</svg>",
        ]
    )
