"""One child process: in a session of its own, its output appended to a log file, nothing of it left when it ends."""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sluice.local.guard import Guard

__all__ = ["Child"]


class Child:
    """A started process. Its session is its own, so the terminal's Ctrl-C reaches the supervisor alone.

    Starting is one step that cannot be cancelled half-way. `OSError` where the program cannot be run.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        guard: Guard,
        gentle: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  (the services and the broker)
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
        self._guard = guard
        guard.add(self.pid, gentle=gentle)
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        threading.Thread(target=self._wait, name=f"wait-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._exit.done()

    async def exited(self) -> int:
        """Wait for the end: the exit status, or the negative number of the signal that killed it."""
        return await asyncio.shield(self._exit)

    async def stop(self, patience: float) -> bool:
        """SIGTERM, and SIGKILL after `patience` seconds; whether it ended by itself."""
        if not self.alive:
            return True
        self._process.terminate()
        try:
            async with asyncio.timeout(patience):
                await self.exited()
        except TimeoutError:
            self.kill()
            await self.exited()
            return False
        return True

    def kill(self) -> None:
        """Kill the process and all that it started."""
        if self.alive:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _wait(self) -> None:
        code = self._process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._guard.remove(self.pid)
        loop = self._exit.get_loop()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._ended, code)

    def _ended(self, code: int) -> None:
        if not self._exit.done():
            self._exit.set_result(code)
