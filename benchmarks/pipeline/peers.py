"""Ray Serve and wired FastAPI services, run by the interpreter of .venv-peers."""

import socket
from contextlib import ExitStack
from pathlib import Path

from benchmarks import suite
from benchmarks.pipeline.contenders import Contender, Processes, listening

__all__ = ["RayServe", "RayServeDefault", "WiredAiohttp", "WiredHttpx"]

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0"}

THROUGHPUT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "2",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
}
"""What Ray's documentation names for high throughput."""


class RayServe(Contender):
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


class WiredHttpx(Contender):
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
