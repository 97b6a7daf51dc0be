"""One service as a process of its own, listening on a socket that the test has bound."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

__all__ = ["ServiceProcess"]


class ServiceProcess:
    """`python -m <module>` with settings given as keywords: `nats_url=...` becomes `SLUICE_NATS_URL`.

    The port is free, known before the process runs, and kept over restarts. As a context manager it is started, waited
    for until /readyz says yes, and killed at the end.
    """

    def __init__(self, module: str, folder: Path, **settings: object) -> None:
        name = module.rpartition(".")[2]
        folder.mkdir(parents=True, exist_ok=True)
        self._module = module
        self._log = folder / f"{name}-{id(self):x}.log"
        self._settings = {"data_dir": folder / f"{name}-data"} | settings
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the process has written to standard output and standard error."""
        return self._log.read_text() if self._log.exists() else ""

    def start(self) -> None:
        """Start the process; it may not be ready yet."""
        assert self._process is None, "it runs already"
        with socket.socket() as listening, self._log.open("ab") as log:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", self._port))
            listening.listen(2048)
            self._port = listening.getsockname()[1]
            given = {f"SLUICE_{key.upper()}": str(value) for key, value in self._settings.items()}
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                env={**os.environ, **given, "SLUICE_HTTP_FD": str(listening.fileno())},
                pass_fds=[listening.fileno()],
                stdout=log,
                stderr=log,
            )

    def wait_ready(self, timeout: float = 180.0) -> None:
        """Wait until /readyz says yes. Beside other tests, the libraries of a model alone may take a minute."""
        deadline = time.monotonic() + timeout
        with httpx.Client(trust_env=False, timeout=5) as client:
            while True:
                assert self._process is not None, "it was not started"
                assert self._process.poll() is None, f"{self._module} ended:\n{self.log}"
                assert time.monotonic() < deadline, f"{self._module} did not become ready:\n{self.log}"
                try:
                    if client.get(f"{self.url}/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.02)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for the end of the process. Returns its exit code."""
        assert self._process is not None
        code = self._process.wait(timeout)
        self._process = None
        return code

    def stop(self, timeout: float = 60.0) -> int:
        """Ask the process to stop and wait for it. Returns its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._process = None
