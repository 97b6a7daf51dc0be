"""Runs one command as a Kubernetes Job."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from pydantic import BaseModel, JsonValue

from services.scheduler.commands.base import failed, job_facts, to_the_end, withdrawn
from services.scheduler.commands.kubernetes.cluster import Cluster
from services.scheduler.commands.kubernetes.errors import Refusal
from services.scheduler.commands.kubernetes.kinds import JOB, WorkloadKind, kind_named
from services.scheduler.commands.kubernetes.manifest import job_manifest, job_name, service_manifest
from services.scheduler.commands.kubernetes.operators import ray_job_manifest, train_job_manifest
from services.scheduler.commands.kubernetes.pods import Pods
from services.scheduler.commands.kubernetes.views import JobView, PodView
from services.scheduler.commands.log import CommandLog
from services.scheduler.commands.program import Program
from services.scheduler.commands.settings import CommandSettings
from services.scheduler.jobs.job_context import JobContext
from shared.contracts.problems import Problem, ProblemDetails, ProblemType
from shared.tasks import task_group

__all__ = ["KubernetesExecutor"]

log = logging.getLogger(__name__)

REMOVAL: Final = 60.0
"""Seconds, beside the time of grace, for a cancelled Job to be gone."""

ALREADY_EXISTS: Final = 409

MANIFESTS: Final = {"job": job_manifest, "trainjob": train_job_manifest, "rayjob": ray_job_manifest}


class _State(BaseModel):
    """The checkpoint: which Job stands for this job, and how it ended, if it has."""

    name: str
    kind: str = JOB.name
    created: bool = False
    ended: bool = False
    problem: ProblemDetails | None = None
    outputs: dict[str, JsonValue] = {}


class KubernetesExecutor:
    """A `CommandExecutor`.

    The Job's name follows from the job's id and try, and is kept as a checkpoint until the Job has ended. So a worker
    that takes the job over finds the Job that runs, and none is started twice. A worker that stops leaves it running.
    """

    def __init__(self, settings: CommandSettings) -> None:
        self._settings = settings

    async def run(self, context: JobContext, program: Program, log: CommandLog) -> None:
        async with Cluster.connect(self._settings) as cluster:
            try:
                await self._run(cluster, context, program, log)
            except Refusal as refusal:
                raise _refused(refusal) from refusal
            except asyncio.CancelledError:
                if withdrawn():
                    await to_the_end(self._remove(cluster, context))
                raise

    async def _kind(self, cluster: Cluster, program: Program) -> WorkloadKind:
        """The first of the program's kinds that the cluster serves."""
        for name in program.workloads:
            if await cluster.serves(kind := kind_named(name)):
                return kind
        raise Problem(
            ProblemType.COMMAND_REFUSED, f"The cluster serves none of the kinds {', '.join(program.workloads)}."
        )

    async def _run(self, cluster: Cluster, context: JobContext, program: Program, log: CommandLog) -> None:
        state = await self._state(context, lambda: self._kind(cluster, program))
        name = state.name
        cluster = cluster.of(kind_named(state.kind))
        if not await self._start(cluster, context, program, state):
            _repeat(state, log)
            return
        problem: Problem | None = None
        try:
            await self._see_through(cluster, program, name, log)
        except Problem as caught:
            if caught.kind is ProblemType.CLUSTER_UNAVAILABLE:
                raise  # the Job goes on; the next try takes it up
            problem = caught
        details = None if problem is None else problem.details
        ended = {"created": True, "ended": True, "problem": details, "outputs": log.outputs}
        await _save(context, state.model_copy(update=ended))
        if problem is not None:
            raise problem

    async def _state(self, context: JobContext, choose: Callable[[], Awaitable[WorkloadKind]]) -> _State:
        """Which Job stands for this try: that of an earlier one if its end is not known. `choose` is asked for the kind
        of a new one."""
        saved = await context.checkpoint()
        own = job_name(self._settings.kubernetes_prefix, context.job)
        if saved is not None:
            state = _State.model_validate(saved)
            if state.name == own or not state.ended:
                return state
        state = _State(name=own, kind=(await choose()).name)
        await _save(context, state)
        return state

    async def _start(self, cluster: Cluster, context: JobContext, program: Program, state: _State) -> bool:
        """Make the Job unless there is one. Returns whether there is one now; otherwise it is gone after its end.

        Raises Problem COMMAND_FAILED where its end is not known: to start it again is not for us to decide.
        """
        found = await cluster.job(state.name)
        if found is None and state.ended:
            return False
        if found is None and state.created:
            await _save(context, state.model_copy(update={"ended": True}))
            raise _gone(state.name)
        if found is None:
            manifest = MANIFESTS[cluster.kind.name](
                state.name, context.job, program, self._settings, facts=job_facts(context), remaining=context.remaining
            )
            try:
                found = await cluster.create_job(manifest)
            except Refusal as refusal:
                if refusal.status != ALREADY_EXISTS or (found := await cluster.job(state.name)) is None:
                    raise
        view = cluster.kind.view(found)
        if (view.tenant, view.job) != (context.tenant, context.job.id):
            raise Problem(ProblemType.CONFLICT, f"The Kubernetes Job '{state.name}' belongs to somebody else.")
        if program.connected and cluster.kind is JOB:
            await cluster.create_service(service_manifest(found))
        if not state.created:
            await _save(context, state.model_copy(update={"created": True}))
        return True

    async def _see_through(self, cluster: Cluster, program: Program, name: str, log: CommandLog) -> None:
        """Follow the Job to its end. Raises Problem where that is not a good one."""
        if cluster.kind.one_pod:
            program = replace(program, completions=1, parallelism=1)
        log.pods(0, program.completions)
        async with task_group() as tasks:
            pods = Pods(cluster, name, log, tasks, program=program, settings=self._settings)
            watching = tasks.create_task(pods.watch())
            job = await _ended(cluster, name, program, log)
            watching.cancel()
            last = await pods.finish()
        if job.failure is not None:
            raise _failure(job.failure, last, log)

    async def _remove(self, cluster: Cluster, context: JobContext) -> None:
        """Delete the Job and wait until it is gone. What cannot be done now the sweep does later."""
        try:
            async with asyncio.timeout(self._settings.command_grace_seconds + REMOVAL):
                state = await self._state(context, _plain)
                cluster = cluster.of(kind_named(state.kind))
                await cluster.delete_job(state.name)
                async with aclosing(cluster.watch_job(state.name)) as changes:
                    async for thing in changes:
                        if thing is None:
                            break
                await context.forget()
        except Exception as error:  # noqa: BLE001  (the job is cancelled whatever becomes of this)
            log.warning("cannot remove the Kubernetes Job of job %s now: %r", context.job.id, error)


