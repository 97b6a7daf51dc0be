"""The Pods of one Job: why they wait, what they print and how they end."""

import asyncio
from contextlib import aclosing
from typing import Final

from services.scheduler.commands.kubernetes.cluster import Cluster
from services.scheduler.commands.kubernetes.pod_logs import follow_log
from services.scheduler.commands.kubernetes.views import Object, PodView
from services.scheduler.commands.log import CommandLog
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Pods"]

AT_ONCE: Final = 16
"""Logs that are followed at once; those of further Pods are read when one of these has ended."""

LAST_LOGS: Final = 30.0
"""Seconds for the logs to be read after the Job has ended."""


class Pods:
    """`watch` follows the Pods of a Job and their logs; `finish` sees to the rest once the Job has ended.

    Its tasks run in the given group. One raises Problem COMMAND_FAILED where a container cannot be had for
    `start_seconds`, after deleting the Job.
    """

    def __init__(
        self, cluster: Cluster, job: str, log: CommandLog, tasks: asyncio.TaskGroup, *, start_seconds: float
    ) -> None:
        self._cluster = cluster
        self._job = job
        self._log = log
        self._tasks = tasks
        self._start_seconds = start_seconds
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._pods: dict[str, PodView] = {}
        self._logs: dict[str, asyncio.Task[None]] = {}
        self._stuck: dict[str, asyncio.Task[None]] = {}

    async def watch(self) -> None:
        """Follow the Pods, for ever."""
        async with aclosing(self._cluster.watch_pods(self._job)) as changes:
            async for things in changes:
                for thing in things.values():
                    self._see(thing)

    async def finish(self) -> list[PodView]:
        """Read the logs to their ends. Returns how the Pods are in the end."""
        for task in self._stuck.values():
            task.cancel()
        last = await self._cluster.pods(self._job)
        for thing in last:
            self._see(thing)
        if self._logs:
            _, late = await asyncio.wait(self._logs.values(), timeout=LAST_LOGS)
            for task in late:
                task.cancel()
            if late:
                self._log.note(f"the logs of {len(late)} Pods could not be read to their ends")
        return [PodView.of(thing) for thing in last]

    def _see(self, thing: Object) -> None:
        pod = PodView.of(thing)
        before = self._pods.get(pod.name)
        self._pods[pod.name] = pod
        if pod.waiting and (before is None or before.waiting != pod.waiting):
            self._log.note(pod.waiting)
        if pod.started and pod.name not in self._logs:
            self._logs[pod.name] = self._tasks.create_task(self._follow(pod))
        if pod.stuck and pod.name not in self._stuck:
            self._stuck[pod.name] = self._tasks.create_task(self._give_up(pod.name))
        elif not pod.stuck and (task := self._stuck.pop(pod.name, None)):
            task.cancel()

    async def _follow(self, pod: PodView) -> None:
        async with self._slots:
            await follow_log(self._cluster, pod.name, pod.index, lambda: self._pods[pod.name].finished, self._log)

    async def _give_up(self, name: str) -> None:
        await asyncio.sleep(self._start_seconds)
        detail = f"The command could not be started within {self._start_seconds:.0f} s: {self._pods[name].waiting}"
        await self._cluster.delete_job(self._job)
        raise Problem(ProblemType.COMMAND_FAILED, detail)
