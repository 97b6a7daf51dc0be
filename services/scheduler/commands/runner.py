"""A program by an executor: what it prints is kept as an artifact, and what it has found is the job's."""

import asyncio
import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Final

from nats.errors import Error as NatsError

from services.scheduler.commands.base import CommandExecutor, to_the_end
from services.scheduler.commands.log import CommandLog
from services.scheduler.commands.program import Program
from services.scheduler.commands.settings import CommandSettings
from services.scheduler.jobs.job_context import JobContext
from shared.contracts.problems import Problem, ProblemType

__all__ = ["kubernetes_executor", "run_program"]

log = logging.getLogger(__name__)

LOG: Final = "log.txt"

ATTACHING: Final = 30.0
"""Seconds to store a program's log."""


async def run_program(
    context: JobContext,
    program: Program,
    executor: CommandExecutor,
    *,
    log_bytes: int,
    lines: Mapping[str, Callable[[str], None]] | None = None,
) -> None:
    """See a program to its good end. What it prints becomes the artifact `log.txt`, at least the last `log_bytes`.

    `lines` says by their beginnings who takes lines besides those that any command may print.
    """
    with CommandLog(context, log_bytes, lines) as output:
        async with context.reporting():
            try:
                await executor.run(context, program, output)
            finally:
                await to_the_end(_attach(context, output))
        context.outputs.update(output.outputs)


async def kubernetes_executor(settings: CommandSettings) -> CommandExecutor:
    """Raises Problem COMMAND_REFUSED where there is no cluster."""
    if not settings.kubernetes_enabled:
        raise Problem(
            ProblemType.COMMAND_REFUSED,
            "The scheduler runs in no Kubernetes cluster. Set SLUICE_KUBERNETES=true for it to use the one that its "
            "kubeconfig names.",
        )
    # The client is large: only who needs it waits for it, and the loop goes on meanwhile.
    module = await asyncio.to_thread(importlib.import_module, "services.scheduler.commands.kubernetes")
    executor: CommandExecutor = module.KubernetesExecutor(settings)
    return executor


async def _attach(context: JobContext, output: CommandLog) -> None:
    """A log that cannot be stored is no reason to run the program again."""
    try:
        async with asyncio.timeout(ATTACHING):
            await context.attach(LOG, output.read())
    except (NatsError, TimeoutError, OSError) as error:
        log.warning("cannot store the log of job %s: %r", context.job.id, error)
