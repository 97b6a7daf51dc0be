"""Following a job to its end: a live table of a pipeline's steps, a line for any other job, plain lines in a pipe."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sluice.api.jobs import Job, JobState, Step
from sluice.cli.job_report import STYLES, now, units
from sluice.cli.output import console, errors, took
from sluice.cli.plain import say
from sluice.client.errors import SluiceError

if TYPE_CHECKING:
    from sluice.client import Client

__all__ = ["follow", "print_steps"]

SIGNS = {
    "waiting": ("·", "dim"),
    "running": ("▸", "cyan"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("-", "yellow"),
    "cancelled": ("■", "yellow"),
}
FRAMES = 8


def follow(client: "Client", job_id: str, *, quiet: bool = False) -> Job:
    """Show a job until it ends, and return it. Ctrl-C stops the showing, not the job."""
    terminal = console()
    view = _View(client, job_id)
    try:
        if quiet:
            return client.wait(job_id)
        if not terminal.is_terminal:
            return _lines(view, terminal)
        return _live(view, terminal)
    except KeyboardInterrupt:
        errors().print(
            f"The job goes on: sluice jobs follow {job_id}. To end it: sluice jobs cancel {job_id}.", soft_wrap=True
        )
        raise


def print_steps(steps: Sequence[Step]) -> None:
    """The steps of a pipeline as a table; in a pipe one line a step, with tabs."""
    terminal = console()
    if terminal.is_terminal:
        terminal.print(_table(steps))
        return
    for step in steps:
        cells = (step.step, step.kind, step.status, _count(step), took(step.started_at, step.finished_at), step.reason)
        say("\t".join(cells))


@dataclass(slots=True)
class _View:
    """What is known of the job and its steps."""

    client: "Client"
    job_id: str
    job: Job | None = None
    steps: list[Step] = field(default_factory=list)

    def see(self, job: Job) -> None:
        self.job = job
        if job.kind == "pipeline":
            with suppress(SluiceError):  # the next look shows it
                self.steps = self.client.job_steps(self.job_id)

    def __rich__(self) -> RenderableType:
        """Drawn again and again: what runs shows how long it has."""
        if self.job is None:
            return Text("")
        return Group(*([_table(self.steps)] if self.steps else []), _line(self.job))


def _live(view: _View, terminal: Console) -> Job:
    with Live(view, console=terminal, refresh_per_second=FRAMES, transient=True):
        for job in view.client.watch(view.job_id):
            view.see(job)
    assert view.job is not None
    if view.steps:
        terminal.print(_table(view.steps))
    return view.job


def _lines(view: _View, terminal: Console) -> Job:
    """A line whenever something has changed."""
    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:
            said.add(line)
            terminal.print(line, markup=False, soft_wrap=True)

    for job in view.client.watch(view.job_id):
        view.see(job)
        for step in view.steps:
            if step.status != "waiting":
                say("  ".join(part for part in (step.step, step.status, step.reason) if part))
        if not view.steps:
            say("  ".join(part for part in (job.state.value, units(job), now(job)) if part))
    assert view.job is not None
    return view.job


def _table(steps: Sequence[Step]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("", "step", "kind", "state"):
        table.add_column(heading)
    table.add_column("took", justify="right")
    table.add_column("", overflow="fold", style="dim")
    for step in steps:
        sign, style = SIGNS.get(step.status, ("?", "dim"))
        first: RenderableType = Spinner("dots", style=style) if step.status == "running" else Text(sign, style=style)
        state = Text(f"{step.status} {_count(step)}".strip(), style=style)
        table.add_row(first, step.step, step.kind, state, took(step.started_at, step.finished_at), escape(_note(step)))
    return table


def _count(step: Step) -> str:
    return f"{step.done}/{step.total}" if step.total > 1 else ""


def _note(step: Step) -> str:
    if step.reason:
        return step.reason
    if not step.cached:
        return ""
    return "from an earlier run" if step.cached == step.total else f"{step.cached} from an earlier run"


def _line(job: Job) -> RenderableType:
    style = STYLES.get(job.state, "cyan")
    parts = [
        f"[bold]{escape(job.id)}[/] {escape(job.kind)} [{style}]{job.state}[/]",
        units(job) if job.kind != "pipeline" else "",
        escape(now(job)),
        f"[dim]{took(job.started_at or job.created_at, job.finished_at)}[/]",
    ]
    text = "  ".join(part for part in parts if part)
    return Spinner("dots", text=text, style="cyan") if job.state is JobState.RUNNING else Text.from_markup(text)
