"""The contract of a command executor, and what all executors share."""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, Final, Protocol

import anyio

from services.scheduler.commands.log import CommandLog
from services.scheduler.commands.program import Program
from services.scheduler.jobs.job_context import JobContext
from shared.contracts.problems import Problem, ProblemType

__all__ = ["TEMPORARY", "CommandExecutor", "failed", "job_facts", "to_the_end", "withdrawn"]

TEMPORARY: Final = 75
"""EX_TEMPFAIL of sysexits.h: with this exit code a command asks to be tried again."""


class CommandExecutor(Protocol):
    async def run(self, context: JobContext, program: Program, log: CommandLog) -> None:
        """See a program to its good end; what it prints goes to `log`.

        Raises Problem when it fails or cannot run. Cancelled, it ends what it has started, unless the job goes on
        elsewhere and can be taken up there.
        """


def job_facts(context: JobContext) -> dict[str, str]:
    """What every command finds in its environment about the job that it is."""
    return {"SLUICE_JOB": context.job.id, "SLUICE_TENANT": context.tenant, "SLUICE_ATTEMPT": str(context.job.attempt)}


def failed(code: int, detail: str) -> Problem:
    """The problem of a command that ended with this exit code."""
    kind = ProblemType.COMMAND_INTERRUPTED if code == TEMPORARY else ProblemType.COMMAND_FAILED
    return Problem(kind, detail, exit_code=code)


def withdrawn() -> bool:
    """Whether the task that calls this is being cancelled because its job was cancelled or has met its deadline;
    otherwise its worker stops, and the job goes on elsewhere."""
    return anyio.current_effective_deadline() == -math.inf


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work, however often the caller is cancelled meanwhile. The work must be bounded in time."""
    task = asyncio.create_task(work)
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
    task.result()
