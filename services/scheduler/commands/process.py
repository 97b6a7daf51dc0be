"""Commands as processes beside the scheduler, for one machine without a cluster."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from services.scheduler.commands import launcher
from services.scheduler.commands.base import failed, job_facts, to_the_end
from services.scheduler.commands.log import CommandLog, Lines
from services.scheduler.commands.program import Program
from services.scheduler.commands.settings import CommandSettings
from services.scheduler.jobs.job_context import JobContext
from shared.contracts.problems import Problem
from shared.tasks import task_group

__all__ = ["ProcessExecutor"]

LAUNCHER: Final = (sys.executable, "-I", "-S", str(Path(launcher.__file__)))

PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""What a command gets of the scheduler's environment. The rest may hold secrets."""

KILLED: Final = 10.0
"""Seconds for a launcher to end after its command was killed."""

CHUNK: Final = 64 * 1024


class ProcessExecutor:
    """A `CommandExecutor`. A command that is cut off, by whatever, is run again from its start by the next worker."""

    def __init__(self, settings: CommandSettings) -> None:
        self._settings = settings

    async def run(self, context: JobContext, program: Program, log: CommandLog) -> None:
        slots = asyncio.Semaphore(program.parallelism)
        failures = 0

        async def complete(index: int) -> None:
            nonlocal failures
            async with slots:
                while True:
                    try:
                        await self._once(context, program, log, index)
                    except Problem as problem:
                        failures += 1
                        if failures > program.backoff_limit:
                            raise
                        log.note(f"started again: {problem.detail}")
                    else:
                        return

        async with task_group() as tasks:
            for index in range(program.completions):
                tasks.create_task(complete(index))

    async def _once(self, context: JobContext, program: Program, log: CommandLog, index: int) -> None:
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        # `python` is the one that the scheduler runs with, with the packages that are there.
        env["PATH"] = os.pathsep.join(filter(None, (str(Path(sys.executable).parent), env.get("PATH"))))
        one_of_many = index if program.completions > 1 else None
        indexed = {} if one_of_many is None else {"JOB_COMPLETION_INDEX": str(index)}
        order = {
            "argv": [*program.command, *program.args],
            "env": env | job_facts(context) | indexed | dict(program.env),
        }
        code = await self._keep(json.dumps(order).encode() + b"\n", log, one_of_many)
        if code != 0:
            raise failed(code, _said(code, log))

    async def _keep(self, order: bytes, log: CommandLog, index: int | None) -> int:
        """Run a launcher with its command. Returns the exit code."""
        pipe = asyncio.subprocess.PIPE
        # The launcher itself needs nothing of the environment but where its Python's libraries are.
        env = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *LAUNCHER, stdin=pipe, stdout=pipe, stderr=pipe, env=env, start_new_session=True
        )
        assert process.stdin is not None
        try:
            process.stdin.write(order)
            with suppress(ConnectionError):
                await process.stdin.drain()
            return await _ended(process, log, index)
        finally:
            if process.returncode is None:
                await to_the_end(self._stop(process, log, index))
            process.stdin.close()

    async def _stop(self, process: asyncio.subprocess.Process, log: CommandLog, index: int | None) -> None:
        """Ask the command to end, and kill it after the time of grace."""
        assert process.stdin is not None
        with suppress(TimeoutError, ConnectionError):
            process.stdin.write(launcher.TERMINATE)
            async with asyncio.timeout(self._settings.command_grace_seconds):
                await _ended(process, log, index)
        process.stdin.close()
        try:
            async with asyncio.timeout(KILLED):
                await _ended(process, log, index)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _ended(process: asyncio.subprocess.Process, log: CommandLog, index: int | None) -> int:
    """Read what the command prints to its end. Returns its exit code."""
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_read(process.stdout, log, index, error=False))
        tasks.create_task(_read(process.stderr, log, index, error=True))
    return await process.wait()


async def _read(stream: asyncio.StreamReader, log: CommandLog, index: int | None, *, error: bool) -> None:
    lines = Lines()
    while data := await stream.read(CHUNK):
        for line in lines.feed(data):
            log.line(line, error=error, index=index)
    for line in lines.end():
        log.line(line, error=error, index=index)


def _said(code: int, log: CommandLog) -> str:
    words = f":\n{log.last_words}" if log.last_words else "; it printed nothing."
    with suppress(ValueError):
        return f"The command was ended by {signal.Signals(code - 128).name}{words}"
    return f"The command ended with exit code {code}{words}"
