"""What KEDA is told of a queue: by the broker's monitoring port, which its scaler `nats-jetstream` asks, and by the
gateway, which the manifests let it ask instead.

The monitoring port is asked too, so that what docs/kubernetes.md says of it stays true.
"""

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from nats.aio.client import Client

from shared.contracts.envelope import Lane
from shared.nats.client import connect
from shared.nats.subjects import QUERIES, StageQueue
from shared.security.roles import ADMIN
from tests.harness.broker import NatsServer
from tests.harness.keda import JetStreamScaler, Page, Unknown, metrics_api
from tests.harness.manifests import render
from tests.harness.nats_nodes import NatsNode, admin, nodes
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

QUEUE = StageQueue(stage="embed", variant="default", lane=Lane.INTERACTIVE)
SUBJECT = QUEUE.filter.replace("*", "acme")
LOCATION = "embed.default.interactive"
KEY = "admin-key-of-the-tests-0123456789abcdef"


class Gateway(ServiceProcess):
    """A gateway with a port for metrics."""

    def __init__(self, folder: Path, **settings: object) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._metrics = listening.getsockname()[1]
        super().__init__("services.gateway", folder, admin_key=KEY, metrics_port=self._metrics, **settings)

    @property
    def backlog(self) -> str:
        return f"http://127.0.0.1:{self._metrics}/backlog"

    def length(self) -> float:
        """As KEDA reads it. Raises Unknown."""
        return metrics_api(self.backlog, LOCATION)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keda")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[list[NatsNode]]:
    with nodes(render("base"), folder) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(cluster: list[NatsNode], folder: Path) -> Iterator[Gateway]:
    secrets = folder / "secrets"
    broker = {
        "nats_url": cluster[0].url,
        "nats_user": ADMIN,  # it makes all streams, which the scheduler's user does elsewhere
        "nats_password_file": secrets / f"{ADMIN}.password",
        "nats_ca": secrets / "ca.crt",
    }
    with Gateway(folder / "gateway", **broker, replicas=3) as process:
        yield process


@asynccontextmanager
async def connected(node: NatsNode, folder: Path) -> AsyncIterator[Client]:
    client = await connect(node.url, **admin(folder))
    try:
        yield client
    finally:
        await client.close()


def scaler(cluster: list[NatsNode], consumer: str = QUEUE.consumer) -> JetStreamScaler:
    routes = {f"127.0.0.1:{node.ports['cluster']}": node.name for node in cluster}
    asks = {node.name: node.ask for node in cluster}
    return JetStreamScaler(asks, "SLUICE", QUERIES, consumer, lambda route: routes[route])


def reads(gateway: Gateway, length: int) -> Callable[[], Awaitable[bool]]:
    async def right() -> bool:
        try:
            return gateway.length() == length
        except Unknown:  # the broker has not answered the gateway yet
            return False

    return right


def unknown(gateway: Gateway) -> Callable[[], Awaitable[bool]]:
    async def true() -> bool:
        try:
            gateway.length()
        except Unknown:
            return True
        return False

    return true


async def test_followers_do_not_know_what_waits_and_the_gateway_does(
    cluster: list[NatsNode], gateway: Gateway, folder: Path
) -> None:
    async with connected(cluster[0], folder) as client:
        jetstream = client.jetstream(timeout=10)
        await jetstream.purge_stream(QUERIES)
        for number in range(5):
            await jetstream.publish(SUBJECT, str(number).encode())
        await until(reads(gateway, 5), "the gateway says five")
        info = await jetstream.consumer_info(QUERIES, QUEUE.consumer)
    assert info.cluster is not None
    told = {node.name: scaler(cluster).told(node.name)["num_pending"] for node in cluster}
    assert told == {node.name: 5 if node.name == info.cluster.leader else 0 for node in cluster}
    assert [scaler(cluster).length(node.name) for node in cluster] == [5, 5, 5], "KEDA 2.20 looks for the leader"


async def test_a_queue_that_is_missing_in_a_cluster_is_unknown_to_both(
    cluster: list[NatsNode], gateway: Gateway
) -> None:
    missing = scaler(cluster, "embed_legal_interactive")
    for node in cluster:
        with pytest.raises(Unknown, match="leader node not found"):
            missing.length(node.name)
    with pytest.raises(Unknown):
        metrics_api(gateway.backlog, "embed.legal.interactive")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "nats", "-m", "-1") as server:
        yield server


def ask(server: NatsServer) -> Callable[[str], Page]:
    def page(path: str) -> Page:
        with urlopen(server.monitoring + path, timeout=5) as response:
            found: Page = json.load(response)
            return found

    return page


async def test_a_queue_that_is_missing_on_one_node_reads_as_very_long_and_not_from_the_gateway(
    alone: NatsServer, tmp_path: Path
) -> None:
    with Gateway(tmp_path / "gateway", nats_url=alone.url) as gateway:
        client = await connect(alone.url)
        jetstream = client.jetstream(timeout=10)
        await until(reads(gateway, 0), "an empty queue")
        await jetstream.delete_consumer(QUERIES, QUEUE.consumer)
        last = (await jetstream.publish(SUBJECT, b"one")).seq
        assert JetStreamScaler({"nats": ask(alone)}, "$G", QUERIES, QUEUE.consumer).length("nats") == last
        assert last > 10**9, "the stream's numbers begin with the time: KEDA would want the most Pods"
        await until(unknown(gateway), "the gateway does not know the queue")
        await client.close()


async def test_a_broker_that_has_forgotten_its_queues_reads_as_before_and_not_from_the_gateway(
    alone: NatsServer, tmp_path: Path
) -> None:
    trigger = JetStreamScaler({"nats": ask(alone)}, "$G", QUERIES, QUEUE.consumer)
    with Gateway(tmp_path / "gateway", nats_url=alone.url) as gateway:
        client = await connect(alone.url)
        for number in range(7):
            await client.jetstream().publish(SUBJECT, str(number).encode())
        await until(reads(gateway, 7), "seven in the queue")
        assert trigger.length("nats") == 7
        await client.close()
        alone.kill()
        await until(unknown(gateway), "the gateway says that it does not know")
    # Without a gateway nobody makes the queues anew.
    alone.start()
    assert trigger.length("nats") == 7
    with Gateway(tmp_path / "another", nats_url=alone.url) as gateway:
        await until(reads(gateway, 0), "the new queue is empty")
