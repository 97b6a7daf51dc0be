"""A job in words."""

from rich.markup import escape

from sluice.cli.output import ago, console, counted, file_size
from sluice.models import Job, JobState

__all__ = ["failed", "print_failures", "print_job"]

STYLES = {JobState.SUCCEEDED: "green", JobState.FAILED: "red", JobState.CANCELLED: "yellow"}


def failed(job: Job) -> bool:
    """Whether the job, or any of its documents, failed."""
    return job.progress.failed > 0 or job.state in (JobState.FAILED, JobState.CANCELLED)


def print_job(job: Job) -> None:
    """The job, its counts, and a line for every document that failed."""
    terminal = console()
    style = STYLES.get(job.state, "cyan")
    into = f" in {job.collection}" if job.collection else ""
    terminal.print(
        f"[bold]{escape(job.id)}[/] {escape(job.kind + into)} [{style}]{job.state}[/] [dim]{ago(job.created_at)}[/]",
        soft_wrap=True,
    )
    p = job.progress
    counts = {"indexed": p.indexed, "skipped": p.skipped, "deleted": p.deleted, "failed": p.failed}
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "none done"
    terminal.print(
        f"  {counted(p.documents, 'document')}: {said}; {counted(p.chunks, 'chunk')}, {file_size(p.bytes)}",
        soft_wrap=True,
    )
    print_failures([(error.document, error.reason) for error in job.errors], p.failed)
    if job.error is not None:
        terminal.print(f"  [red]{escape(f'{job.error.title}: {job.error.detail}')}[/]", soft_wrap=True)


def print_failures(failures: list[tuple[str, str]], total: int) -> None:
    """One line a failed document: its name and why; a last line where not all are known."""
    terminal = console()
    for document, reason in failures:
        terminal.print(f"  [red]✗[/] {escape(document)}  [dim]{escape(reason)}[/]", soft_wrap=True)
    if total > len(failures):
        terminal.print(f"  [red]✗[/] and {total - len(failures):,} more", soft_wrap=True)
