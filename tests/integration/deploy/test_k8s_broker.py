"""The broker of the manifests, as real nats-servers with the configuration that its Pods would have."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import StreamInfo

from shared.contracts.envelope import Lane
from shared.nats.client import connect
from shared.nats.settings import QueueSettings
from shared.nats.subjects import QUERIES, StageQueue
from shared.nats.topology import Topology
from tests.harness.manifests import render
from tests.harness.nats_nodes import NatsNode, admin, nodes
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

QUEUE = StageQueue(stage="embed", variant="default", lane=Lane.INTERACTIVE)
SUBJECT = QUEUE.filter.replace("*", "acme")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nats")


@pytest.fixture(scope="module")
def cluster(certificates: Path) -> Iterator[list[NatsNode]]:
    with nodes(render("base"), certificates) as started:
        yield started


@asynccontextmanager
async def connected(node: NatsNode, folder: Path) -> AsyncIterator[Client]:
    client = await connect(node.url, **admin(folder))
    try:
        yield client
    finally:
        await client.close()


async def topology_on(client: Client) -> None:
    """The topology with three copies, made as a service makes it: again, while the nodes still elect leaders."""
    topology = Topology(client.jetstream(timeout=10), QueueSettings(replicas=3))

    async def made() -> bool:
        try:
            await topology.ensure()
            await topology.ensure_queues([QUEUE])
        except (nats.errors.Error, TimeoutError):
            return False
        return True

    await until(made, "the topology", patience=60)


async def test_three_nodes_keep_three_copies_of_everything(cluster: list[NatsNode], certificates: Path) -> None:
    names = {node.name for node in cluster}
    async with connected(cluster[0], certificates) as client:
        await topology_on(client)
        jetstream = client.jetstream(timeout=10)

        async def copied() -> bool:
            streams = await jetstream.streams_info()
            assert len(streams) > 15
            assert all(stream.config.num_replicas == 3 for stream in streams)
            return all(_copies(stream) == names for stream in streams)

        await until(copied, "that every node has a copy of every stream")


def _copies(stream: StreamInfo) -> set[str | None]:
    """The nodes that have a stream."""
    cluster = stream.cluster
    return {cluster.leader, *(peer.name for peer in cluster.replicas or [])} if cluster else set()


async def test_nobody_gets_in_without_tls_or_without_a_password(cluster: list[NatsNode], certificates: Path) -> None:
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await connect(cluster[0].url, **admin(certificates) | {"password": "guessed", "allow_reconnect": False})
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster[0].ports["client"])
    writer.write(b'CONNECT {"user":"admin","pass":"secret"}\r\nPING\r\n')
    assert b"INFO" not in await reader.read(), "it speaks without TLS"
    writer.close()


async def test_a_lost_node_takes_no_query_with_it(tmp_path: Path) -> None:
    with nodes(render("base"), tmp_path) as started:
        async with connected(started[0], tmp_path) as client:
            await topology_on(client)
            jetstream = client.jetstream(timeout=10)
            await jetstream.publish(SUBJECT, b"waiting")
            cluster = (await jetstream.stream_info(QUERIES)).cluster
        assert cluster is not None
        leader = next(node for node in started if node.name == cluster.leader)
        leader.stop()
        survivor = next(node for node in started if node is not leader)
        async with connected(survivor, tmp_path) as client:
            jetstream = client.jetstream(timeout=1)

            async def waiting() -> bool:
                try:
                    return (await jetstream.stream_info(QUERIES)).state.messages == 1
                except (nats.errors.Error, TimeoutError):
                    return False

            await until(waiting, "that the others have the query")


async def test_the_overlay_for_one_node_starts_one_node(tmp_path: Path) -> None:
    manifests = render("overlays/local")
    copies = int(manifests.settings(manifests.deployment("gateway"))["SLUICE_REPLICAS"])
    with nodes(manifests, tmp_path) as (node,):
        async with connected(node, tmp_path) as client:
            jetstream = client.jetstream(timeout=10)
            await Topology(jetstream, QueueSettings(replicas=copies)).ensure()
            assert (await jetstream.stream_info(QUERIES)).config.num_replicas == 1