async def _ended(cluster: Cluster, name: str, program: Program, log: CommandLog) -> JobView:
    """Wait for the end of a Job. Raises Problem COMMAND_FAILED where it goes without one."""
    async with aclosing(cluster.watch_job(name)) as changes:
        async for thing in changes:
            if thing is None:
                raise _gone(name)
            job = cluster.kind.view(thing)
            log.pods(job.succeeded, program.completions)
            if job.ended:
                return job
    raise AssertionError("a watch has no end")


async def _plain() -> WorkloadKind:
    return JOB


async def _save(context: JobContext, state: _State) -> None:
    await context.save(state.model_dump(mode="json"))


def _repeat(state: _State, log: CommandLog) -> None:
    """The end of a Job that has been deleted meanwhile."""
    if state.problem is not None:
        raise Problem.from_details(state.problem)
    log.outputs = dict(state.outputs)


def _gone(name: str) -> Problem:
    return Problem(
        ProblemType.COMMAND_FAILED,
        f"The Kubernetes Job '{name}' is gone, and nobody saw its end: it was deleted, or its `ttl_seconds` passed "
        "while no scheduler ran. Retry the job to run it again.",
    )


def _refused(refusal: Refusal) -> Problem:
    if refusal.status in (400, 422):
        return Problem(ProblemType.INVALID_REQUEST, f"Kubernetes does not take the Job: {refusal.message}")
    if refusal.status == 403 and "exceeded quota" in refusal.message:
        return Problem(ProblemType.CLUSTER_UNAVAILABLE, f"The namespace's quota is used up: {refusal.message}")
    return Problem(ProblemType.COMMAND_REFUSED, f"Kubernetes refuses: {refusal.message} (HTTP {refusal.status})")


def _failure(failure: tuple[str, str], pods: list[PodView], log: CommandLog) -> Problem:
    """Why a Job has failed, from its condition and its Pods."""
    reason, message = failure
    if reason == "DeadlineExceeded":
        return Problem(ProblemType.COMMAND_FAILED, "Kubernetes ended the command: it did not end by its deadline.")
    bad = next((pod for pod in reversed(pods) if pod.failed), None)
    if bad is None:
        return Problem(ProblemType.COMMAND_FAILED, f"The Kubernetes Job failed: {reason}: {message}")
    words = f":\n{log.last_words or bad.message}" if log.last_words or bad.message else "; it printed nothing."
    if bad.reason == "OOMKilled":
        return Problem(
            ProblemType.COMMAND_FAILED,
            f"The command took more memory than its limit and was killed{words}",
            exit_code=bad.exit_code,
        )
    if bad.exit_code is None:
        return Problem(ProblemType.COMMAND_FAILED, f"The Pod failed: {bad.reason or reason}{words}")
    cause = "" if bad.reason in ("", "Error") else f" ({bad.reason})"
    return failed(bad.exit_code, f"The command ended with exit code {bad.exit_code}{cause}{words}")
