"""What keeps the Pods of one Job from starting, and how long it may."""

import asyncio
from dataclasses import dataclass

from services.scheduler.commands.kubernetes.cluster import Cluster
from services.scheduler.commands.log import CommandLog
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Obstacles"]


@dataclass(slots=True)
class _Obstacle:
    text: str
    seconds: float | None
    timer: asyncio.Task[None] | None


class Obstacles:
    """At most one obstacle for each name: a Pod's, or the Job's own where a Pod cannot be created.

    The log notes each new text. An obstacle that lasts for its limit deletes the Job, and raises Problem COMMAND_FAILED
    in the given group.
    """

    def __init__(self, cluster: Cluster, job: str, log: CommandLog, tasks: asyncio.TaskGroup) -> None:
        self._cluster = cluster
        self._job = job
        self._log = log
        self._tasks = tasks
        self._found: dict[str, _Obstacle] = {}
        self._closed = False

    def set(self, name: str, text: str, seconds: float | None) -> None:
        """Something keeps `name` from starting, and may for so many seconds; None: for as long as the job may last."""
        if self._closed:
            return
        known = self._found.get(name)
        if known is None or known.text != text:
            self._log.note(text)
        if known is not None and known.seconds == seconds:
            known.text = text  # its time goes on
            return
        self.clear(name)
        timer = None if seconds is None else self._tasks.create_task(self._give_up(name, seconds))
        self._found[name] = _Obstacle(text, seconds, timer)

    def clear(self, name: str) -> None:
        """Nothing keeps `name` from starting any more."""
        known = self._found.pop(name, None)
        if known is not None and known.timer is not None:
            known.timer.cancel()

    def close(self) -> None:
        """The Job has ended: nothing keeps it from starting, now or later."""
        self._closed = True
        for name in list(self._found):
            self.clear(name)

    async def _give_up(self, name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        detail = f"The command could not be started within {seconds:.0f} s: {self._found[name].text}"
        await self._cluster.delete_job(self._job)
        raise Problem(ProblemType.COMMAND_FAILED, detail)
