"""The kind `command`: a program, as a Kubernetes Job or as a process beside the scheduler."""

from services.scheduler.commands.base import CommandExecutor
from services.scheduler.commands.process import ProcessExecutor
from services.scheduler.commands.program import Program
from services.scheduler.commands.runner import kubernetes_executor, run_program
from services.scheduler.commands.settings import CommandSettings, LocalCommands
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from shared.contracts.jobs import CommandSpec, Executor
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Command"]


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
        await run_program(context, Program.of(spec), executor, log_bytes=self._settings.command_log_mb * 2**20)

    async def _executor(self, spec: CommandSpec) -> CommandExecutor:
        cluster = self._settings.kubernetes_enabled
        if spec.executor is Executor.PROCESS or (spec.executor is Executor.AUTO and not cluster):
            self._check(spec)
            return ProcessExecutor(self._settings)
        return await kubernetes_executor(self._settings)

    def _check(self, spec: CommandSpec) -> None:
        if self._settings.commands is not LocalCommands.PROCESS:
            raise Problem(
                ProblemType.COMMAND_REFUSED,
                "Commands do not run on this machine: they could do all that the scheduler's own user can. Set "
                "SLUICE_COMMANDS=process for the scheduler where everybody who may submit jobs may do that, or run "
                "it in a Kubernetes cluster.",
            )
        if not spec.command:
            raise Problem(ProblemType.INVALID_REQUEST, "Without a cluster there are no images: say `command`.")
