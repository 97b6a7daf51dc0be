"""Operations under load on a real cluster: 6 queries a second, a quarter of them streamed, and none may fail.

The bounds are those that docs/kubernetes.md states.
"""

import subprocess
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.cluster.platform import (
    CONFIGURED,
    NODE_SHELL,
    SERVICES,
    Outcomes,
    kill_broker,
    kubectl,
    load,
    read,
    settled,
)
from tests.harness.paths import ROOT
from tests.harness.platform import eventually

BROKER_PAUSE: Final = 6.0
"""Seconds for the slowest query while one of three broker nodes is replaced."""

DEADLINE: Final = 30.0

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not CONFIGURED, reason="no cluster is named: `make cluster` runs these"),
]

on_the_node = pytest.mark.skipif(not NODE_SHELL, reason="SLUICE_TEST_NODE_SHELL reaches no node")


@pytest.fixture(autouse=True)
def whole() -> Iterator[None]:
    settled()
    yield
    settled()


def nodes() -> int:
    return int(read("statefulset", "nats")["spec"]["replicas"])


@pytest.fixture
def three_nodes() -> None:
    if nodes() < 3:
        pytest.skip("the broker has one node")


@pytest.fixture
def one_node() -> None:
    if nodes() != 1:
        pytest.skip("the broker has three nodes")


def none_failed(outcomes: Outcomes, longest: float = DEADLINE) -> None:
    assert outcomes.failed == 0, outcomes.counts
    assert outcomes.longest <= longest


@pytest.mark.parametrize("service", SERVICES)
def test_a_restart_of_a_service(service: str) -> None:
    with load(120) as outcomes:
        kubectl("rollout", "restart", f"deployment/{service}")
        kubectl("rollout", "status", f"deployment/{service}", "--timeout=10m")
    none_failed(outcomes)


def test_a_restart_of_all_services_at_once() -> None:
    with load(180) as outcomes:
        kubectl("rollout", "restart", *(f"deployment/{service}" for service in SERVICES))
        settled()
    none_failed(outcomes)


def test_an_image_that_does_not_exist_and_its_undo() -> None:
    with load(90) as outcomes:
        kubectl("set", "image", "deployment/retriever", "retriever=no.such.registry/retriever:1")
        time.sleep(30)
        kubectl("rollout", "undo", "deployment/retriever")
        settled()
    none_failed(outcomes)


@pytest.mark.usefixtures("three_nodes")
def test_a_rolling_restart_of_three_broker_nodes() -> None:
    with load(360) as outcomes:
        kubectl("rollout", "restart", "statefulset/nats")
        kubectl("rollout", "status", "statefulset/nats", "--timeout=10m")
    none_failed(outcomes, BROKER_PAUSE)


@pytest.mark.usefixtures("three_nodes")
def test_a_forced_deletion_of_one_of_three_broker_nodes() -> None:
    with load(90) as outcomes:
        kubectl("delete", "pod", "nats-1", "--force", "--grace-period=0")
        settled()
    none_failed(outcomes, BROKER_PAUSE)


@pytest.mark.usefixtures("three_nodes")
@on_the_node
def test_a_kill_of_one_of_three_broker_nodes() -> None:
    with load(90) as outcomes:
        kill_broker("nats-1")
        settled()
    none_failed(outcomes, BROKER_PAUSE)


@pytest.mark.usefixtures("one_node")
def test_a_planned_restart_of_the_only_broker_node() -> None:
    with load(120) as outcomes:
        kubectl("rollout", "restart", "statefulset/nats")
        kubectl("rollout", "status", "statefulset/nats", "--timeout=10m")
    none_failed(outcomes)


@pytest.mark.usefixtures("one_node")
@on_the_node
def test_a_kill_of_the_only_broker_node() -> None:
    with load(90) as outcomes:
        kill_broker("nats-0")
        settled()
    none_failed(outcomes)


def change(*step: str) -> None:
    """One step of a change of secrets, and its way to the cluster."""
    subprocess.run(["make", "secrets", f"BROKER={' '.join(step)}"], cwd=ROOT, check=True, timeout=120)
    kubectl("apply", "-f", str(ROOT / "deploy" / "nats" / "secrets" / "kubernetes.yaml"))


def restart_broker() -> None:
    kubectl("rollout", "restart", "statefulset/nats")
    kubectl("rollout", "status", "statefulset/nats", "--timeout=10m")


def shows(service: str, passwords: int) -> bool:
    """Whether kubelet has brought so many passwords to each Pod of a service."""
    pods = kubectl("get", "pods", "-l", f"app.kubernetes.io/name={service}", "-o", "name").split()
    counts = (kubectl("exec", pod, "--", "grep", "-c", ".", "/etc/sluice/nats/password") for pod in pods)
    return all(int(count) == passwords for count in counts)


def test_a_rotation_of_a_password() -> None:
    with load(540) as outcomes:
        change("--rotate", "retriever")
        eventually(lambda: shows("retriever", 2), "two passwords in each Pod", patience=180)
        change("--switch", "retriever")
        restart_broker()
        change("--retire", "retriever")
    none_failed(outcomes)


def test_a_rotation_of_the_brokers_certificate() -> None:
    with load(360) as outcomes:
        change("--rotate", "certificate")
        restart_broker()
    none_failed(outcomes)


def test_an_embedder_that_is_away_for_twelve_seconds() -> None:
    replicas = read("deployment", "embedder")["spec"]["replicas"]
    with load(120) as outcomes:
        kubectl("scale", "deployment/embedder", "--replicas=0")
        time.sleep(12)
        kubectl("scale", "deployment/embedder", f"--replicas={replicas}")
        settled()
    none_failed(outcomes)
