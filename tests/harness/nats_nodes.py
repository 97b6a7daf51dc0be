"""Real nats-servers with the configuration that the manifests give to the broker's Pods.

Only what a Pod has and this machine has not is exchanged: paths, ports, and the names of the other nodes.
"""

import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from shared.security.broker_config import write_secrets
from shared.security.roles import ADMIN, Deployment
from tests.harness.broker import BINARY
from tests.harness.manifests import Manifests

__all__ = ["NatsNode", "admin", "nodes"]

PATIENCE: Final = 40.0


class NatsNode:
    """One Pod of the StatefulSet `nats` as a process. `program` is the nats-server that its next start runs."""

    def __init__(
        self,
        folder: Path,
        name: str,
        environment: dict[str, str],
        ports: dict[str, int],
        pre_stop: Sequence[str] = (),
        program: Path = BINARY,
    ) -> None:
        self.name = name
        self.program = program
        self.ports = ports
        self._pre_stop = pre_stop
        self._folder = folder
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"tls://localhost:{self.ports['client']}"

    def start(self) -> None:
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.program, "--config", self._folder / "nats.conf"],
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Until the Pod's startup probe would succeed."""
        give_up = time.monotonic() + PATIENCE
        while not self._healthy():
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "nats.log").read_text()
            assert time.monotonic() < give_up, (self._folder / "nats.log").read_text()
            time.sleep(0.02)

    def ask(self, path: str) -> dict[str, Any]:
        """A page of the monitoring port."""
        with urlopen(f"http://127.0.0.1:{self.ports['monitor']}{path}", timeout=5) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)
            self._process.wait(20)
            self._process = None

    def stop_gently(self) -> None:
        """As the Pod is stopped: its preStop command, SIGTERM, and as long as it takes."""
        assert self._process is not None
        if self._pre_stop:
            subprocess.run([self.program, *self._pre_stop[1:]], check=True, capture_output=True)
        self._process.terminate()
        self._process.wait(120)
        self._process = None

    def give(self, accounts: str) -> None:
        """Bring it a new `accounts.conf`, which it reads when it starts."""
        (self._folder / "accounts.conf").write_text(accounts)

    def reload(self, accounts: str) -> None:
        """Bring it a new `accounts.conf`, and have it read its whole configuration and its certificates anew."""
        before = self.ask("/varz")["config_load_time"]
        self.give(accounts)
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)
        give_up = time.monotonic() + PATIENCE
        while self.ask("/varz")["config_load_time"] == before:
            assert time.monotonic() < give_up, (self._folder / "nats.log").read_text()
            time.sleep(0.02)

    def _healthy(self) -> bool:
        try:
            return self.ask("/healthz")["status"] == "ok"
        except OSError:
            return False


@contextmanager
def nodes(manifests: Manifests, folder: Path, program: Path = BINARY) -> Iterator[list[NatsNode]]:
    """All nodes that the manifests ask for, ready; what `make secrets` makes is in `folder / "secrets"`."""
    statefulset = manifests.get("StatefulSet", "nats")
    (container,) = statefulset["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    environment = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    (source,) = (v for v in statefulset["spec"]["template"]["spec"]["volumes"] if v["name"] == "config")
    names = [entry["configMap"]["name"] for entry in source["projected"]["sources"] if "configMap" in entry]
    write_secrets(folder / "secrets", Deployment(), tls=("localhost", "127.0.0.1"))
    accounts = (folder / "secrets" / "accounts.conf").read_text()
    files = {**manifests.get("ConfigMap", names[0])["data"], "accounts.conf": accounts}
    with ExitStack() as stack, _free_ports(statefulset["spec"]["replicas"], ports) as chosen:
        started = []
        for number, own in enumerate(chosen):
            home = folder / f"nats-{number}"
            home.mkdir()
            for name, text in files.items():
                (home / name).write_text(_at_home(text, home, folder, ports, own, chosen))
            own_environment = {**environment, "POD_NAME": f"nats-{number}"}
            pid_file = str(home / "nats.pid")
            pre_stop = [part.replace("/tmp/nats.pid", pid_file) for part in _pre_stop(container)]
            started.append(NatsNode(home, f"nats-{number}", own_environment, own, pre_stop, program))
        for node in started:
            stack.callback(node.stop)
            node.start()
        for node in started:
            node.wait()
        yield started


def _pre_stop(container: dict[str, Any]) -> list[str]:
    """The command with which the Pod's end begins, if there is one."""
    lifecycle = container.get("lifecycle") or {}
    return list(lifecycle["preStop"]["exec"]["command"]) if "preStop" in lifecycle else []


def _at_home(
    text: str, home: Path, folder: Path, ports: dict[str, int], own: dict[str, int], chosen: list[dict[str, int]]
) -> str:
    for number, other in enumerate(chosen):
        text = text.replace(f"nats-{number}.nats-headless:{ports['cluster']}", f"127.0.0.1:{other['cluster']}")
    for name, port in ports.items():
        text = text.replace(f'"0.0.0.0:{port}"', f'"127.0.0.1:{own[name]}"')
    for path, place in {
        "/etc/nats-tls": folder / "secrets",
        "/data": home / "data",
        "/tmp/nats.pid": home / "nats.pid",
    }.items():
        text = text.replace(f'"{path}', f'"{place}')
    return text


@contextmanager
def _free_ports(replicas: int, ports: dict[str, int]) -> Iterator[list[dict[str, int]]]:
    """Ports that were free a moment ago: nodes must know each other's before they start."""
    with ExitStack() as stack:
        sockets = [{name: stack.enter_context(socket.socket()) for name in ports} for _ in range(replicas)]
        for own in sockets:
            for listening in own.values():
                listening.bind(("127.0.0.1", 0))
        chosen = [{name: listening.getsockname()[1] for name, listening in own.items()} for own in sockets]
    yield chosen


def admin(folder: Path) -> dict[str, Any]:
    """How an operator connects to these nodes."""
    secrets = folder / "secrets"
    return {
        "user": ADMIN,
        "password": (secrets / f"{ADMIN}.password").read_text().strip(),
        "tls": ssl.create_default_context(cafile=secrets / "ca.crt"),
        "tls_handshake_first": True,
    }
