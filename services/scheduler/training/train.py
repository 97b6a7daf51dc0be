"""The job kind `train`: a process beside the scheduler or a Kubernetes Job trains a model and publishes it.

The program saves checkpoints on the broker. Whatever dies, it is started again and goes on from the last one; a
Kubernetes Job goes on without the scheduler.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final

import anyio
from nats.errors import Error as NatsError
from pydantic import ValidationError

from services.scheduler.commands.base import CommandExecutor, withdrawn
from services.scheduler.commands.process import ProcessExecutor
from services.scheduler.commands.program import Program
from services.scheduler.commands.runner import kubernetes_executor, run_program
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from services.scheduler.settings import SchedulerSettings
from services.scheduler.training.checks import need_packages, runs_in_cluster
from services.scheduler.training.program import cluster_program, local_program, order_of
from shared.contracts.jobs import TrainSpec
from shared.contracts.problems import Problem, ProblemDetails, ProblemType
from shared.contracts.training import PROBLEM
from shared.stores.artifacts import Artifacts
from shared.stores.training import TrainingCheckpoints

__all__ = ["TrainJob"]

log = logging.getLogger(__name__)

KILLED: Final = (137, 143)
"""Exit codes of a program that SIGKILL or SIGTERM has ended: nothing that it could have done otherwise."""

LAST_WORDS: Final = 5.0


@job_kind(TrainSpec, pool=Pool.LONG)
def train(dependencies: JobDependencies) -> JobFunction:
    return TrainJob(dependencies.settings, dependencies.artifacts, TrainingCheckpoints(dependencies.bus.jetstream))


class TrainJob:
    """One per process."""

    def __init__(self, settings: SchedulerSettings, artifacts: Artifacts, checkpoints: TrainingCheckpoints) -> None:
        self._settings = settings
        self._artifacts = artifacts
        self._checkpoints = checkpoints
        self._room = asyncio.Semaphore(settings.training_room)

    async def __call__(self, context: JobContext) -> None:
        """Raises Problem NOT_FOUND, INVALID_REQUEST, TRAINING_REFUSED, TRAINING_FAILED, and some that may pass."""
        spec = context.spec
        assert isinstance(spec, TrainSpec)
        for file in spec.files:
            await self._artifacts.size(context.tenant, f"{spec.dataset}/{file}")
        try:
            if runs_in_cluster(spec, self._settings):
                await self._run_in_cluster(context, spec)
            else:
                await self._run_here(context, spec)
        except anyio.get_cancelled_exc_class():
            if withdrawn():
                with suppress(NatsError, TimeoutError), anyio.move_on_after(LAST_WORDS, shield=True):
                    await self._checkpoints.delete(context.tenant, context.job.id)
            raise
        await self._checkpoints.delete(context.tenant, context.job.id)

    async def _run_in_cluster(self, context: JobContext, spec: TrainSpec) -> None:
        order = order_of(context.job, spec, self._settings.training_bases, local=False)
        executor = await kubernetes_executor(self._settings)
        await self._run(context, cluster_program(order, self._settings), executor)

    async def _run_here(self, context: JobContext, spec: TrainSpec) -> None:
        need_packages()
        order = order_of(context.job, spec, self._settings.training_bases, local=True)
        if self._room.locked():
            context.progress(message="waiting for another training to end")
            await context.show()
        async with self._room:
            await self._run(context, local_program(order, self._settings), ProcessExecutor(self._settings))

    async def _run(self, context: JobContext, program: Program, executor: CommandExecutor) -> None:
        told: list[Problem] = []

        def note(text: str) -> None:
            with suppress(ValidationError):
                told.append(Problem.from_details(ProblemDetails.model_validate_json(text)))

        try:
            await run_program(
                context,
                program,
                executor,
                log_bytes=self._settings.command_log_mb * 2**20,
                lines={PROBLEM: note},
            )
        except Problem as problem:
            raise _explained(problem, told) from problem


def _explained(problem: Problem, told: list[Problem]) -> Problem:
    """The problem of a training whose program has failed with this one, after it has told others."""
    if problem.kind not in (ProblemType.COMMAND_FAILED, ProblemType.COMMAND_INTERRUPTED):
        return problem
    if told:
        return told[-1]
    if problem.extras.get("exit_code") in KILLED and problem.kind is ProblemType.COMMAND_FAILED:
        return Problem(ProblemType.COMMAND_INTERRUPTED, f"The trainer was killed. {problem.detail}")
    if problem.kind is ProblemType.COMMAND_FAILED:
        return Problem(ProblemType.TRAINING_FAILED, problem.detail, **problem.extras)
    return problem
