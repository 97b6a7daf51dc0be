"""A job in words."""

import json
from collections.abc import Mapping
from typing import Any

import typer
from rich.markup import escape

from sluice.api.jobs import Job, JobState
from sluice.cli.output import ago, console, counted, file_size, print_json

__all__ = ["STYLES", "failed", "now", "print_failures", "print_job", "print_warnings", "report", "units", "why"]

STYLES = {JobState.SUCCEEDED: "green", JobState.FAILED: "red", JobState.CANCELLED: "yellow"}


def failed(job: Job) -> bool:
    """Whether the job, or any of its documents, failed."""
    return job.progress.failed > 0 or job.state in (JobState.FAILED, JobState.CANCELLED)


def report(job: Job, *, as_json: bool) -> None:
    """Print a job; exit status 1 where it, or one of its documents, failed."""
    print_json(job) if as_json else print_job(job)
    if failed(job):
        raise typer.Exit(1)


def units(job: Job) -> str:
    """How far a job is, in a few signs; empty where it does not count."""
    done, total = job.progress.units
    return f"{done:,}/{total:,}" if total else f"{done:,}" if done else ""


def now(job: Job) -> str:
    """What a job does now, or says of its end; what it did last is no news once it has ended."""
    message = job.progress.message
    return message if not job.finished or job.outputs.get("message") == message else ""


def why(job: Job) -> str:
    """Why a job has failed, or waits for another try."""
    return "" if job.error is None else job.error.detail or job.error.title


def print_job(job: Job) -> None:
    """The job, how far it is, what it has made, and a line for everything that failed."""
    terminal = console()
    style = STYLES.get(job.state, "cyan")
    into = f" in {job.collection}" if job.collection else f" {job.name}" if job.name else ""
    terminal.print(
        f"[bold]{escape(job.id)}[/] {escape(job.kind + into)} [{style}]{job.state}[/] [dim]{ago(job.created_at)}[/]",
        soft_wrap=True,
    )
    for line in _lines(job):
        terminal.print(f"  {line}", soft_wrap=True)
    print_failures([(error.document, error.reason) for error in job.errors], job.progress.failed)
    print_warnings([(warning.document, warning.detail) for warning in job.warnings], job.progress.warned)
    if job.error is not None:
        terminal.print(f"  [red]{escape(f'{job.error.title}: {job.error.detail}')}[/]", soft_wrap=True)


def print_failures(failures: list[tuple[str, str]], total: int) -> None:
    """One line a failed document: its name and why; a last line where not all are known."""
    terminal = console()
    for document, reason in failures:
        terminal.print(f"  [red]✗[/] {escape(document)}  [dim]{escape(reason)}[/]", soft_wrap=True)
    if total > len(failures):
        terminal.print(f"  [red]✗[/] and {total - len(failures):,} more", soft_wrap=True)


def print_warnings(warnings: list[tuple[str, str]], total: int = 0) -> None:
    """One line for each thing that was not read of a document; a last line where not all documents are named."""
    terminal = console()
    for document, detail in warnings:
        terminal.print(f"  [yellow]![/] {escape(document)}  [dim]{escape(detail)}[/]", soft_wrap=True)
    if (more := total - len({document for document, _ in warnings})) > 0:
        terminal.print(f"  [yellow]![/] and {counted(more, 'document')} more with warnings", soft_wrap=True)


def _lines(job: Job) -> list[str]:
    p = job.progress
    lines = []
    if p.documents or job.kind in ("ingest", "delete"):
        counts = {"indexed": p.indexed, "skipped": p.skipped, "deleted": p.deleted, "failed": p.failed}
        said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "none done"
        size = f", {file_size(p.bytes)}" if p.bytes else ""
        lines.append(f"{counted(p.documents, 'document')}: {said}; {counted(p.chunks, 'chunk')}{size}")
    elif p.total:
        what = "steps" if job.kind == "pipeline" else "done"
        lines.append(f"{p.done:,} of {p.total:,} {what}" + (f", {p.failed:,} failed" if p.failed else ""))
    if now(job):
        lines.append(escape(now(job)))
    options = job.options
    known = options.parent or options.schedule  # who else should have asked for it
    by = "" if known else options.by
    about = {"priority": options.priority, "by": by, "step of": options.parent, "schedule": options.schedule}
    usual = {"priority": "normal"}
    said = ", ".join(f"{what} {value}" for what, value in about.items() if value and usual.get(what) != value)
    labels = " ".join(f"{key}={value}" for key, value in sorted(options.labels.items()))
    lines += [f"[dim]{escape(part)}[/]" for part in (said, labels) if part]
    if job.cancel_requested and not job.finished:
        lines.append("[yellow]is being cancelled[/]")
    if job.attempt > 1:
        lines.append(f"[dim]try number {job.attempt}[/]")
    outputs = {name: value for name, value in job.outputs.items() if (name, value) != ("message", now(job))}
    lines += [f"{escape(name)}: {escape(value)}" for name, value in _shown(outputs).items()]
    if job.artifacts:
        lines.append(f"[dim]artifacts[/] {escape(', '.join(job.artifacts))}")
    return lines


def _shown(outputs: Mapping[str, Any]) -> dict[str, str]:
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in outputs.items()
    }
    return {name: text if len(text) <= 200 else f"{text[:197]}..." for name, text in texts.items()}
