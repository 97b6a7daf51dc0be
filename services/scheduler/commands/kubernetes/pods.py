"""The Pods of one Job: why they wait, what they print and how they end."""

import asyncio
from contextlib import aclosing
from typing import Final

from services.scheduler.commands.kubernetes.cluster import Cluster
from services.scheduler.commands.kubernetes.events import watch_events
from services.scheduler.commands.kubernetes.obstacles import Obstacles
from services.scheduler.commands.kubernetes.pod_logs import follow_log
from services.scheduler.commands.kubernetes.views import EventView, Object, PodView
from services.scheduler.commands.log import CommandLog
from services.scheduler.commands.program import Program
from services.scheduler.commands.settings import CommandSettings

__all__ = ["Pods"]

AT_ONCE: Final = 16
"""Logs that are followed at once; those of further Pods are read when one of these has ended."""

LAST_LOGS: Final = 30.0
"""Seconds for the logs to be read after the Job has ended."""


class Pods:
    """`watch` follows the Pods of a Job and their logs; `finish` sees to the rest once the Job has ended.

    Its tasks run in the given group. One raises Problem COMMAND_FAILED, after deleting the Job, where for too long no
    Pod can be created, no node takes one, or a container cannot be had.
    """

    def __init__(
        self,
        cluster: Cluster,
        job: str,
        log: CommandLog,
        tasks: asyncio.TaskGroup,
        *,
        program: Program,
        settings: CommandSettings,
    ) -> None:
        self._cluster = cluster
        self._job = job
        self._log = log
        self._tasks = tasks
        self._program = program
        self._settings = settings
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._pods: dict[str, PodView] = {}
        self._logs: dict[str, asyncio.Task[None]] = {}
        self._obstacles = Obstacles(cluster, job, log, tasks)
        self._there: set[str] = set()
        self._warned: set[str] = set()

    async def watch(self) -> None:
        """Follow the Pods, for ever."""
        events = self._tasks.create_task(watch_events(self._cluster, self._unexplained, self._warn))
        try:
            async with aclosing(self._cluster.watch_pods(self._job)) as changes:
                async for things in changes:
                    self._see_all(things)
        finally:
            events.cancel()

    async def finish(self) -> list[PodView]:
        """Read the logs to their ends. Returns how the Pods are in the end."""
        self._obstacles.close()
        last = await self._cluster.pods(self._job)
        for thing in last:
            self._see(PodView.of(thing, self._cluster.kind.container))
        if self._logs:
            _, late = await asyncio.wait(self._logs.values(), timeout=LAST_LOGS)
            for task in late:
                task.cancel()
            if late:
                self._log.note(f"the logs of {len(late)} Pods could not be read to their ends")
        return [PodView.of(thing, self._cluster.kind.container) for thing in last]

    def _see_all(self, things: dict[str, Object]) -> None:
        for name in self._there - things.keys():
            self._obstacles.clear(name)
        self._there = set(things)
        for thing in things.values():
            self._see(PodView.of(thing, self._cluster.kind.container))
        if self._unfinished or not self._missing:
            self._obstacles.clear(self._job)

    def _see(self, pod: PodView) -> None:
        self._pods[pod.name] = pod
        if pod.started and pod.name not in self._logs:
            self._logs[pod.name] = self._tasks.create_task(self._follow(pod))
        if pod.explained:
            self._warned.discard(pod.name)
        if pod.stuck:
            self._obstacles.set(pod.name, pod.waiting, self._settings.kubernetes_start_seconds)
        elif pod.unscheduled:
            self._obstacles.set(pod.name, pod.waiting, self._settings.kubernetes_node_seconds)
        elif pod.name in self._warned:
            return  # the warning says more than the status
        elif pod.waiting:
            self._obstacles.set(pod.name, pod.waiting, None)
        else:
            self._obstacles.clear(pod.name)

    async def _follow(self, pod: PodView) -> None:
        async with self._slots:
            await follow_log(self._cluster, pod.name, pod.index, lambda: self._pods[pod.name].finished, self._log)

    @property
    def _unfinished(self) -> list[PodView]:
        return [pod for pod in map(self._pods.__getitem__, self._there) if not pod.finished]

    @property
    def _missing(self) -> bool:
        """Whether the Job has fewer Pods than it should have at once."""
        succeeded = sum(pod.finished and not pod.failed for pod in self._pods.values())
        return len(self._unfinished) < min(self._program.parallelism, self._program.completions - succeeded)

    def _unexplained(self) -> list[str]:
        """What only events explain: the Job while Pods are missing, and Pods whose status gives no reason."""
        waiting = [pod.name for pod in self._unfinished if not pod.explained]
        return [self._job, *waiting] if self._missing else waiting

    def _warn(self, name: str, event: EventView) -> None:
        start_seconds = self._settings.kubernetes_start_seconds
        if name == self._job:
            # While others of its Pods run, the Job makes progress, and may wait for room.
            seconds = None if self._unfinished else start_seconds
            self._obstacles.set(name, f"waiting for a Pod: {event.message or event.reason}", seconds)
        else:
            self._warned.add(name)
            self._obstacles.set(name, f"starting: {event.reason}: {event.message}", start_seconds)
