"""How far a pipeline is: what its job saves, for the next worker and for those who look."""

from enum import StrEnum

from shared.contracts.wire import Wire

__all__ = ["PipelineState", "StepState", "StepStatus"]


class StepStatus(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in (StepStatus.WAITING, StepStatus.RUNNING)


class StepState(Wire):
    """One step. `job` is the id of its job, or what those of a step with `each` begin with; `total` is how many jobs it
    has, `reason` why it was skipped, failed or cancelled. `cached` are the jobs, by number, whose results were there
    already; `failures` the audit log's numbers of failures that are to be tried again, by job; `replaced` the jobs, by
    number, in the place of those that were cancelled before another try. Times: Unix seconds."""

    kind: str
    status: StepStatus = StepStatus.WAITING
    job: str = ""
    looped: bool = False
    total: int = 0
    done: int = 0
    failed: int = 0
    reason: str = ""
    cached: dict[int, str] = {}
    failures: dict[str, int] = {}
    replaced: dict[int, str] = {}
    started_at: float | None = None
    finished_at: float | None = None


class PipelineState(Wire):
    """`failed_in` is the try in which the pipeline has failed, 0 for none; a later one runs again what failed."""

    name: str
    steps: dict[str, StepState]
    failed_in: int = 0
