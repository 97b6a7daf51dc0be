"""The platform as processes: a broker, gateways, stages and job workers, each behind proxies of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from tests.chaos.links import Links, links
from tests.chaos.nodes import Node, nodes
from tests.harness.processes import ServiceProcess

__all__ = ["ADMIN", "Deployment", "Member", "Shape", "running"]

ADMIN: Final = "admin-key-of-the-chaos-0123456789abcdef"
PROGRAM: Final = "tests.chaos.programs.service"
INDEX: Final = "<index>"
"""Stands in settings for the folder of the index, which the retrievers share."""

LIVENESS: Final = 3
"""Failed looks in a row after which a node that says it is ill is started again, as kubelet does."""

SETTINGS: Final[dict[str, object]] = {
    "ack_wait": 2.0,
    "queue_limit": 200,
    "longest_deadline": 60,
    "grace_seconds": 15,
    "log_level": "WARNING",
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many processes there are of what. `split`: each stage is a service of its own."""

    nodes: int = 1
    gateways: int = 2
    stages: int = 2
    jobs: int = 1
    split: bool = True
    real: bool = False
    """The product's own stages and scheduler, with the bundled model and an index."""

    def services(self) -> dict[str, dict[str, object]]:
        """The settings of each service, by its name."""
        made: dict[str, dict[str, object]] = {}
        for n in range(1, self.gateways + 1):
            made[f"gateway-{n}"] = {"chaos_module": "services.gateway", "admin_key": ADMIN}
        groups = {
            "embedder": ("embed", 1),
            "retriever": ("retrieve", self.stages),
            "generator": ("generate", self.stages),
        }
        if not self.split:
            groups = {"worker": ("embed,retrieve,generate", self.stages)}
        for name, (stages, count) in groups.items():
            for n in range(1, count + 1):
                made[f"{name}-{n}"] = {"chaos_module": "tests.chaos.programs.stages", "stages": stages}
        for n in range(1, self.jobs + 1):
            made[f"scheduler-{n}"] = {"chaos_module": "tests.harness.programs.counting_worker"}
        if self.real:
            for name, settings in made.items():
                settings["chaos_module"] = f"services.{name.partition('-')[0]}"
                settings |= {"index_uri": INDEX, "reader_workers": 1, "threads": 1}
        return made


class Member:
    """One service. It is started again whenever it ends, unless a fault keeps it down."""

    def __init__(self, name: str, folder: Path, settings: dict[str, object]) -> None:
        self.name = name
        self.folder = folder
        self.settings = settings
        self.lock = threading.RLock()
        self.held = False
        self.starts = 0
        self._process = self._made()

    @property
    def port(self) -> int:
        return int(self._process.url.rpartition(":")[2])

    @property
    def url(self) -> str:
        return self._process.url

    @property
    def pid(self) -> int | None:
        process = self._process._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self, *, skew: float = 0.0) -> None:
        with self.lock:
            self._process._settings["chaos_clock"] = skew
            self._process.start()
            self.starts += 1
            self.held = False

    def end(self, number: int) -> int | None:
        """Signal it and wait for its end; it stays down until it is started. Returns the exit code."""
        with self.lock:
            self.held = True
            if self.pid is None:
                self.reap()
                return None
            self._process.signal(number)
        return self._process.wait(60)

    def signal(self, number: int) -> None:
        with suppress(AssertionError, ProcessLookupError):
            self._process.signal(number)

    def reap(self) -> int | None:
        """The exit code of a process that has ended by itself."""
        process = self._process._process
        if process is None or process.poll() is None:
            return None
        return self._process.wait()

    def wait_ready(self, timeout: float) -> None:
        self._process.wait_ready(timeout)

    def _made(self) -> ServiceProcess:
        return ServiceProcess(PROGRAM, self.folder, **self.settings)


@dataclass
class Deployment:
    """All that runs. `told` hears of everything that happens to a process without being a fault."""

    nodes: list[Node]
    members: dict[str, Member]
    links: Links
    told: Callable[..., None]
    expected_deaths: set[str] = field(default_factory=set)
    _done: threading.Event = field(default_factory=threading.Event)

    @property
    def gateways(self) -> list[Member]:
        return [member for name, member in self.members.items() if name.startswith("gateway")]

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def watch(self) -> None:
        """Start again what has ended by itself, and nodes that have been ill for a while; until the fleet stops."""
        ill: dict[str, int] = {}
        while not self._done.wait(0.25):
            for member in self.members.values():
                with member.lock:
                    if not member.held and not self._done.is_set() and (code := member.reap()) is not None:
                        self.told("ended by itself", target=member.name, code=code)
                        member.start()
            for node in self.nodes:
                if not node.held:
                    ill[node.name] = ill.get(node.name, 0) + 1 if node.ill else 0
                    if ill[node.name] >= LIVENESS * 4:
                        self.told("node was ill, and is started again", target=node.name)
                        ill[node.name] = 0
                        node.stop()
                        node.start()

    def usage(self) -> dict[str, dict[str, Any]]:
        """Memory (MB) and open files of every process that runs, and when it was started."""
        found = {}
        pids = {name: member.pid for name, member in self.members.items()}
        pids |= {node.name: node.process.pid for node in self.nodes if node.process is not None}
        for name, pid in pids.items():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                found[name] = {
                    "pid": pid,
                    "rss_mb": process.memory_info().rss / 2**20,
                    "files": process.num_fds(),
                    "threads": process.num_threads(),
                }
        return found


@contextmanager
def running(folder: Path, shape: Shape, told: Callable[..., None]) -> Iterator[Deployment]:
    """The whole platform, ready; everything is ended with the block."""
    services = shape.services()
    with ExitStack() as stack:
        broker = stack.enter_context(nodes(folder / "nats", shape.nodes))
        targets = {f"{name}/{node.name}": node.ports["client"] for name in services for node in broker}
        between = stack.enter_context(links(targets))
        members = {}
        for name, own in services.items():
            where = {"nats_url": between.url(name), "instance": name, "replicas": shape.nodes}
            placed = {key: str(value).replace(INDEX, str(folder / "index")) for key, value in own.items()}
            members[name] = Member(name, folder / name, {**SETTINGS, **where, **placed})
        deployment = Deployment(broker, members, between, told)
        stack.callback(_end_all, deployment)
        for member in members.values():
            member.start()
        for member in members.values():
            member.wait_ready(120.0)
        watching = threading.Thread(target=deployment.watch, daemon=True)
        watching.start()
        stack.callback(watching.join, 30)
        stack.callback(deployment._done.set)
        yield deployment


def _end_all(deployment: Deployment) -> None:
    for member in deployment.members.values():
        member.held = True
        process = member._process._process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
    for node in deployment.nodes:
        node.stop()
    time.sleep(0)
