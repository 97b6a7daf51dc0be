"""The platform on the cluster of KUBECONFIG, by `kubectl`, and the load on it.

Expected: Sluice in the namespace `sluice`, installed as docs/kubernetes.md says, with the collection `default` filled.
"""

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.cluster.load import RATE
from tests.cluster.tools import KUBECTL

__all__ = ["CONFIGURED", "NODE_SHELL", "SERVICES", "Outcomes", "kill_broker", "kubectl", "load", "read", "settled"]

KUBECONFIG: Final = os.environ.get("KUBECONFIG", "")
CONFIGURED: Final = bool(os.environ.get("SLUICE_TEST_OPERATIONS")) and Path(KUBECONFIG.split(os.pathsep)[0]).is_file()
"""Whether there is a cluster whose Sluice may be restarted, stopped and killed: `make cluster` says so."""

NODE_SHELL: Final = os.environ.get("SLUICE_TEST_NODE_SHELL", "")
"""What runs a program on a node, such as `docker exec {node}` for kind; without it no process is killed."""

SERVICES: Final = ("gateway", "embedder", "retriever", "generator", "scheduler")
NAMESPACE: Final = "sluice"
LOAD: Final = Path(__file__).with_name("load.py")

Object = dict[str, Any]


@dataclass(slots=True)
class Outcomes:
    """What became of the queries of a load."""

    counts: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0

    @property
    def failed(self) -> int:
        return self.counts.total() - self.counts["answered"]


def kubectl(*words: str, namespace: str = NAMESPACE, timeout: float = 900) -> str:
    """What a command prints. Raises AssertionError with its error where it fails."""
    command = [str(KUBECTL), "-n", namespace, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def read(kind: str, name: str) -> Object:
    found: Object = json.loads(kubectl("get", kind, name, "-o", "json"))
    return found


def settled() -> None:
    """Wait until everything has rolled out."""
    for service in SERVICES:
        kubectl("rollout", "status", f"deployment/{service}", "--timeout=10m")
    kubectl("rollout", "status", "statefulset/nats", "--timeout=10m")


@contextmanager
def load(seconds: float) -> Iterator[Outcomes]:
    """Send queries meanwhile, from a Pod, for so many seconds at most; at the end the outcomes are known."""
    outcomes = Outcomes()
    name = f"load-{time.time_ns() % 10**9}"
    image = read("deployment", "gateway")["spec"]["template"]["spec"]["containers"][0]["image"]
    key = kubectl("get", "secret", "sluice-gateway-admin", "-o", "jsonpath={.data.admin-key}")
    _start(name, image, key, seconds)
    try:
        _wait(name, "Running")
        yield outcomes
        _wait(name, "Succeeded", "Failed")
        for line in kubectl("logs", name, namespace="default").splitlines():
            told = json.loads(line)
            outcomes.counts[told["outcome"]] += 1
            outcomes.longest = max(outcomes.longest, told["seconds"])
        assert outcomes.counts.total() >= int(seconds * RATE), "the load itself has failed"
    finally:
        kubectl("delete", "pod", name, "--now", "--ignore-not-found", namespace="default")


def _start(name: str, image: str, key: str, seconds: float) -> None:
    program = f"import base64, os; os.environ['KEY'] = base64.b64decode(os.environ['KEY']).decode()\n{LOAD.read_text()}"
    env = {"URL": "http://gateway.sluice.svc", "KEY": key, "SECONDS": str(seconds), "HOME": "/tmp"}
    settings = [f"--env={name}={value}" for name, value in env.items()]
    command = ["--command", "--", "python", "-c", program]
    kubectl("run", name, f"--image={image}", "--restart=Never", *settings, *command, namespace="default")


def _wait(name: str, *phases: str) -> None:
    give_up = time.monotonic() + 900
    while kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}", namespace="default") not in phases:
        assert time.monotonic() < give_up, f"Pod {name} is not {phases}"
        time.sleep(1)


def kill_broker(pod: str) -> None:
    """SIGKILL to the broker of a Pod, from its node: within its container it has the id 1, which no signal kills."""
    node = read("pod", pod)["spec"]["nodeName"]
    container = read("pod", pod)["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    kill = f"kill -9 $(crictl inspect --output go-template --template '{{{{.info.pid}}}}' {container})"
    subprocess.run([*NODE_SHELL.format(node=node).split(), "sh", "-c", kill], check=True, timeout=60)
