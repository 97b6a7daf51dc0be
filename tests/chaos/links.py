"""The process with the proxies between services and the broker, and how it is told what to do."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Links", "links"]


class Links:
    """Ports to connect to, by service and node, and what passes there."""

    def __init__(self, process: "subprocess.Popen[bytes]", targets: dict[str, int]) -> None:
        self._process = process
        self._lock = threading.Lock()
        self.ports = self._say({"links": targets})

    def turn(self, names: Iterable[str], mode: str, seconds: float = 0.0) -> None:
        self._say({"names": list(names), "mode": mode, "seconds": seconds})

    def of(self, service: str) -> list[str]:
        """The links of a service to all nodes."""
        return [name for name in self.ports if name.split("/")[0] == service]

    def to(self, node: str) -> list[str]:
        """The links of all services to a node."""
        return [name for name in self.ports if name.split("/")[1] == node]

    def url(self, service: str) -> str:
        return ",".join(f"nats://127.0.0.1:{self.ports[name]}" for name in self.of(service))

    def _say(self, what: dict[str, Any]) -> Any:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


@contextmanager
def links(targets: dict[str, int]) -> Iterator[Links]:
    """Proxies called "<service>/<node>", each to a port of the broker."""
    command = [sys.executable, "-m", "tests.chaos.programs.proxy"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Links(process, targets)
        finally:
            process.kill()
