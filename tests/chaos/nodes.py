"""nats-server as one process, or as a cluster of three, each on ports and a store of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.harness.broker import BINARY
from tests.harness.volatile_disk import VolatileDisk

__all__ = ["SYNCED", "Node", "free_ports", "nodes", "small_disk"]

PATIENCE: Final = 60.0
SYNCED: Final = "sync_interval: always"
"""As wherever Sluice writes the broker's configuration."""

DISK_MB: Final = 192
"""Megabytes of the disk that can be filled."""


class Node:
    """One nats-server. It keeps its ports and its store over restarts."""

    def __init__(
        self,
        folder: Path,
        name: str,
        ports: dict[str, int],
        routes: list[int],
        *,
        store: Path | None = None,
        jetstream: str = SYNCED,
    ) -> None:
        self.name = name
        self.ports = ports
        self.folder = folder
        self.store = store or folder / "store"
        self._jetstream = jetstream
        self.held = False
        """Whether a fault keeps it down or still."""
        self.program = BINARY
        self.disk: VolatileDisk | None = None
        """What its store is on, where this process may mount such a disk."""
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        self.store.mkdir(exist_ok=True)
        (folder / "nats.conf").write_text(self._config(routes))

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.ports['client']}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        with (self.folder / "nats.log").open("ab") as log:
            command = [str(self.program), "--config", str(self.folder / "nats.conf")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def healthy(self, path: str = "/healthz") -> bool:
        try:
            return bool(self.ask(path)["status"] == "ok")
        except (OSError, ValueError):
            return False

    @property
    def ill(self) -> bool:
        """Whether only a new start helps: it does not answer, JetStream is off, or a stream's write has failed.

        A stream whose write has failed once, as on a full disk, refuses every further one until then.
        """
        if not self.healthy("/healthz?js-enabled-only=true"):
            return True
        try:
            self.ask("/healthz")
        except HTTPError as error:
            return b"write error" in error.read()
        except (OSError, ValueError):
            return True
        return False

    def wait(self) -> None:
        """Until it says that it is well."""
        give_up = time.monotonic() + PATIENCE
        while not self.healthy():
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended: {self.folder / 'nats.log'}"
            assert time.monotonic() < give_up, f"{self.name} is not well: {self.folder / 'nats.log'}"
            time.sleep(0.05)

    def ask(self, path: str) -> dict[str, Any]:
        """A page of the monitoring port."""
        with urlopen(f"http://127.0.0.1:{self.ports['monitor']}{path}", timeout=2) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def send(self, number: int) -> None:
        if self.process is not None:
            os.kill(self.process.pid, number)

    def freeze(self) -> None:
        """Stop it for good, at this moment."""
        self.send(signal.SIGSTOP)

    def lose_store(self) -> None:
        """Have an empty disk from now on; it must not run."""
        for path in self.store.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def _config(self, routes: list[int]) -> str:
        lines = [
            f"server_name: {self.name}",
            f'listen: "127.0.0.1:{self.ports["client"]}"',
            f'http: "127.0.0.1:{self.ports["monitor"]}"',
            f'jetstream {{ store_dir: "{self.store}", max_memory_store: 1GB, max_file_store: 4GB',
            f"{self._jetstream} }}",
        ]
        if len(routes) > 1:
            urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
            own = f"127.0.0.1:{self.ports['cluster']}"
            lines.append(f'cluster {{ name: chaos, listen: "{own}", no_advertise: true, routes: [{urls}] }}')
        return "\n".join(lines) + "\n"


@contextmanager
def nodes(folder: Path, count: int) -> Iterator[list[Node]]:
    """So many nats-servers that are well; killed in the end."""
    with ExitStack() as stack:
        chosen = free_ports(count)
        made = [Node(folder / f"n{n}", f"n{n}", own, [o["cluster"] for o in chosen]) for n, own in enumerate(chosen)]
        for node in made:
            stack.callback(node.stop)
            _place(node, stack)
            node.start()
        for node in made:
            node.wait()
        yield made


def _place(node: Node, stack: ExitStack) -> None:
    """Have its store on a disk that can be filled and whose power can fail, where this process may mount one."""
    disk = VolatileDisk(node.store, DISK_MB)
    try:
        disk.make()
    except (OSError, subprocess.CalledProcessError):
        stack.enter_context(small_disk(node.store))
        return
    node.disk = disk
    # What happens last is undone first: the node ends before its disk goes.
    stack.callback(disk.remove)
    stack.callback(node.stop)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system in memory at a folder, where this process may mount one; nothing where it may not."""
    options = ["-t", "tmpfs", "-o", f"size={DISK_MB}m", "sluice-chaos", str(folder)]
    try:
        done = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    try:
        yield
    finally:
        if done:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def free_ports(count: int) -> list[dict[str, int]]:
    """Ports that were free a moment ago: nodes must know each other's before they start."""
    with ExitStack() as stack:
        names = ("client", "monitor", "cluster")
        sockets = [{name: stack.enter_context(socket.socket()) for name in names} for _ in range(count)]
        for own in sockets:
            for listening in own.values():
                listening.bind(("127.0.0.1", 0))
        return [{name: listening.getsockname()[1] for name, listening in own.items()} for own in sockets]
