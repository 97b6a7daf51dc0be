"""Those that the empty pipeline is measured on. Each starts processes of its own and answers on one port."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks import suite
from benchmarks.load import Response, post
from benchmarks.peers.constants import ANSWER, PASSAGES, QUESTION, TOKENS
from tests.harness.broker import NatsServer

__all__ = ["Contender", "Processes", "Sluice", "check", "fetch", "listening", "wait_answer"]

START_SECONDS = 90.0

PIPELINES = """
pipelines:
  default: [embed, retrieve, generate]
  streamed: [embed, retrieve, {stage: generate, params: {streamed: true}}]
"""


def check(response: Response, streamed: bool) -> None:
    """Raises AssertionError unless this is the whole answer: all sources in their order, and every token."""
    if streamed:
        events = [_parsed(block) for block in response.body.decode().strip().split("\n\n")]
        names = [name for name, _ in events]
        assert names == ["sources", *["delta"] * len(TOKENS), "done"], names
        sources, text = events[0][1]["sources"], "".join(data["text"] for name, data in events if name == "delta")
    else:
        whole = response.json()
        sources, text = whole["sources"], whole["answer"]
    assert text == ANSWER
    assert [source["text"] for source in sources] == [passage["text"] for passage in PASSAGES]
    assert [source["index"] for source in sources] == [1, 2, 3, 4, 5]


def _parsed(block: str) -> tuple[str, Any]:
    """A server-sent event."""
    name, data = block.replace("\r", "").split("\n", 1)
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


class Processes:
    """Processes that live as long as the stack, each the leader of a group that ends with it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._running]

    @property
    def whole(self) -> bool:
        """Whether all of them run."""
        return all(process.poll() is None for process in self._running)

    def start(self, command: list[str], *, fds: tuple[int, ...] = (), **environment: str) -> None:
        log = self._stack.enter_context((self._folder / f"{len(self._running)}.log").open("wb"))
        process = subprocess.Popen(
            command,
            cwd=suite.ROOT,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            pass_fds=fds,
            start_new_session=True,
        )
        self._running.append(process)
        self._stack.callback(_end, process)

    def logs(self) -> str:
        return "\n".join(file.read_text()[-2000:] for file in sorted(self._folder.glob("*.log")))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end, then kill what is left of it and of its descendants, which may have groups of their own."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    with suppress(subprocess.TimeoutExpired, ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in family:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()


def listening() -> socket.socket:
    """A socket on a free port, for a process that is given its file descriptor."""
    bound = socket.create_server(("127.0.0.1", 0), backlog=2048)
    bound.set_inheritable(True)
    return bound


def wait_answer(request: Callable[[], bool], processes: Processes, what: str) -> None:
    """Ask until there is an answer. Raises RuntimeError where a process has ended, or the time is over."""

    def answered() -> bool:
        if not processes.whole:
            raise RuntimeError(f"{what} does not answer:\n{processes.logs()}")
        return request()

    try:
        suite.wait_ready(answered, what, START_SECONDS)
    except TimeoutError:
        raise RuntimeError(f"{what} does not answer:\n{processes.logs()}") from None


def fetch(url: str, body: object) -> bool:
    """POST JSON; whether it went well. Raises OSError where nobody listens."""
    head = {"Content-Type": "application/json"}
    asked = urllib.request.Request(url, json.dumps(body).encode(), head)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as response:
            return int(response.status) < 300
    except urllib.error.HTTPError:
        return False


class Contender(ABC):
    """As a context manager it runs, from the first process on; it is asked at `url`.

    It takes `{"question", "collection", "stream"}` at /v1/query.
    """

    name: str
    label: str
    peer = True
    """Whether it is installed in .venv-peers."""
    levels: tuple[int, ...] | None = None
    """The numbers of clients that it is measured with, where not with all."""

    def __init__(self) -> None:
        self.url = ""
        self.pids: list[int] = []
        """Its processes, without their children."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            processes = Processes(stack, folder)
            self.pids = []
            self._start(stack, processes, folder)
            self.pids += processes.pids
            wait_answer(lambda: fetch(self.url, self._body(0, streamed=False)), processes, self.name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def request(self, number: int, streamed: bool) -> bytes:
        """A question as it goes over the wire."""
        return post(self.url, json.dumps(self._body(number, streamed)).encode())

    def _body(self, number: int, streamed: bool) -> dict[str, Any]:
        return {"question": QUESTION.format(number), "collection": "manuals", "stream": streamed}

    @abstractmethod
    def _start(self, stack: ExitStack, processes: Processes, folder: Path) -> None:
        """Start the processes and set the URL."""


class Sluice(Contender):
    """nats-server, the gateway, and a process for each stage, with the settings that they have by default."""

    name = "sluice"
    label = "Sluice"
    peer = False

    def _start(self, stack: ExitStack, processes: Processes, folder: Path) -> None:
        (folder / "pipelines.yaml").write_text(PIPELINES)
        broker = stack.enter_context(NatsServer(folder / "nats"))
        self.pids.append(broker.pid)
        with listening() as bound:
            self.url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1/query"
            settings = {"SLUICE_NATS_URL": broker.url, "SLUICE_DATA_DIR": str(folder)}
            gateway = {"SLUICE_HTTP_FD": str(bound.fileno()), "SLUICE_PIPELINES": str(folder / "pipelines.yaml")}
            processes.start([sys.executable, "-m", "services.gateway"], fds=(bound.fileno(),), **settings, **gateway)
        for stage in ("embed", "retrieve", "generate"):
            processes.start([sys.executable, "-m", "benchmarks.programs.constant_stages", stage], **settings)
        collections = self.url.replace("query", "collections")
        wait_answer(lambda: fetch(collections, {"name": "manuals"}), processes, "the gateway")

    def _body(self, number: int, streamed: bool) -> dict[str, Any]:
        return super()._body(number, streamed) | {"pipeline": "streamed" if streamed else "default"}
