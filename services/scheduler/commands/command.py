"""The kind `command`: a program, as a Kubernetes Job or as a process beside the scheduler."""

import asyncio
import importlib
import logging
from typing import Final

from nats.errors import Error as NatsError

from services.scheduler.commands.base import CommandExecutor, to_the_end
from services.scheduler.commands.log import CommandLog
from services.scheduler.commands.process import ProcessExecutor
from services.scheduler.commands.settings import CommandSettings
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from shared.contracts.jobs import CommandSpec, Executor
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Command"]

log = logging.getLogger(__name__)

LOG: Final = "log.txt"

ATTACHING: Final = 30.0
"""Seconds to store a command's log."""


@job_kind(CommandSpec, pool=Pool.LONG)
def command(dependencies: JobDependencies) -> JobFunction:
    return Command(dependencies.settings)


class Command:
    """Runs commands and leaves what they print as the artifact `log.txt`."""

    def __init__(self, settings: CommandSettings) -> None:
        self._settings = settings

    async def __call__(self, context: JobContext) -> None:
        spec = context.spec
        assert isinstance(spec, CommandSpec)
        executor = await self._executor(spec)
        with CommandLog(context, self._settings.command_log_mb * 2**20) as output:
            async with context.reporting():
                try:
                    await executor.run(context, spec, output)
                finally:
                    await to_the_end(_attach(context, output))
            context.outputs.update(output.outputs)

    async def _executor(self, spec: CommandSpec) -> CommandExecutor:
        cluster = self._settings.kubernetes_enabled
        if spec.executor is Executor.PROCESS or (spec.executor is Executor.AUTO and not cluster):
            return ProcessExecutor(self._settings)
        if not cluster:
            raise Problem(
                ProblemType.COMMAND_REFUSED,
                "The scheduler runs in no Kubernetes cluster. Set SLUICE_KUBERNETES=true for it to use the one that "
                "its kubeconfig names.",
            )
        # The client is large: only who needs it waits for it, and the loop goes on meanwhile.
        module = await asyncio.to_thread(importlib.import_module, "services.scheduler.commands.kubernetes")
        executor: CommandExecutor = module.KubernetesExecutor(self._settings)
        return executor


async def _attach(context: JobContext, output: CommandLog) -> None:
    """A log that cannot be stored is no reason to run the command again."""
    try:
        async with asyncio.timeout(ATTACHING):
            await context.attach(LOG, output.read())
    except (NatsError, TimeoutError, OSError) as error:
        log.warning("cannot store the log of job %s: %r", context.job.id, error)
