"""What a notebook shows of a job while a cell waits for it."""

from collections.abc import Callable

from sluice.api.jobs import Job
from sluice.kernel import in_notebook

__all__ = ["job_display"]


def job_display(progress: bool) -> Callable[[Job], None]:
    """Takes each state of one job. Shows it below the cell in a notebook, and does nothing elsewhere."""
    if not progress or not in_notebook():
        return _nothing
    from sluice.notebook import LiveJob

    return LiveJob()


def _nothing(_: Job) -> None:
    pass
