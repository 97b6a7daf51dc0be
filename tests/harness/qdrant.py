"""A Qdrant server for tests, and stores on it."""

import atexit
import socket
import subprocess
import sys
import tempfile
import uuid
from functools import cache, partial
from pathlib import Path
from typing import Final, Self

from qdrant_client import AsyncQdrantClient, models

from services.retriever.stores.qdrant.address import Address
from services.retriever.stores.qdrant.connection import Connection
from services.retriever.stores.qdrant.store import QdrantStore
from tests.harness.paths import ROOT

__all__ = ["QdrantServer", "open_qdrant", "shared_address"]


MEMORY: Final = Path("/dev/shm")
"""Where files need no disk: the engine syncs them with every index that it makes."""


class QdrantServer:
    """`tests.harness.programs.qdrant_server` as a process of its own."""

    def __init__(self, key: str = "") -> None:
        self._key = key
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def uri(self) -> str:
        """Of the index, as the retriever's setting has it."""
        return f"qdrant://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Its port is listened on at the end, and kept for the next start. It begins with nothing."""
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._port))
            listener.listen(256)
            self._port = listener.getsockname()[1]
            descriptor = listener.fileno()
            program = [sys.executable, "-m", "tests.harness.programs.qdrant_server", str(descriptor)]
            folder = tempfile.mkdtemp(prefix="qdrant-", dir=MEMORY if MEMORY.is_dir() else None)
            self._process = subprocess.Popen([*program, folder, self._key], pass_fds=[descriptor], cwd=ROOT)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


@cache
def _shared() -> QdrantServer:
    server = QdrantServer().start()
    atexit.register(server.stop)
    return server


_used: dict[str, str] = {}
_free: list[str] = []
"""Prefixes of indices: those in use by path, and those whose collections are empty. To make new ones takes a second."""


def shared_address(path: Path | str) -> Address:
    """Of the index for a path."""
    if str(path) not in _used:
        _used[str(path)] = _free.pop() if _free else uuid.uuid4().hex
    return Address.parse(f"{_shared().uri}/{_used[str(path)]}")


async def open_qdrant(path: Path | str) -> QdrantStore:
    """A store on the one server that all tests of this process share. Stores of one path have one index, which is empty
    once the first of them is closed."""
    address = shared_address(path)
    return _ShortLived(str(path), Connection.open(address), address)


class _ShortLived(QdrantStore):
    def __init__(self, path: str, connection: Connection, address: Address) -> None:
        super().__init__(connection, address)
        self._path = path

    async def close(self) -> None:
        if (prefix := _used.pop(self._path, None)) is not None:
            await self._connection.call(partial(_clear, prefix=prefix), seconds=60)
            _free.append(prefix)
        await super().close()


async def _clear(client: AsyncQdrantClient, *, prefix: str) -> None:
    everything = models.FilterSelector(filter=models.Filter(must=[]))
    for one in (await client.get_collections()).collections:
        if one.name.startswith(prefix):
            await client.delete(one.name, points_selector=everything, wait=True)
