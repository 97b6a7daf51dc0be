"""Ray Serve and wired FastAPI services, run by the interpreter of .venv-peers."""

import json
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from benchmarks import suite
from benchmarks.load import post
from benchmarks.peers.constants import QUESTION
from benchmarks.pipeline.contenders import Processes, fetch, listening, wait_answer

__all__ = ["RayServe", "RayServeDefault", "WiredAiohttp", "WiredHttpx"]

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0"}

THROUGHPUT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "2",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
}
"""What Ray's documentation names for high throughput."""


class _Peer:
    """One that takes `{"question", "collection", "stream"}` at /v1/query."""

    peer = True
    levels: tuple[int, ...] | None = None
    name: str

    def __init__(self) -> None:
        self.url = ""
        self.pids: list[int] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            processes = Processes(stack, folder)
            self._start(stack, processes, folder)
            self.pids = processes.pids
            wait_answer(lambda: fetch(self.url, self._body(0, streamed=False)), processes, self.name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def request(self, number: int, streamed: bool) -> bytes:
        return post(self.url, json.dumps(self._body(number, streamed)).encode())

    def _body(self, number: int, streamed: bool) -> dict[str, Any]:
        return {"question": QUESTION.format(number), "collection": "manuals", "stream": streamed}

    def _start(self, stack: ExitStack, processes: Processes, folder: Path) -> None:
        """Start the processes and set the URL."""
        raise NotImplementedError


class RayServe(_Peer):
    name = "ray"
    label = "Ray Serve, tuned"
    settings = QUIET | THROUGHPUT

    def _start(self, _: ExitStack, processes: Processes, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1/query"
        command = [str(suite.peers_python()), "-m", "benchmarks.peers.ray_serve", str(port), str(folder / "ray")]
        processes.start(command, **self.settings)


class RayServeDefault(RayServe):
    name = "ray-default"
    label = "Ray Serve, defaults"
    settings = QUIET
    levels = (64,)


class WiredHttpx(_Peer):
    name = "fastapi-httpx"
    label = "FastAPI, httpx"
    levels = (1, 16, 64)
    client = "httpx"

    def _start(self, stack: ExitStack, processes: Processes, folder: Path) -> None:  # noqa: ARG002
        urls: dict[str, str] = {}
        for service in ("embed", "retrieve", "generate", "gateway"):
            with listening() as bound:
                descriptor = bound.fileno()
                command = [str(suite.peers_python()), "-m", "benchmarks.peers.wired", service, str(descriptor)]
                processes.start(command, fds=(descriptor,), CLIENT=self.client, **urls)
                urls[f"{service.upper()}_URL"] = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        self.url = f"{urls['GATEWAY_URL']}v1/query"


class WiredAiohttp(WiredHttpx):
    name = "fastapi-aiohttp"
    label = "FastAPI, aiohttp"
    levels = None
    client = "aiohttp"
