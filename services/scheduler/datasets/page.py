"""The report of a data set as one HTML file that needs nothing else: what is in it, and what was left out and why."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from services.scheduler.datasets.examples import Origin
from services.scheduler.datasets.rows import Preference, Row
from services.scheduler.datasets.summary import LENGTH_STEP, LONGEST, Side, Summary
from services.scheduler.reports.page import document, table
from shared.contracts.jobs import DatasetSpec

__all__ = ["as_page"]

SHOWN: Final = 400
"""Characters of a text."""

FROM: Final = {Origin.QUESTIONS: "of sets", Origin.FEEDBACK: "of feedback", Origin.SYNTHETIC: "synthetic"}
"""What the questions of an origin are called."""

BAR: Final = 320
"""Pixels of the longest bar."""


def as_page(spec: DatasetSpec, version: str, made: str, summary: Summary, records: int, job: str) -> bytes:
    """An HTML document; `made` is the hash of the rows, and `records` counts the feedback on answers."""
    title = f"Data set of {spec.collection}, version {version}"
    kept = summary.train.questions + summary.test.questions
    sets = f"{len(spec.questions):,} set{'s' if len(spec.questions) != 1 else ''} of questions"
    origin = f"{records:,} records of feedback" if spec.feedback else "no feedback"
    parts = [
        f"<p>{kept:,} questions about {summary.documents:,} documents, from {sets} and "
        f"{origin}. Job {escape(job)}, hash <code>{made}</code></p>",
        *_sides(summary),
        *_lengths(summary.sides),
        *_negatives(spec, summary),
        *_left_out(summary),
        *(part for name, side in summary.sides.items() for part in _rows(name, side.shown)),
        *_preferences(summary),
    ]
    return document(title, parts)


def _sides(summary: Summary) -> Iterable[str]:
    yield (
        "<h2>Training and test data</h2><p>Questions that share a document, directly or through others, are one group "
        "and on one side. A row is a question with one of the documents that answer it.</p>"
    )
    heads = ("", "rows", "questions", "groups", "documents", *(FROM[origin] for origin in Origin), "hard negatives")
    yield table(heads, [(name, *_counts(side)) for name, side in summary.sides.items()])
    yield (
        f"<p>{summary.train.answers:,} answers to train a language model on, and {summary.test.answers:,} to test it "
        f"with; {summary.train.preferences:,} and {summary.test.preferences:,} preferences, from corrections.</p>"
    )


def _counts(side: Side) -> Sequence[str]:
    counts = (side.rows, side.questions, len(side.groups), len(side.documents))
    return [f"{count:,}" for count in (*counts, *(side.origins[origin] for origin in Origin), side.negatives)]


def _lengths(sides: Mapping[str, Side]) -> Iterable[str]:
    yield "<h2>Length of the questions</h2>"
    longest = max((length for side in sides.values() for length in side.lengths), default=0)
    steps = range(0, longest + 1, LENGTH_STEP)
    names = [f"{step} or more" if step == LONGEST else f"{step} to {step + LENGTH_STEP - 1}" for step in steps]
    yield _bars("words", names, {name: [side.lengths[step] for step in steps] for name, side in sides.items()})


def _negatives(spec: DatasetSpec, summary: Summary) -> Iterable[str]:
    yield (
        f"<h2>Hard negatives</h2><p>Up to {spec.negatives} for each row, of the ranks {spec.range_min + 1} to "
        f"{spec.range_max}: the highest whose similarity is at most {1 - spec.relative_margin:.0%} of that of the "
        "right passage.</p>"
    )
    counts = range(spec.negatives + 1)
    names = [f"{count}" for count in counts]
    values = {name: [side.by_negatives[count] for count in counts] for name, side in summary.sides.items()}
    yield _bars("negatives of a row", names, values)
    if summary.skipped:
        yield "<p>Passages in these ranks that are no negatives:</p>"
        rows = [(escape(reason), f"{count:,}") for reason, count in summary.skipped.most_common()]
        yield table(("why", "passages"), rows)


def _bars(what: str, names: Sequence[str], values: Mapping[str, Sequence[int]]) -> str:
    """A table of counts on each side, with a bar for both together."""
    most = max((sum(counts) for counts in zip(*values.values(), strict=True)), default=0) or 1
    rows = []
    for name, *counts in zip(names, *values.values(), strict=True):
        wide = BAR * sum(counts) / most
        bar = (
            f'<svg width="{BAR}" height="14" viewBox="0 0 {BAR} 14" aria-hidden="true">'
            f'<rect width="{wide:.1f}" height="14" rx="3" fill="#2f6fde"/></svg>'
        )
        rows.append((name, *(f"{count:,}" for count in counts), bar))
    return table((what, *values, ""), rows)


def _left_out(summary: Summary) -> Iterable[str]:
    yield f"<h2>Left out: {summary.left_out.total():,}</h2>"
    rows = [
        (
            escape(reason),
            f"{count:,}",
            "<br>".join(escape(_shortened(one, 120)) for one in summary.examples.get(reason, ())),
        )
        for reason, count in summary.left_out.most_common()
        if count
    ]
    if rows:
        yield table(("why", "questions", "such as"), rows)


def _rows(name: str, rows: Sequence[Row]) -> Iterable[str]:
    yield f"<h2>Rows of the {name} data</h2><p>The first {len(rows):,}.</p>"
    yield table(
        ("<question", "<right passage", "<hard negatives"),
        [
            (
                f'{escape(row.question)}<br><span class="muted">{escape(", ".join(row.documents))}</span>',
                escape(_shortened(row.positive)),
                "<br><br>".join(escape(_shortened(text, SHOWN // 2)) for text in row.negatives),
            )
            for row in rows
        ],
    )


def _preferences(summary: Summary) -> Iterable[str]:
    if not summary.preferences:
        return
    shown: Sequence[Preference] = summary.shown_preferences
    yield f"<h2>Preferences: {summary.preferences:,}</h2><p>The first {len(shown):,}.</p>"
    yield table(
        ("<question", "<as it should be", "<as it was"),
        [
            (
                escape(one.question),
                f'<span class="good">{escape(_shortened(one.chosen))}</span>',
                f'<span class="bad">{escape(_shortened(one.rejected))}</span>',
            )
            for one in shown
        ],
    )


def _shortened(text: str, most: int = SHOWN) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
