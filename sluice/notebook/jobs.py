"""Jobs: how far they are, and what became of them."""

import json
from collections.abc import Iterable, Iterator
from typing import Final

from sluice.api.jobs import Job
from sluice.notebook.markup import Cell, Markup, badge, element, foreign, join, muted, table
from sluice.units import counted, file_size, took

__all__ = ["STATE_KINDS", "job", "line", "state"]

MOST_MESSAGES: Final = 20
MOST_ARTIFACTS: Final = 20

STATE_KINDS: Final = {"running": "busy", "succeeded": "good", "failed": "bad", "cancelled": "warn"}
"""The badge of a job's or a step's state."""


def state(name: str) -> Markup:
    return badge(name, STATE_KINDS.get(name, ""))


def line(shown: Job) -> Markup:
    """One line, for the job that a cell waits for."""
    parts = [
        _kind(shown),
        state(shown.state),
        *_bar(shown),
        muted(foreign(_now(shown))) if _now(shown) else "",
        muted(took(shown.started_at or shown.created_at, shown.finished_at)),
    ]
    return element("div", join((part for part in parts if part), " "))


def job(shown: Job) -> Markup:
    """The job, what it has done, and a line for everything that failed."""
    into = join((" in ", foreign(shown.collection))) if shown.collection else ""
    title = element("div", _kind(shown), into, " ", state(shown.state), " ", muted(foreign(shown.id)))
    return join((title, *(element("div", part) for part in _details(shown)), *_outputs(shown), *_failures(shown)))


def _kind(shown: Job) -> Markup:
    return element("b", foreign(shown.kind or "job"))


def _bar(shown: Job) -> Iterator[Markup]:
    done, total = shown.progress.units
    if not total:
        return
    yield element("progress", max=str(total), value=str(min(done, total)))
    yield join((f"{done:,}/{total:,}",))


def _now(shown: Job) -> str:
    """What a job does, or says of its end. What it did last is of no interest once it has ended."""
    message = shown.progress.message
    return message if not shown.finished or shown.outputs.get("message") == message else ""


def _details(shown: Job) -> Iterator[Markup]:
    if shown.error is not None:
        yield badge(": ".join(part for part in (shown.error.title, shown.error.detail) if part), "bad")
    if not shown.finished and (bar := list(_bar(shown))):
        yield join(bar, " ")
    progress = shown.progress
    if progress.documents:
        counts = {name: getattr(progress, name) for name in ("indexed", "skipped", "deleted", "failed")}
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none done"
        size = f", {file_size(progress.bytes)}" if progress.bytes else ""
        yield muted(f"{counted(progress.documents, 'document')}: {said}; {counted(progress.chunks, 'chunk')}{size}")
    elif progress.failed:
        yield muted(f"{progress.failed:,} failed")
    if _now(shown):
        yield muted(foreign(_now(shown), 500))
    if shown.cancel_requested and not shown.finished:
        yield badge("is being cancelled", "warn")
    about = [f"try number {shown.attempt}"] if shown.attempt > 1 else []
    if spent := took(shown.started_at, shown.finished_at):
        about.append(spent if shown.finished else f"{spent} so far")
    if about:
        yield muted(", ".join(about))


def _outputs(shown: Job) -> Iterator[Markup]:
    """What the job has made of its documents is a line of its own already."""
    said = {**shown.progress.model_dump(), "message": _now(shown)}
    outputs = {name: value for name, value in shown.outputs.items() if said.get(name) != value}
    if outputs:
        rows = [[Cell(foreign(name)), Cell(foreign(_written(value), 500))] for name, value in outputs.items()]
        yield table(("output", "value"), rows, total=len(rows))
    if shown.artifacts:
        names = ", ".join(shown.artifacts[:MOST_ARTIFACTS])
        more = len(shown.artifacts) - MOST_ARTIFACTS
        yield element("div", muted("artifacts: ", foreign(names, 2_000), f" and {more:,} more" if more > 0 else ""))


def _failures(shown: Job) -> Iterator[Markup]:
    failed = max(shown.progress.failed, len(shown.errors))
    yield from _messages("failed", "bad", ((one.document, one.reason) for one in shown.errors), failed)
    warned = len(shown.warnings)
    yield from _messages("with warnings", "warn", ((one.document, one.detail) for one in shown.warnings), warned)


def _messages(what: str, kind: str, lines: Iterable[tuple[str, str]], total: int) -> Iterator[Markup]:
    if not total:
        return
    rows = [[Cell(foreign(name)), Cell(foreign(text, 500))] for name, text in lines]
    said = element("summary", badge(f"{total:,} {what}", kind))
    yield element("details", said, table(("document", "why"), rows, total=total, most=MOST_MESSAGES), open=True)


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
