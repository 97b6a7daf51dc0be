"""What `sluice ingest` shows: a bar on a terminal, lines in a pipe, one JSON object for programs."""

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sluice.cli.ingestion import Outcome, Plan
from sluice.cli.job_report import print_failures, print_warnings
from sluice.cli.output import console, counted, errors, print_json, print_table

__all__ = ["Screen"]


class Screen:
    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = console()
        self._progress: Progress | None = None

    def begin(self, plan: Plan, outcome: Outcome) -> None:
        if self._as_json:
            return
        if not self._console.is_terminal or not plan.wait or not plan.files:
            self._say(f"{counted(outcome.total, 'file')} for collection {escape(plan.collection)}")
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[chunks]:,} chunks[/]"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        description = f"Indexing into [cyan]{escape(plan.collection)}[/]"
        self._progress.add_task(description, total=outcome.total, chunks=0)
        self._progress.start()

    def advance(self, outcome: Outcome) -> None:
        if self._progress is not None:
            counts = outcome.counts
            self._progress.update(self._progress.task_ids[0], completed=counts.documents_done, chunks=counts.chunks)

    def end(self, plan: Plan, outcome: Outcome) -> None:
        self._close()
        if self._as_json:
            print_json(_as_json(plan, outcome))
            return
        if plan.wait:
            self._summary(outcome)
        else:
            for job_id in outcome.jobs:
                self._say(f"Job {job_id} runs; follow it with [cyan]sluice jobs follow {job_id}[/]")
        print_failures(outcome.failures, outcome.counts.failed)
        print_warnings(outcome.warnings, outcome.counts.warned)
        for job in outcome.broken:
            reason = f": {job.error.title}: {job.error.detail}" if job.error else ""
            self._say(f"[red]✗[/] job {job.id} {job.state}{escape(reason)}")
        self._pruning(plan, outcome)

    def interrupted(self, outcome: Outcome) -> None:
        self._close()
        running = [job.id for job in outcome.jobs.values() if not job.finished]
        if running and not self._as_json:
            errors().print("What was uploaded is still being indexed:", soft_wrap=True)
            for job_id in running:
                errors().print(f"  [cyan]sluice jobs follow {job_id}[/]", soft_wrap=True)

    def _summary(self, outcome: Outcome) -> None:
        counts = outcome.counts
        if not self._console.is_terminal:
            self._say(
                f"{counts.indexed} indexed, {counts.skipped} skipped, {counts.failed} failed, "
                f"{counts.chunks} chunks, {outcome.seconds:.1f} s"
            )
            return
        row = [f"{n:,}" for n in (counts.indexed, counts.skipped, counts.failed, counts.chunks)]
        columns = (">indexed", ">skipped", ">failed", ">chunks", ">seconds")
        print_table(columns, [[*row, f"{outcome.seconds:.1f}"]], empty="")

    def _pruning(self, plan: Plan, outcome: Outcome) -> None:
        if not outcome.stale:
            return
        some = ", ".join(outcome.stale[:3]) + (", …" if len(outcome.stale) > 3 else "")
        if plan.prune:
            self._say(f"Deleted {counted(outcome.pruned, 'document')} without a file: {escape(some)}")
        else:
            self._say(
                f"[yellow]{counted(len(outcome.stale), 'document')} without a file any more[/] ({escape(some)}); "
                "[cyan]--prune[/] deletes them"
            )

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _say(self, markup: str) -> None:
        self._console.print(markup, soft_wrap=True)


def _as_json(plan: Plan, outcome: Outcome) -> dict[str, object]:
    counts = outcome.counts
    return {
        "collection": plan.collection,
        "files": outcome.total,
        **counts.model_dump(),
        "seconds": round(outcome.seconds, 3),
        "errors": [{"document": document, "reason": reason} for document, reason in outcome.failures],
        "warnings": [{"document": document, "detail": detail} for document, detail in outcome.warnings],
        "stale": outcome.stale,
        "pruned": outcome.pruned,
        "jobs": list(outcome.jobs.values()),
    }
