"""The progress of a query by its events, and the problem that explains a passed deadline."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.contracts.envelope import Stop
from shared.contracts.events import AnyEvent, Progress
from shared.contracts.graphs import GRAPH, is_graph, stages
from shared.contracts.problems import Problem, ProblemType

__all__ = ["QueryProgress", "QueueState", "overdue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """A stage's queue: queries waiting in it, queries in work, and whether any worker pulls from it."""

    waiting: int
    in_work: int
    wanted: bool

    @property
    def deserted(self) -> bool:
        """No worker serves the queue: none has work, none pulls any."""
        return not self.wanted and not self.in_work


class QueryProgress:
    """The last stop of the slip that a worker has started on, in the newest attempt.

    Of a slip that decides on the way, those stops count that are written in it, and nobody knows which comes next.
    """

    def __init__(self, slip: Sequence[Stop]) -> None:
        self.slip = tuple(stages(slip))
        self._decides = (
            len(self.slip) if not is_graph(slip) else next(at for at, stop in enumerate(slip) if stop.stage == GRAPH)
        )
        self._attempt = 1
        self._started = -1
        self._is_graph = is_graph(slip)
        self._begun: set[str] = set()

    @property
    def not_begun(self) -> tuple[str, ...]:
        """The stages of a slip that decides on which no worker has started, in the order in which they are written."""
        if not self._is_graph:
            return ()
        return tuple(dict.fromkeys(stop.stage for stop in self.slip if stop.stage not in self._begun))

    @property
    def started(self) -> Stop | None:
        return self.slip[self._started] if self._started >= 0 else None

    @property
    def ahead(self) -> Stop | None:
        """The stop after the last started one; the first where none is. None also where the slip decides."""
        following = self._started + 1
        return self.slip[following] if following < self._decides else None

    def note(self, event: AnyEvent) -> None:
        if event.attempt > self._attempt:
            self._attempt, self._started = event.attempt, -1
            self._begun.clear()
        if type(event) is not Progress or event.attempt < self._attempt:
            return
        self._begun.add(event.stage)
        for at in range(self._started + 1, len(self.slip)):
            if self.slip[at].stage == event.stage:
                self._started = at
                return


def overdue(progress: QueryProgress, timeout: float, queue: QueueState | None) -> Problem:
    """The problem of a query whose deadline has passed. `queue` is that of the stop ahead, None if it has none yet.

    Events say when a stage starts on a query, and none says when it is done. So between two stops the state of the
    queue ahead decides: either the query waits there for a worker that does not exist, or the stage before works.
    """
    started, ahead = progress.started, progress.ahead
    if ahead is not None and (queue is None or (queue.deserted and (queue.waiting or started is None))):
        return _unavailable(ahead, f"No worker of stage '{ahead.stage}' is running", timeout)
    if started is None and ahead is not None:
        load = f"{queue.in_work} queries in work, {queue.waiting} waiting" if queue else ""
        return _unavailable(ahead, f"The workers of stage '{ahead.stage}' did not get to it ({load})", timeout)
    others = ", ".join(f"'{stage}'" for stage in progress.not_begun)
    if started is None and others:
        return _unavailable(progress.slip[0], f"No worker has begun on it, of the stages {others}", timeout)
    stage = started.stage if started else ""
    where = f"Stage '{stage}' had begun on it"
    if ahead is not None:
        where += f", stage '{ahead.stage}' had not yet"
    elif others:
        where += f", and none of the stages {others} yet, some of which its pipeline may pass by"
    return Problem(
        ProblemType.DEADLINE_EXCEEDED,
        f"The query did not finish within {timeout:g} s. {where}. Allow it more time, or run more workers.",
        stage=stage,
    )


def _unavailable(stop: Stop, what: str, timeout: float) -> Problem:
    variant = f" (variant '{stop.variant}')" if stop.variant != "default" else ""
    return Problem(
        ProblemType.STAGE_UNAVAILABLE,
        f"{what}{variant}; the query waited {timeout:g} s. `sluice status` shows what runs.",
        headers={"Retry-After": "1"},
        stage=stop.stage,
    )
