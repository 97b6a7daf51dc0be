"""A real nats-server for tests: its own process, port and store; it can be killed and brought back."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

BINARY = Path(sys.executable).parent / "nats-server"


class NatsServer:
    """nats-server with JetStream on a free port of 127.0.0.1, which it keeps over restarts; `options` are its flags."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._port = "-1"
        self._monitoring = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    @property
    def monitoring(self) -> str:
        """The address of its monitoring port, where its options have `-m -1`."""
        return self._monitoring

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        command = [str(BINARY), "-js", "-sd", str(folder / "store"), "-a", "127.0.0.1", "-p", self._port]
        command += ["--ports_file_dir", str(folder), "-l", str(folder / "nats.log")]
        self._process = subprocess.Popen([*command, *self._options])
        ports = folder / f"nats-server_{self._process.pid}.ports"
        deadline = time.monotonic() + 20
        while not (text := ports.read_text() if ports.exists() else ""):
            assert self._process.poll() is None, (folder / "nats.log").read_text()
            assert time.monotonic() < deadline, "nats-server did not start"
            time.sleep(0.005)
        listening = json.loads(text)
        self._port = listening["nats"][0].rpartition(":")[2]
        self._monitoring = next(iter(listening.get("monitoring") or ()), "")

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)
        self._process.wait(20)
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
